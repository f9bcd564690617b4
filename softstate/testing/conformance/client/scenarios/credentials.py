"""Credentials: tokens fetched in time, refused, presented in place; the end of a client that gets none (P-CLI-19)."""

from __future__ import annotations

from softstate.client.machine.credentials import REFUSED_MAX
from softstate.client.machine.events import Closed, Connected, FetchToken, Jumped, TokenFailed, TokenRefused
from softstate.errors import Denied, Unauthenticated, Unavailable
from softstate.model import Mode
from softstate.testing.conformance.client.script import Scenarios, Script, set_to
from softstate.wire.messages import Auth, Authenticated, Error, Publish, Published, Renew, Revoked, Subscribe

scenario = Scenarios("credentials")

HOUR_MS = 3_600_000
GIVEN = "t"
RUNNING: tuple[Mode, ...] = ("connecting", "syncing", "live", "suspect", "polling", "offline")


def no(why: str = "signature") -> Unauthenticated:
    """Return the refusal of a token."""
    return Unauthenticated("not good", why=why)


def until_fetch(script: Script) -> FetchToken:
    """Let time pass, with polls and renewals answered, until another token is fetched."""
    before = len(script.all(FetchToken))
    while len(script.all(FetchToken)) == before:
        renewals = len(script.sent(Renew))
        if script.polling:
            script.do(script.polled())
        else:
            script.tick()
        if len(script.sent(Renew)) > renewals:
            script.arrive(script.renewed())
    return script.all(FetchToken)[-1]


def until_fetching(script: Script) -> None:
    """Let time pass until a token is being fetched, if none is."""
    if not script.machine.describe().fetching:
        until_fetch(script)


def fail(script: Script, *, final: bool = False) -> None:
    """Have the newest fetch of a token fail."""
    error = Denied("signed out") if final else Unavailable("the provider failed")
    script.do(TokenFailed(script.all(FetchToken)[-1].number, error, final))


def begun(script: Script) -> Script:
    """Open the client, and give it its first token."""
    script.open().do(script.token("t1"))
    return script


@scenario("first", "Nothing begins before there is a token; a fetch that fails is made again.", "a", provider=True)
def _first(script: Script) -> None:
    script.open().advance(10.0)
    script.do(script.publish(1))
    for _ in range(3):
        fail(script)
        until_fetch(script)
    script.do(script.token("t1"))
    script.live(credentials_ms=HOUR_MS)
    script.look()


@scenario(
    "first-poll",
    "A client that only polls waits for its token as well; polls tell when it ends.",
    "a",
    push=False,
    provider=True,
)
def _first_poll(script: Script) -> None:
    begun(script).do(script.polled(set_to("a", 5), next_ms=10_000_000, credentials_ms=10_000))
    until_fetch(script)
    fail(script)
    until_fetch(script)
    script.do(script.token("t2"))
    script.advance(1.0)


@scenario(
    "ended",
    "A token that a node has taken is refused to a later poll: another is fetched at once.",
    "a",
    push=False,
    provider=True,
)
def _ended(script: Script) -> None:
    begun(script).do(script.polled(credentials_ms=HOUR_MS))
    script.tick()
    script.do(script.poll_failed(no("expired")))
    script.do(script.token("t2"))
    script.do(script.polled())


@scenario(
    "in-time",
    "A token is fetched well before it ends, and presented in place.",
    "a",
    provider=True,
    clauses="P-AUTH-6 S17",
)
def _in_time(script: Script) -> None:
    begun(script).live(credentials_ms=60_000)
    until_fetch(script)
    script.do(script.token("t2"))
    script.arrive(Authenticated(script.sent(Auth)[-1].id, 60_000, "u1"), Authenticated("auth-99", 60_000))
    script.expect("live")
    script.renewing().arrive(script.renewed(credentials_ms=round((script.now - 1_040.0) * 1000)))
    until_fetch(script)
    script.do(script.token("t2"))  # still the same
    script.expect("live")


