"""The store in Redis or Valkey: `softstate.store.redis.store`; `lua` has the part that runs in the server."""
