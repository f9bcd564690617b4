"""The command line: one file per command, imported only when that command runs.

Every command is an async function run by Trio; what it returns is the exit code. Errors become one line on stderr
and an exit code here, in one place, so that no command prints a traceback for something that is not a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from cyclopts import App
from cyclopts.exceptions import CycloptsError, UnusedCliTokensError

from softstate.cli import exit_codes
from softstate.cli.exit_codes import Failure
from softstate.cli.terminal.streams import guard_streams
from softstate.cli.visible import visible
from softstate.errors import SoftstateError, Unauthenticated

COMMANDS = (
    "serve", "publish", "delete", "get", "list", "watch", "status", "top", "explain", "store", "token", "revoke",
    "demo", "drill", "completion", "version", "help",
)  # fmt: skip
"""Every command. `softstate.cli.commands.NAME` holds what runs it, called `command`; ``list`` is in `list_`, and
``completion`` here."""

GROUPS = frozenset({"store", "token", "revoke"})
"""Commands that have commands of their own."""

_AVAILABLE = "Available commands: "

_ELSEWHERE = {
    "--port": "--listen {host}:{port}",
    "--host": "--listen {host}:{port}",
    "--delete": "softstate delete TOPIC",
}
"""Options that people try, and what there is instead."""


def build(tokens: Sequence[str] = ()) -> App:
    """Return the app with every command registered; commands are imported only if `tokens` ask for the list of them."""
    app = App(
        name="softstate",
        help="A notification server you may kill at any moment, whose clients know how old their knowledge can be.",
        help_epilogue=exit_codes.EPILOGUE,
        backend="trio",
        suppress_keyboard_interrupt=False,
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    for order, name in enumerate(COMMANDS):
        if name == "completion":
            app.command(_completion_of(app), name=name, sort_key=order)
            continue
        module = "list_" if name == "list" else name
        app.command(f"softstate.cli.commands.{module}:command", name=name, sort_key=order)
    if not tokens or tokens[0] in ("--help", "-h"):
        _describe(app, COMMANDS)
    elif tokens[0] in GROUPS and (len(tokens) == 1 or tokens[1] in ("--help", "-h")):
        group = app[tokens[0]]
        _describe(group, [name for name in group if not name.startswith("-")])
    return app


def _completion_of(app: App) -> Callable[[Literal["bash", "zsh", "fish"]], Awaitable[int]]:
    """Return the one command that needs to know all others."""

    async def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
        """Print a script by which a shell completes commands and options: source <(softstate completion bash).

        :param shell: bash, zsh (to be written to a file _softstate in a folder of $fpath), or fish.
        """
        print(app.generate_completion(prog_name="softstate", shell=shell))
        return exit_codes.OK

    return completion


def _describe(app: App, names: Iterable[str]) -> None:
    """Import commands, since the list of commands shows the first line of each one's help."""
    for name in names:
        app[name]


def run(tokens: Sequence[str]) -> int:
    """Run one command and return its exit code, after printing any error as one line on stderr."""
    try:
        code = build(tokens)(list(tokens))
    except BaseException as raised:
        error = exit_codes.leaf(raised)
        if isinstance(error, KeyboardInterrupt):
            return exit_codes.INTERRUPTED
        if isinstance(error, BrokenPipeError) or _tells_that_the_reader_left(error):
            _discard_output()
            return exit_codes.OK
        if isinstance(error, CycloptsError):
            return _complain(_tidy(error, tokens), exit_codes.USAGE)
        if isinstance(error, SoftstateError):
            code = exit_codes.exit_code_of(error)
            if code == exit_codes.OUTPUT:
                _discard_output()
            return _complain(str(error) + _next_step(error), code)
        raise
    return code if isinstance(code, int) else exit_codes.OK


def _next_step(error: SoftstateError) -> str:
    """Say what to do about an error of which neither a node nor a client can know that a command met it."""
    if isinstance(error, Unauthenticated) and error.why == "missing":
        return " (--token-file FILE, or SOFTSTATE_TOKEN)"
    if error.__cause__ is not None:
        from softstate.client.requests.reply import HttpFailed  # noqa: PLC0415 - --help does without

        cause = error.__cause__
        if isinstance(cause, HttpFailed) and cause.unsent and cause.error is None:
            return ". Is a node running there (softstate serve)? Name another with --url"
    return ""


def _tells_that_the_reader_left(error: BaseException) -> bool:
    """Tell whether rich, which writes help texts, ends the process because of a broken pipe: with exit code 1."""
    return isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)


def main() -> None:
    """Run the command in `sys.argv` and leave the process with its exit code."""
    guard_streams()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except Failure as failure:
        _discard_output()
        code = _complain(str(failure), code or failure.code)
    sys.exit(code)


def _tidy(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Say what is wrong with the command line, and where its help is, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, UnusedCliTokensError):
        text = f"There is no place for {' '.join(map(repr, error.unused_tokens or ()))}: it takes fewer words"
    # The list that comes with an unknown command ends after eight.
    text, available, _ = text.partition(_AVAILABLE)
    if available:
        text += available + ", ".join(_commands(tokens))
    for option, instead in _ELSEWHERE.items():
        if f'"{option}"' in text or f" {option}." in text:
            host, port = (_value_of(each, tokens) or each.lstrip("-").upper() for each in ("--host", "--port"))
            host = f"[{host}]" if ":" in host and host[0] != "[" else host
            text = f"There is no {option}: use {instead.format(host=host, port=port)}"
    while text.endswith((".", "?")):
        text = text[:-1]
    words = list(tokens[:1]) if tokens and tokens[0] in COMMANDS else []
    if words and words[0] in GROUPS:
        words += [word for word in tokens[1:2] if word in _commands(tokens)]
    return f"{text} (see: {' '.join(['softstate', *words, '--help'])})"


def _value_of(option: str, tokens: Sequence[str]) -> str | None:
    """Return the value that a command line gives an option, None if it gives none."""
    for at, token in enumerate(tokens):
        if token.startswith(f"{option}="):
            return token.partition("=")[2]
        if token == option and at + 1 < len(tokens):
            return tokens[at + 1]
    return None


def _commands(tokens: Sequence[str]) -> Sequence[str]:
    """Return the commands among which the words of `tokens` choose."""
    match tokens[:1]:
        case ["store"]:
            from softstate.cli.commands import store  # noqa: PLC0415 - as every command

            return store.COMMANDS
        case ["token"]:
            from softstate.cli.commands import token  # noqa: PLC0415 - as every command

            return token.COMMANDS
        case ["revoke"]:
            from softstate.cli.commands import revoke  # noqa: PLC0415 - as every command

            return revoke.COMMANDS
    return COMMANDS


def _complain(message: str, code: int) -> int:
    text = visible(message)
    print(f"softstate: {text if text.endswith('?') else text.rstrip('. ') + '.'}", file=sys.stderr)
    return code


def _discard_output() -> None:
    """Discard further output, and what is buffered: it cannot be written, or the process that read it has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
