"""SQLite as the truth, and the default: `softstate.store.sqlite.store` has the store."""
