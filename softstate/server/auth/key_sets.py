"""Key sets, fetched from their issuers: https, no redirect, no proxy, 5 s and 256 KiB at most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from softstate.auth.policy_file import KeySource
from softstate.auth.urls import check_url
from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import ExchangeFailed, Request
from softstate.http_client.streams import STREAM_ERRORS, OpenStream, open_tcp, reason

if TYPE_CHECKING:
    from softstate.auth.signature import PublicKey

FETCH_S = 5.0
"""Time for one fetch of a set of keys, the connection and a document that tells its URL included."""

DOCUMENT_BYTES_MAX = 256 * 1024
"""Longest set of keys."""


class FetchFailed(Exception):
    """A set of keys could not be fetched; the message says why."""


async def fetch_keys(
    issuer: str, source: KeySource, open_stream: OpenStream = open_tcp
) -> tuple[list[PublicKey], list[str]]:
    """Fetch the keys of an issuer; return those that can be used, and what is wrong with others. Raises `FetchFailed`.

    A set without one usable key counts as none: it must not take the place of one that has some.
    """
    from softstate.auth.signature import BadKey, import_key_set  # noqa: PLC0415 - it imports joserfc

    with trio.move_on_after(FETCH_S):
        url = source.at
        if source.kind == "discovery":
            url = _keys_url(issuer, url, await _get(url, open_stream))
        data = await _get(url, open_stream)
        try:
            keys, problems = import_key_set(data, source.algorithms, fetched=True)
        except BadKey as error:
            raise FetchFailed(f"{url}: {error}") from None
        if not keys:
            raise FetchFailed(f"{url} has no key that can be used: {'; '.join(problems) or 'it is empty'}")
        return keys, problems
    raise FetchFailed(f"{source.at} does not answer within {FETCH_S:g} s")


async def _get(url: str, open_stream: OpenStream) -> bytes:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = Request("GET", parts.netloc, target, (("Accept", "application/json"), ("Connection", "close")))
    try:
        stream = await open_stream(host, parts.port or (443 if tls else 80), tls)
    except STREAM_ERRORS as error:
        raise FetchFailed(f"{url} cannot be reached: {reason(error)}") from None
    connection = HttpConnection(stream, url)
    try:
        response = await connection.request(request, DOCUMENT_BYTES_MAX)
    except ExchangeFailed as error:
        raise FetchFailed(f"{url}: {error}") from None
    finally:
        await connection.aclose()
    if response.status != 200:
        also = ": redirects are not followed" if 300 <= response.status < 400 else ""
        raise FetchFailed(f"{url} answers with status {response.status}{also}")
    return response.body


def _keys_url(issuer: str, url: str, data: bytes) -> str:
    """Return where a discovery document says that the keys are, if it is this issuer's own."""
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise FetchFailed(f"{url} is not the document of issuer {issuer!r}")
    found = document.get("jwks_uri")
    try:
        return check_url(found if isinstance(found, str) else "")
    except ValueError as error:
        raise FetchFailed(f"{url}: its 'jwks_uri' cannot be used: {error}") from None
