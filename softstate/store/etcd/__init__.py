"""etcd as the truth: `softstate.store.etcd.store` has the store."""
