"""Redis or Valkey as the truth: `softstate.store.redis.store` has the store, `lua` what runs in the server."""