@scenario(
    "lease-ends-with-them", "No lease is taken to go beyond the credentials.", "a", provider=True, clauses="S6 P-AUTH-3"
)
def _lease(script: Script) -> None:
    begun(script).live(credentials_ms=8_000).advance(9.0)
    script.expect("polling")
    script.answer_poll()


@scenario("due-while-offline", "The end comes near while offline.", "a", provider=True)
def _due_offline(script: Script) -> None:
    begun(script).live(credentials_ms=50_000).do(script.lost())
    while len(script.all(FetchToken)) < 2:
        if script.connected or script.polling:
            script.fail_next()
        else:
            script.tick()
    script.expect("offline")
    script.do(script.token("t2"))
    script.fail_next()


@scenario(
    "due-while-syncing",
    "The end comes near while names are subscribed, and while the connection is suspect.",
    "a",
    provider=True,
)
def _due_syncing(script: Script) -> None:
    begun(script).syncing(credentials_ms=2_000).advance(0.9)
    script.expect("syncing")
    script.do(script.token("t2"))
    script.arrive(Authenticated(script.sent(Auth)[-1].id, 5_000), script.subscribed())
    script.expect("live")
    script.do(Jumped())
    script.do(script.polled())
    script.advance(3.4)
    script.expect("suspect")
    script.do(script.token("t3"))


@scenario(
    "due-while-connecting", "The end comes near before the first welcome: a poll has told it.", "a", provider=True
)
def _due_connecting(script: Script) -> None:
    begun(script).do(Connected(script.conn))
    script.advance(1.5)
    script.do(script.polled(credentials_ms=2_000))
    script.advance(1.0)
    script.expect("connecting")
    script.do(script.token("t2"))
    script.arrive(script.welcome(credentials_ms=2_000))  # behind which the newer one is presented


@scenario(
    "come-while-opening",
    "Another token comes while a connection opens: the hello presents that of the handshake.",
    "a",
    provider=True,
    clauses="P-AUTH-8",
)
def _come_opening(script: Script) -> None:
    begun(script).advance(1.5)
    script.do(script.polled(credentials_ms=2_000))
    script.advance(1.0)
    script.do(script.token("t2"), Connected(script.conn))
    script.arrive(script.welcome(credentials_ms=2_000))


@scenario(
    "refused",
    "A token that a node refuses is replaced, and all paths wait: on each way of refusing.",
    "a",
    provider=True,
)
def _refused(script: Script) -> None:
    begun(script).do(script.refused(401, error=no()))
    script.expect("polling")
    until_fetch(script)
    script.advance(60.0)
    script.do(script.token("t2"))
    script.do(script.poll_failed(no("unknown_key")))
    until_fetch(script)
    script.do(script.token("t3"))
    script.until(lambda: script.connected)
    script.do(Connected(script.conn))
    script.arrive(script.error("unauthenticated", why="not_yet", message="not yet"))
    until_fetch(script)
    script.do(script.token("t4"))
    script.until(lambda: script.connected)
    script.do(Connected(script.conn), script.lost(4_100, "no"))
    until_fetch(script)
    script.do(script.token("t5"))
    script.live(credentials_ms=HOUR_MS)


@scenario(
    "refused-in-each-mode",
    "A token that was good is refused, in each mode: another is fetched at once.",
    "a",
    provider=True,
)
def _each_mode(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).do(Closed())
    for number, mode in enumerate(RUNNING, start=2):
        script.into(mode)
        if mode in ("syncing", "live", "suspect"):
            script.arrive(script.error("unauthenticated", why="expired", message=f"the token has ended {number}"))
        else:
            script.until(lambda: script.polling)
            script.do(script.poll_failed(no(f"check-{number}")))
            until_fetching(script)
        script.do(script.token(f"t{number}"))
        script.do(Closed())


