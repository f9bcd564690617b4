"""Exit codes of ``softstate``, and the error that ends in each."""

from __future__ import annotations

from softstate.errors import (
    ClientClosed,
    ConfigError,
    Conflict,
    Denied,
    Invalid,
    KeyReused,
    NodeFailed,
    NotFound,
    OutcomeUnknown,
    SoftstateError,
    StoreRefused,
    TooLarge,
    Unauthenticated,
    Unsupported,
)

OK = 0
BROKEN = 1
"""A promise was broken or a check failed (`demo`, `drill`, `store check`), or records could not be read (`store copy`,
`backup`, `restore`); also what Python ends with after a bug."""
USAGE = 2
"""The request breaks a rule: a flag, a setting, a topic, a value, a line of a file.

Repeating it does not help. A port in use counts too: choose another.
"""
NOT_FOUND = 3
"""There is no such topic."""
CONFLICT = 4
"""A compare-and-set lost."""
UNAVAILABLE = 5
"""No node answered in time, or the store cannot be used now. Repeating it may help."""
UNKNOWN = 6
"""A publish may or may not have been applied."""
DENIED = 7
"""Credentials are missing, or do not allow this."""
OUTPUT = 8
"""Standard output did not take what the command printed (a full disk); what it did stays done."""
REFUSED = 9
"""A node refused a publish for now (overloaded, store down): nothing was published. Repeating it may help."""
FAILED = 70
"""A node ended because of errors that nobody foresaw (EX_SOFTWARE of sysexits.h): start it again."""
INTERRUPTED = 130
"""Ctrl-C; or SIGTERM, or a terminal that went away, to a command that had to clean up."""
EPILOGUE = """\
Exit codes: 0 done; 1 a promise was broken or a check failed; 2 the request breaks a rule; 3 no such topic; \
4 compare-and-set lost; 5 no node answered in time, the store is down, or the topic's record is damaged; \
6 a publish's outcome is unknown; 7 not allowed; 8 the output could not be written; \
9 a publish was refused for now, nothing was published; \
70 a node met errors of its own and ended; 130 Ctrl-C."""


class Failure(SoftstateError):
    """A command failed; `code` is its exit code, and the message says what to do next."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


_FOR: tuple[tuple[type[SoftstateError], int], ...] = (
    (NotFound, NOT_FOUND),
    (Conflict, CONFLICT),
    (OutcomeUnknown, UNKNOWN),
    (Denied, DENIED),
    (Unauthenticated, DENIED),
    (Invalid, USAGE),
    (TooLarge, USAGE),
    (Unsupported, USAGE),
    (KeyReused, USAGE),
    (ConfigError, USAGE),
    (StoreRefused, USAGE),
    (ClientClosed, UNAVAILABLE),
    (NodeFailed, FAILED),
)


_NO_BUGS = (SoftstateError, BrokenPipeError)


def leaf(error: BaseException) -> BaseException:
    """Unwrap the groups that nurseries put around a single error, a Ctrl-C, or errors that are all no bugs: the first.

    Several tasks may fail for one reason in the same moment, as when all workers of a drill are killed. A reader that
    has left goes before errors that came of ending because of that.
    """
    while isinstance(error, BaseExceptionGroup):
        chosen: BaseExceptionGroup[BaseException] | None = error.subgroup(KeyboardInterrupt)
        if chosen is None and error.split(_NO_BUGS)[1] is None:
            chosen = error.subgroup(BrokenPipeError) or error
        if chosen is None and len(error.exceptions) != 1:
            return error
        error = (chosen or error).exceptions[0]
    return error


def exit_code_of(error: SoftstateError) -> int:
    """Return the exit code for an error; all that are not listed are passing conditions of a node: `UNAVAILABLE`."""
    if isinstance(error, Failure):
        return error.code
    return next((code for kind, code in _FOR if isinstance(error, kind)), UNAVAILABLE)
