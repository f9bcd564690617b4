"""The store in etcd: `softstate.store.etcd.store`."""
