"""A gateway that turns revoked sessions away, and lets nobody in while it cannot know which those are.

Sessions are signed tokens, say, which every gateway checks by itself (that is not shown); softstate tells which of them
were revoked before their time. To ask costs no I/O. While no node can be reached the age of the answer grows, and above
`MAX_AGE_S` every request gets 503: it fails closed.

Run it beside a node (``softstate serve``): ``python -m softstate.examples.revocation``. Then::

    curl -H 'Session: s1' localhost:8701                          # welcome
    softstate publish sessions/revoked/s1 '"laptop was stolen"'
    curl -H 'Session: s1' localhost:8701                          # 401, on every gateway
"""

import os
from collections.abc import Iterable
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")
PORT = int(os.environ.get("PORT", "8701"))
REVOKED = "sessions/revoked/"
MAX_AGE_S = 2.0
"""A node tells once a second that it is up to date: one message may be late without a 503."""

soft = softstate.sync.connect(URL)


def revoked(session: str) -> bool:
    """Tell whether a session was revoked.

    Raises `softstate.Stale` if that may have changed in the last `MAX_AGE_S` seconds or more, and `softstate.Invalid`
    for what can be no session.
    """
    soft.follow(REVOKED)
    return soft.known(REVOKED + session, max_age=MAX_AGE_S) is not None


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request that names its session in the header ``Session``."""
    try:
        if revoked(environ.get("HTTP_SESSION", "")):
            status, text = "401 Unauthorized", "this session was revoked: sign in again"
        else:
            status, text = "200 OK", "welcome"
    except softstate.Invalid:
        status, text = "401 Unauthorized", "this is no session: sign in"
    except softstate.Stale as stale:
        status, text = "503 Service Unavailable", f"try again in a moment: {stale}"
    start_response(status, [("Content-Type", "text/plain")])
    return [f"{text}\n".encode()]


if __name__ == "__main__":
    with make_server("127.0.0.1", PORT, application) as server:
        server.serve_forever()
