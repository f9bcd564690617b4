"""``softstate list``: print every topic below a prefix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from softstate.cli import exit_codes
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, AsJson, Timeout, Urls, connected
from softstate.cli.options.plain import goes_plainly, read
from softstate.cli.terminal.hints import no_patterns, show_hint
from softstate.cli.terminal.values import change_fields, json_text, line_text, unreadable_text
from softstate.cli.visible import visible
from softstate.errors import Invalid
from softstate.names import ALL, check_prefix

if TYPE_CHECKING:
    from softstate.client.requests.reading import Listing


def command(
    prefix: str = ALL,
    /,
    *,
    json: AsJson = False,
    url: Urls = (DEFAULT_URL,),
    credentials: Presented = NO_CREDENTIALS,
    timeout: Timeout = 5.0,
) -> int:
    """Print every topic below a prefix, sorted, one a line: topic, version and value, with tabs between them.

    Topics whose stored records are damaged are left out, and named on stderr.

    :param prefix: A topic followed by '/', such as orders/; '/' alone is everything.
    :param json: One object a line: {"topic":…,"version":…,"value":…}.
    """
    try:
        check_prefix(prefix)
    except Invalid as error:
        raise Invalid("; ".join(filter(None, (error.message, no_patterns(prefix))))) from None
    if goes_plainly(url, credentials):
        changes = read(url, credentials, timeout, lambda reading: reading.listing(prefix, timeout))
    else:
        changes = _by_client(prefix, url, credentials, timeout)
    if not changes and not changes.unreadable:
        show_hint(no_patterns(prefix))
    if changes.unreadable:
        print(f"softstate: left out, {unreadable_text(changes.unreadable)}.", file=sys.stderr, flush=True)
    for change in changes:
        if json:
            line = line_text(change_fields(change))
        else:
            line = f"{visible(change.topic)}\t{change.version}\t{json_text(change.value)}"
        sys.stdout.write(line + "\n")
    return exit_codes.OK


def _by_client(prefix: str, urls: Sequence[str], credentials: Presented, timeout_s: float) -> Listing:
    """Read by a whole client: through TLS, or with a file of tokens."""
    import trio  # noqa: PLC0415 - it is half of the start of a command

    async def main() -> Listing:
        async with connected(urls, credentials, push=False) as client:
            return await client.list(prefix, timeout_s=timeout_s)

    return trio.run(main)