@scenario(
    "refused-renewal", "A renewal is refused: the connection stays, and goes on with another token.", "a", provider=True
)
def _refused_renewal(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).renewing()
    script.arrive(script.error("unauthenticated", Renew, why="expired"))
    script.expect("polling")
    script.do(script.token("t1"))  # the same again
    until_fetch(script)
    script.do(script.token("t2"))
    script.arrive(Authenticated(script.sent(Auth)[-1].id, HOUR_MS))
    script.advance(0.0)
    script.expect("syncing")
    script.arrive(script.subscribed())
    script.expect("live")


@scenario(
    "revoked",
    "A lease is revoked as denied: other credentials may have it, if there is a provider.",
    "a",
    provider=True,
)
def _revoked(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).arrive(Revoked("denied"))
    script.expect("polling")
    script.do(script.token("t2"))
    script.advance(20.1)  # `auth` is never answered
    script.expect("polling")


@scenario(
    "bad-new-token", "A new token that is refused leaves the client live with the one before.", "a", provider=True
)
def _bad(script: Script) -> None:
    begun(script).live(credentials_ms=60_000)
    until_fetch(script)
    script.do(script.token("t2"))
    script.arrive(script.error("unauthenticated", Auth, why="signature"))
    script.expect("live")
    until_fetch(script)
    script.do(script.token("t3"))
    script.arrive(script.error("unavailable", Auth, retry_ms=500))  # its key is on its way
    until_fetch(script)
    script.do(script.token("t3"))


@scenario("late-refusal", "What was sent with the old token is refused while `auth` is on its way.", "a", provider=True)
def _late(script: Script) -> None:
    begun(script).live(credentials_ms=30_000)
    until_fetch(script)
    script.do(Jumped())
    script.do(script.token("t2"), TokenRefused("t1", no()), TokenRefused("t2", no("revoked")))
    script.arrive(script.error("unauthenticated", Renew, why="expired"))
    script.expect("polling")
    script.do(script.polled())
    script.arrive(Authenticated(script.sent(Auth)[0].id, HOUR_MS))
    script.advance(0.0)


@scenario(
    "earlier-token", "The refusal of an earlier token says nothing of the present one.", "a", provider=True, push=False
)
def _earlier(script: Script) -> None:
    begun(script).do(script.polled(credentials_ms=20_000, next_ms=14_000))
    script.until(lambda: script.polling)
    if len(script.all(FetchToken)) < 2:
        script.pass_(4.0)
        script.do(Jumped())
    script.do(script.token("t2"))
    script.do(script.poll_failed(no()))
    script.advance(2.0)


@scenario("three-bad", "Three tokens in a row that waiting does not mend: the client stops.", "a", provider=True)
def _three(script: Script) -> None:
    script.open()
    for number in range(REFUSED_MAX):
        script.do(script.token(f"t{number}"))
        script.until(lambda: script.connected)
        script.do(Connected(script.conn))
        script.arrive(script.error("unauthenticated", why="audience"))
        if script.mode != "stopped":
            until_fetch(script)
    script.expect("stopped")
    script.do(script.token("t9"))


@scenario(
    "three-bad-reads", "Tokens that nodes refuse to reads, of which the machine knows nothing else.", "a", provider=True
)
def _reads(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS)
    for number in range(1, REFUSED_MAX + 1):
        script.do(TokenRefused("stranger", no()))
        script.do(TokenRefused(f"t{number}", no("audience")), TokenRefused(f"t{number}", no("audience")))
        if script.mode == "stopped":
            return
        until_fetching(script)
        script.do(script.token(f"t{number + 1}"))
        if number == 1:
            script.arrive(script.error("unavailable", Auth))
    script.expect("stopped")


@scenario("final", "The provider gives none any more, in each mode.", "a", provider=True)
def _final(script: Script) -> None:
    begun(script).do(script.refused())
    fail(script, final=True)
    script.expect("stopped")
    script.do(Closed())
    for mode in RUNNING:
        script.into(mode)
        fail(script, final=True)
        script.expect("stopped")
        script.do(Closed())


