"""The one place where Redis's errors become softstate's.

Redis names an error by its first word. The driver has classes for some of these words, and then drops the word from the
message; so both are looked up here.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import BrokenResourceError, EndOfStream
from coredis import exceptions
from coredis.exceptions import RedisError

from softstate.errors import StoreMissing, StoreRefused, StoreRewound, Unavailable
from softstate.store.rules.dump import published_to

_FOREVER = {
    "WRONGPASS": "the user name or password is wrong: correct them in the store URL, password_file or password_env",
    "NOAUTH": "it wants a password: give one in the store URL, as password_file or as password_env",
    "NOPERM": "this user may not do that: grant it ~{NAMESPACE}:* ~NAMESPACE &{NAMESPACE}:* +@all -@admin +function",
    "WRONGTYPE": "keys of this namespace belong to another program: choose another ?namespace=",
    "FOREIGN": "keys of this namespace belong to another program: choose another ?namespace=",
    "BROKEN": "restore a backup, and set maxmemory-policy to noeviction",
    "OLDLAYOUT": "open it with `softstate serve` once, which carries it over",
    "NEWLAYOUT": "install the softstate that wrote it, or choose another ?namespace=",
    "MOVED": "this is one node of a cluster: name the node that has the slot of the namespace",
    "CROSSSLOT": "this is one node of a cluster: name the node that has the slot of the namespace",
    "NOPROTO": "softstate needs Redis 7 or newer, or Valkey",
    "UNKNOWN": "softstate needs Redis 7 or newer, or Valkey, with functions",
    "REPLICA": "connect to the primary",
    "READONLY": "connect to the primary",
}
"""First words of errors that waiting does not mend, with advice. They refuse a store that is being opened."""

OLD_LAYOUT = "OLDLAYOUT"
NO_STORE = "NOSTORE"
TAKES_NO_WRITES = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
"""First words of errors with which a server refuses to write and answers reads."""
NO_PRIMARY = frozenset({"READONLY", "REPLICA", "MASTERDOWN"})
"""First words of errors of a server that is not the primary, or not any more: its name may lead to another by now."""

_PASSING = {
    "OOM": "its memory is full (maxmemory): raise the limit, or make room",
    "MISCONF": "it cannot write to its disk: make room there, and look at its log",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write): bring them back",
    "LOADING": "it is loading its data: wait",
    "MASTERDOWN": "this server is a replica without its primary: connect to the primary",
    "BUSY": "a script of another program runs for too long: SCRIPT KILL or FUNCTION KILL ends it",
    "CLUSTERDOWN": "the cluster is down: look at CLUSTER INFO",
    "TRYAGAIN": "the cluster moves slots: wait",
    "TAKENOVER": "only one program can adopt a store at a time: repeat it when the other is done",
}
"""The same for errors that may pass."""

_WORDS: dict[type[RedisError], str] = {
    exceptions.AuthenticationFailureError: "WRONGPASS",
    exceptions.AuthenticationRequiredError: "NOAUTH",
    exceptions.AuthorizationError: "NOPERM",
    exceptions.WrongTypeError: "WRONGTYPE",
    exceptions.MovedError: "MOVED",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ProtocolError: "NOPROTO",
    exceptions.UnknownCommandError: "UNKNOWN",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.TryAgainError: "TRYAGAIN",
}

FAULTS = (RedisError, OSError, BrokenResourceError, EndOfStream)
"""The driver's exceptions: errors of Redis, its own, and those of a connection being made."""

LOST = "see whether it runs, and whether the network reaches it"


@contextmanager
def explained(name: str, *, opening: bool = False) -> Iterator[None]:
    """Turn the driver's errors into `Unavailable`, `StoreRewound`, or `StoreRefused` where waiting does not help.

    While a store is in use, it may be the server that is wrong for a moment (a replica, a password being changed), so
    all but a newer layout is `Unavailable` unless `opening`.
    """
    try:
        yield
    except FAULTS as error:
        raise explain(error, name, opening=opening) from error


def word_of(error: Exception) -> str:
    """Return the word by which Redis names an error, empty for an error that is no answer of Redis."""
    for kind, word in _WORDS.items():
        if isinstance(error, kind):
            return word
    return str(error).partition(" ")[0] if isinstance(error, exceptions.ResponseError) else ""


def explain(error: Exception, name: str, *, opening: bool) -> Unavailable | StoreRefused | StoreRewound:
    """Return the error to raise for one of the driver's."""
    word, said = word_of(error), str(error)
    if word == NO_STORE:
        return StoreRewound(f"{name}: the store that was open is gone, the server was wiped: reopen it")
    if word == "NOTEMPTY":
        return published_to(name)
    if word in _FOREVER:
        fault = StoreRefused if opening or word == "NEWLAYOUT" else Unavailable
        return fault(f"{name}: {said}: {_FOREVER[word]}")
    if word in _PASSING:
        return Unavailable(f"{name}: {said}: {_PASSING[word]}")
    untrusted = _find(error, ssl.SSLCertVerificationError)
    if untrusted is not None:
        fault = StoreRefused if opening else Unavailable
        return fault(f"{name}: {untrusted}: give the authority's certificate as ?cacert=FILE, or use the host's name")
    if isinstance(error, exceptions.ResponseError):
        return Unavailable(f"{name}: {said}: unexpected, please report this")
    return Unavailable(f"{name}: {_find(error, OSError) or said or type(error).__name__}: {LOST}")


def missing(name: str) -> StoreMissing:
    """Return the error for a namespace without a store, where none may be made."""
    return StoreMissing(f"{name} holds no store: name another namespace, or make one with softstate store create")


def _find(error: BaseException, kind: type[Exception]) -> BaseException | None:
    """Return the error of a kind that another was raised from, at any depth."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kind):
        if isinstance(seen, BaseExceptionGroup):
            found = (_find(member, kind) for member in seen.exceptions)
            return next((member for member in found if member is not None), None)
        seen = seen.__cause__ or seen.__context__
    return seen
