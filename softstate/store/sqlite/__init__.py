"""The store in an SQLite file, the default: `softstate.store.sqlite.store`."""