@scenario(
    "no-provider", "Without a provider a refusal stops the client, in each mode and on each way.", "a", token=GIVEN
)
def _no_provider(script: Script) -> None:
    for mode in RUNNING:
        script.into(mode)
        if mode in ("syncing", "live", "suspect"):
            script.arrive(Revoked("denied") if mode == "live" else script.error("denied", why="rules"))
        elif mode == "connecting":
            script.do(script.refused(403))
        else:
            script.until(lambda: script.polling)
            script.do(script.poll_failed(no() if mode == "polling" else Denied("not yours")))
        script.expect("stopped")
        script.do(script.publish(1))
        script.do(Closed())
    script.into("live").do(TokenRefused(GIVEN, no()))
    script.expect("live")
    script.do(script.lost(4_200, "what?"))
    script.expect("stopped")


@scenario(
    "no-provider-handshake", "A handshake is answered 401; close codes that say not to come back.", "a", token=GIVEN
)
def _handshake(script: Script) -> None:
    script.open().do(script.refused(401))
    script.expect("stopped")
    script.do(Closed())
    script.live().do(script.publish(1), script.publish(2), script.publish(3, "b"))
    script.do(script.lost(4_101, "no"))
    script.expect("stopped")


@scenario(
    "publishes",
    "Publishes that are refused for their credentials are made again behind the next token.",
    "a",
    provider=True,
)
def _publishes(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).do(script.publish(1, "p1"), script.publish(2, "p2"))
    first, second = script.sent(Publish)
    for publish in (first, second):
        script.arrive(Error("unauthenticated", "no", publish.id, why="expired"))
    script.do(script.publish(3, "p3"))
    script.do(script.token("t2"))
    script.arrive(Authenticated(script.sent(Auth)[-1].id))
    script.arrive(
        *(Published(each.id, each.topic, 11, script.subscribed().position) for each in script.sent(Publish)[2:])
    )
    assert script.sent(Subscribe)


@scenario(
    "publishes-over-http",
    "Publishes over HTTP that are refused wait for the next token.",
    "a",
    provider=True,
    push=False,
)
def _over_http(script: Script) -> None:
    begun(script).do(script.publish(1))
    script.do(script.batch_failed(no()))
    until_fetch(script)
    script.advance(20.0)
    script.do(script.token("t2"))
    script.do(script.batch_failed())


@scenario(
    "refused-twice",
    "A poll is refused, too, while the connection waits for credentials, which then fail.",
    "a",
    provider=True,
)
def _refused_twice(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).renewing()
    script.arrive(script.error("unauthenticated", Renew, why="expired"))
    script.do(script.token("t2"))
    script.do(script.poll_failed(no("revoked")))
    script.expect("polling")
    until_fetching(script)
    fail(script)
    script.do(TokenFailed(99, Unavailable("late")))
    until_fetch(script)
    script.do(script.token("t3"))


@scenario(
    "replaced-meanwhile", "A token is refused in the greeting that has another in its place by now.", "a", provider=True
)
def _replaced(script: Script) -> None:
    begun(script).do(Connected(script.conn))
    script.do(TokenRefused("t1", no("expired")))
    until_fetching(script)
    script.do(script.token("t2"))
    script.arrive(script.error("unauthenticated", why="expired"))
    script.expect("polling")
    script.until(lambda: script.connected)
    script.do(Connected(script.conn), TokenRefused("t2", no("not_yet")))
    until_fetching(script)
    script.do(script.token("t3"))
    script.do(script.lost(4_100, "no"))
    script.expect("polling")


@scenario(
    "bad-new-tokens", "Tokens presented in place are refused, three in a row: the client stops.", "a", provider=True
)
def _bad_new_tokens(script: Script) -> None:
    begun(script).live(credentials_ms=HOUR_MS).do(TokenRefused("t1", no("expired")))
    for number in range(2, 2 + REFUSED_MAX):
        until_fetching(script)
        script.do(script.token(f"t{number}"))
        script.arrive(script.error("unauthenticated", Auth, why="audience"))
    script.expect("stopped")
