"""PostgreSQL as the truth: `softstate.store.postgres.store` has the store, ``schema.sql`` what runs in the server."""
