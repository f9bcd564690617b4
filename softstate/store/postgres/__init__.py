"""The store in PostgreSQL: `softstate.store.postgres.store`; ``schema.sql`` has the part that runs in the server."""
