"""The one place where errors of etcd and its JSON gateway become softstate's."""

from __future__ import annotations

import msgspec

from softstate.errors import StoreRefused, Unavailable
from softstate.store.etcd.messages import TXN_OPS_MAX, Failure

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of bytes that are not the JSON expected; the last is of what is nested too deep, wanted or not."""

MESSAGE_BYTES_MAX = 500
"""How much of etcd's own error text is repeated in ours."""

_REFUSED = {
    "etcdserver: authentication failed": "etcd refused the user name or the password: correct them in the store URL",
    "etcdserver: user name is empty": "etcd wants credentials: name the store etcd://user:password@…",
    "etcdserver: permission denied": "etcd does not allow this user to read and write below the namespace:"
    " grant it that with `etcdctl role grant-permission ROLE --prefix=true readwrite NAMESPACE/`",
    "etcdserver: too many operations": f"etcd's --max-txn-ops is below its default of {TXN_OPS_MAX}: raise it again",
}
_UNAVAILABLE = {
    "etcdserver: mvcc: database space exceeded": "etcd is out of space and refuses to write (alarm NOSPACE): compact"
    " its history, run `etcdctl defrag`, raise --quota-backend-bytes if needed, then `etcdctl alarm disarm`",
    "etcdserver: corrupt cluster": "etcd's members disagree about the data (alarm CORRUPT): replace the damaged member",
    "etcdserver: request is too large": "etcd's --max-request-bytes is below its default of 1.5 MiB: raise it again",
}
_GONE = (
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
)
_TOKEN_EXPIRED = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")
_NO_AUTH = "etcdserver: authentication is not enabled"


class SnapshotGone(Exception):
    """The snapshot that is being read from is gone: etcd has compacted its history, or was restored. Begin again."""


class TokenExpired(Unavailable):
    """etcd does not know the token any more, as after a restart: ask for another."""


class NoAuthentication(Unavailable):
    """etcd was asked for a token, and has no authentication turned on."""


def failure_in(answer: bytes, status: int, *, where: str, name: str) -> Exception:
    """Return the error to raise for an answer whose HTTP status is not 200; see `failure`."""
    try:
        found = msgspec.json.decode(answer, type=Failure)
    except NOT_JSON:
        text = answer.decode(errors="replace")[:MESSAGE_BYTES_MAX].strip()
        return Unavailable(f"{where} does not answer as etcd's gateway does: HTTP status {status}, {text!r}")
    return failure(found.message or found.error, where=where, name=name)


def failure(message: str, *, where: str, name: str) -> Exception:
    """Return the error to raise for an error message of etcd. `where` is the endpoint, `name` the store."""
    if message.startswith(_GONE):
        return SnapshotGone(message)
    if message.startswith(_TOKEN_EXPIRED):
        return TokenExpired(f"{name}: etcd does not know the token that it gave: a new one will be asked for")
    for begin, advice in _REFUSED.items():
        if message.startswith(begin):
            return StoreRefused(f"{name}: {advice}")
    for begin, advice in _UNAVAILABLE.items():
        if message.startswith(begin):
            return Unavailable(f"{name}: {advice}")
    kind = NoAuthentication if _NO_AUTH in message else Unavailable
    return kind(f"etcd at {where} cannot serve: {message[:MESSAGE_BYTES_MAX]}")
