"""A small HTTP/1.1 client on h11: requests of the softstate client to nodes, and of the etcd store to etcd.

It runs under Trio and asyncio.

`exchange` is HTTP without I/O, `connection` moves its bytes over one stream, `pool` keeps connections for the next
request, `streams` opens them. It stands on h11 and has no pool that replaces a broken connection by itself, because
both users must know *which* connection a request goes over: the client sends a request again only if a kept connection
ended before it answered anything, and a write to etcd relies on a TCP connection ending in one etcd process.
"""
