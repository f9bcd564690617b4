"""The authority: which identity a token makes. It remembers tokens that it has verified, and reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, final

from softstate.auth.answers import Answer, Answers, Entry, Standing, Unasked, Waiter, out_of_reach
from softstate.auth.callout import CALLOUT_ISSUER
from softstate.auth.certificate import CERTIFICATE_EXPIRED, CERTIFICATE_ISSUER
from softstate.auth.common_claims import CommonClaimsTable
from softstate.auth.digests import digest_of, digest_text
from softstate.auth.evidence import Certified, Signed, Static
from softstate.auth.identity import Grant, Identity, Why, refused
from softstate.auth.keyring import Key, Keyring
from softstate.auth.limits import NamespaceLimit
from softstate.auth.name_answers import NameAnswers
from softstate.auth.open_authority import OnChanged, OnLost, unchanged, unheeded
from softstate.auth.policy import STATIC_ISSUER, Policy, StaticToken
from softstate.auth.presented import Certificate, Credentials, Vouched
from softstate.auth.proxy import PROXY_ISSUER, TrustedProxy
from softstate.auth.remembering import remember
from softstate.auth.revocations import Revocation, Revocations
from softstate.auth.rules import Known, Rules
from softstate.auth.token import (
    Issuer,
    Token,
    check_claims,
    check_times,
    groups_of,
    is_static,
    own_grant,
    read_token,
    scopes_of,
    shown,
)
from softstate.errors import Unauthenticated
from softstate.model import Record
from softstate.wire.messages import TOKEN_CHARS_MAX, Reason

VERIFIED_MAX = 10_000
"""Verified tokens that are remembered; those that were not presented for longest are forgotten first."""


def _nobody_lost(_tokens: Mapping[str, str], _reason: Reason) -> None:
    """Do nothing: nobody is told."""


@final
class RulesAuthority:
    """The authority of a node with rules: a `softstate.auth.open_authority.Authority`.

    `keyrings` holds the keys of each issuer by its name; a shell fetches those that are due, and says so to `got`.
    """

    def __init__(self, policy: Policy, keyrings: Mapping[str, Keyring] | None = None) -> None:
        self.generation = 1
        self.revocations = Revocations()
        self._rules_since = 1  # the generation from which on nothing but revocations has been added
        self.keyrings: dict[str, Keyring] = {}
        self._verified: dict[bytes, Identity] = {}
        self._common = CommonClaimsTable()
        self._vouched_for: dict[Vouched, Identity] = {}
        self.policy = Policy()
        self.answers: Answers | None = None
        """The answers of the callout, which a shell asks, and tells `answered` and `unanswered` what came of it."""
        self.names = NameAnswers(self._known_of)
        """Its answers about names."""
        self.names.changed = self._names_changed
        self.on_lost: OnLost = _nobody_lost
        self.on_changed: OnChanged = unchanged
        """See `softstate.auth.open_authority.Authority`."""
        self._take(policy, keyrings or {})

    def identify(
        self, token: Credentials, now: float, wall: float, unverified: Callable[[bytes], None] = unheeded
    ) -> Identity:
        """See `softstate.auth.open_authority.Authority`."""
        if token is None:
            return self._anonymous()
        if isinstance(token, Vouched):
            return self._vouched(token)
        if isinstance(token, Certificate):
            return self._of_certificate(token, now, wall)
        if not token.isascii() or not 0 < len(token) <= TOKEN_CHARS_MAX:
            raise refused(Why.MALFORMED, f"a token is 1 to {TOKEN_CHARS_MAX} characters of ASCII")
        digest = sha256(token.encode()).digest()
        found = self._verified.pop(digest, None)
        if found is not None:
            # One that has expired stays, so that a wall clock that is set back does not make it good.
            self._verified[digest] = found
            if found.generation != self.generation or now >= found.until:
                found = self._verified[digest] = self._judged_again(found, now)
            return found
        if self.answers is not None and not (is_static(token) or self._is_of_issuer(token)):
            return self._of_callout(self.answers, token, digest, now, unverified)
        unverified(digest)
        found = self._static(digest, now, wall) if is_static(token) else self._signed(token, now, wall)
        return self._remember(digest, found)

    def _remember(self, digest: bytes, identity: Identity) -> Identity:
        identity = self._with_names(identity)
        # One that is revoked already is judged again each time it is presented.
        kept = identity if self.revocations.of(identity) is None else replace(identity, generation=0)
        remember(self._verified, digest, kept, VERIFIED_MAX)
        self._check_revoked(identity)
        return identity

    def again(self, identity: Identity, now: float) -> Identity:
        """See `softstate.auth.open_authority.Authority`."""
        found = self._judged_again(identity, now)
        if found.issuer != identity.issuer or found.subject != identity.subject:
            text = "these credentials are of another subject now: open another session with them"
            raise refused(Why.SUBJECT_CHANGED, text)
        return found

    def _judged_again(self, identity: Identity, now: float) -> Identity:
        return self._with_names(self._judged_by_rules(identity, now))

    def _judged_by_rules(self, identity: Identity, now: float) -> Identity:
        """Return who the credentials of an identity make by the present rules: maybe another principal."""
        rules_changed = identity.generation < self._rules_since
        if now >= identity.until and not (rules_changed and isinstance(identity.evidence, Static)):
            certified = isinstance(identity.evidence, Certified)
            raise refused(Why.EXPIRED, CERTIFICATE_EXPIRED if certified else "the token has expired: fetch a new one")
        if identity.generation == self.generation:
            return identity
        if isinstance(identity.evidence, Standing):
            self._check_revoked(identity)
            return self._of_callout_again(identity, identity.evidence.entry)
        found = self._by_evidence(identity, now) if rules_changed else identity
        self._check_revoked(found)
        return found if rules_changed else identity.judged(identity.grant, identity.until, self.generation)

    def _by_evidence(self, identity: Identity, now: float) -> Identity:
        match identity.evidence:
            case Signed() as signed:
                return self._signed_again(identity, signed, now)
            case Static() as evidence:
                static = self._tokens.get(identity.token)
                if static is None:
                    raise refused(Why.REVOKED, "the token has been removed from this node's file: get another")
                return self._static_identity(static, evidence, now)
            case Vouched() as vouched:
                return self._vouched(vouched)
            case Certified() as certified:
                return self._certified(certified, now)
        return self._anonymous()

    def ask(self, token: str, peer: str, waiter: Waiter, now: float) -> None:
        """See `softstate.auth.open_authority.Authority`."""
        assert self.answers is not None
        self.answers.ask(token, digest_text(sha256(token.encode()).digest()), peer, waiter, now)

    def answered(self, entry: Entry, answer: Answer, now: float) -> None:
        """Take an answer of the callout. If it says less than the one before, what rests on that is over, or less."""
        was, known = entry.known, answer.known
        assert self.answers is not None
        if not self.answers.got(entry, answer, now):
            return
        self.generation += 1
        entry.changed = self.generation
        if was is not None and (known is None or known.subject != was.subject):
            self.on_lost({entry.digest: digest_of(CALLOUT_ISSUER, was.subject)}, "denied")
        elif was is not None:
            self.on_changed(digest_of(CALLOUT_ISSUER, was.subject))

    def unanswered(self, entry: Entry, now: float) -> None:
        """Note that the callout has failed, and with that perhaps the time of its last answer is over."""
        assert self.answers is not None
        if self.answers.failed(entry, now):
            self.outlived([entry])

    def outlived(self, entries: Iterable[Entry]) -> None:
        """End all that rests on answers which have held for as long as they may."""
        lost: dict[str, str] = {}
        for entry in entries:
            known = entry.known
            if known is not None:
                lost[entry.digest] = digest_of(CALLOUT_ISSUER, known.subject)
        if lost:
            self.generation += 1
            self.on_lost(lost, "overloaded")

    def _with_names(self, identity: Identity) -> Identity:
        """Return an identity whose grant has the names that the callout allows its principal, now and later."""
        if not self.names.active or identity.is_anonymous:
            return identity
        allowed = self.names.allowed_of(identity.digest)
        if identity.grant.asked is allowed:
            return identity
        return identity.judged(replace(identity.grant, asked=allowed), identity.until, identity.generation)

    def _names_changed(self, principal: str, held: bool) -> None:
        self.generation += 1
        if held:
            self.on_changed(principal)

    def _known_of(self, identity: Identity) -> Known | None:
        """Return what is known of the principal of an identity; None if its credentials are of nobody any more."""
        match identity.evidence:
            case Signed() as signed:
                issuer = self._issuers.get(identity.issuer)
                return None if issuer is None else self._known(signed.claims(identity.subject), issuer)
            case Standing() as standing:
                return standing.entry.known
            case Vouched() as vouched:
                return None if self.policy.proxy is None else self.policy.proxy.known(vouched)
        return Known(identity.issuer, identity.subject)

    def awaits_keys(self, now: float) -> bool:
        """Tell whether keys of an issuer are being fetched, or are due to be."""
        return any(keyring.fetching or keyring.due_at <= now for keyring in self.keyrings.values())

    def change(self, policy: Policy, keyrings: Mapping[str, Keyring]) -> None:
        """Take another policy in the place of the one before, with the keyrings of its issuers."""
        self._take(policy, keyrings)
        self._note_rules_changed()

    def got(self, issuer: str, keys: Iterable[Key], now: float) -> None:
        """Take the keys of an issuer that a fetch has brought. That a key was added changes no grant."""
        if self.keyrings[issuer].got(keys, now):
            self._note_rules_changed()

    def failed(self, issuer: str, why: str, now: float) -> None:
        """Note that a fetch of an issuer's keys has failed; once they are stale, so is all that they have signed."""
        self.keyrings[issuer].failed(why)
        if self.keyrings[issuer].went_stale(now):
            self._note_rules_changed()

    def heed(self, records: Iterable[Record]) -> list[Revocation]:
        """Take changes of topics that revoke credentials; return what is revoked now and was not before."""
        news = [revocation for record in records if (revocation := self.revocations.note(record)) is not None]
        if news:
            self.generation += 1
        return news

    def load_revocations(self, revocations: Revocations) -> None:
        """Take all that the store holds in the place of what is known to be revoked."""
        self.revocations = revocations
        self.generation += 1

    def is_over(self, revocation: Revocation, wall: float) -> bool:
        """Tell whether a revocation can be forgotten: all credentials are over that it revokes."""
        return revocation.over(wall, self._longest_s)

    def known(self, token: str, now: float, wall: float) -> tuple[Known, Identity]:
        """Return what is known of a token's principal, beside its identity, to explain a decision by `rules`."""
        identity = self.identify(token, now, wall)
        if isinstance(identity.evidence, Signed):
            claims = identity.evidence.claims(identity.subject)
            return self._known(claims, self._issuers[identity.issuer]), identity
        return Known(STATIC_ISSUER, identity.subject, own=self._tokens[identity.token].allow), identity

    @property
    def namespaces(self) -> tuple[NamespaceLimit, ...]:
        """The limits of what may be published below some prefixes."""
        return self.policy.limits

    @property
    def proxy(self) -> TrustedProxy | None:
        """See `softstate.auth.open_authority.Authority`."""
        return self.policy.proxy

    @property
    def ambient(self) -> bool:
        """See `softstate.auth.open_authority.Authority`. A proxy may name a subject for all that passes through it.

        A browser presents the certificate of its user with the requests of any page.
        """
        vouches = self.proxy is not None and bool(self.proxy.subject_header)
        return self._anybody is not None or vouches or self.policy.mtls is not None

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    def _take(self, policy: Policy, keyrings: Mapping[str, Keyring]) -> None:
        callout, before = policy.callout, self.policy.callout
        if callout is None or "identity" not in callout.about:
            self.answers = None
        elif self.answers is None:
            self.answers = Answers(callout.times, callout.inflight_max)
        elif callout != before:
            self.answers.forget(callout.times, callout.inflight_max)
        self.policy = policy
        if callout is not None and callout != before:
            self.names.configure(callout.times, callout.inflight_max, callout.ceiling, active="names" in callout.about)
        elif callout is None and before is not None:
            self.names.configure(before.times, before.inflight_max, active=False)
        self._longest_s = max((issuer.max_token_s + issuer.leeway_s for issuer in policy.issuers), default=0.0)
        self._issuers = {issuer.name: issuer for issuer in policy.issuers}
        self._tokens = {digest_text(token.digest): token for token in policy.tokens}
        self._rules = Rules(policy.allows)
        self.keyrings = {name: keyrings.get(name, Keyring()) for name in self._issuers}
        grant = self._rules.grant_of(Known())
        self._anybody = Identity("", "", grant) if self._rules.know_anyone else None

    def _note_rules_changed(self) -> None:
        self.generation += 1
        self._rules_since = self.generation
        self.on_changed("")

    def _check_revoked(self, identity: Identity) -> None:
        revocation = self.revocations.of(identity)
        if revocation is not None:
            raise revocation.error("the client's certificate" if isinstance(identity.evidence, Certified) else None)

    def _anonymous(self) -> Identity:
        if self._anybody is None:
            raise refused(Why.MISSING, "this node wants credentials: give a token")
        if self._anybody.generation != self.generation:
            self._anybody = replace(self._anybody, generation=self.generation)
        return self._anybody

    def _is_of_issuer(self, token: str) -> bool:
        """Tell whether a token says that it is of an issuer that is known here."""
        if not self._issuers:
            return False
        try:
            return read_token(token).issuer in self._issuers
        except Unauthenticated:
            return False

    def _of_callout(
        self, answers: Answers, token: str, digest: bytes, now: float, unverified: Callable[[bytes], None]
    ) -> Identity:
        entry = answers.find(digest_text(digest), now)
        if entry is None:
            unverified(digest)
            raise Unasked(token)
        return self._identity_of(entry)

    def _of_callout_again(self, identity: Identity, entry: Entry) -> Identity:
        known = entry.known
        if self.answers is None:
            raise refused(Why.REVOKED, "this node asks no callout any more: get another token")
        if entry not in self.answers:
            raise out_of_reach()
        if known is None:
            raise refused(Why.REVOKED, "the callout of this node does not accept the token any more: get another")
        if identity.generation < max(self._rules_since, entry.changed):
            return self._identity_of(entry)
        return replace(identity, generation=self.generation)

    def _identity_of(self, entry: Entry) -> Identity:
        known = entry.known
        if known is None:
            raise refused(Why.UNACCEPTED, "the callout of this node does not accept the token: get another")
        identity = entry.identity
        if identity is None or identity.generation < max(self._rules_since, entry.changed):
            grant = self._rules.grant_of(known)
            identity = Identity(CALLOUT_ISSUER, known.subject, grant, token=entry.digest, evidence=entry.hold())
        if identity.generation != self.generation:
            self._check_revoked(identity)  # ahead of keeping it: what is kept is not looked at again
            identity = entry.identity = self._with_names(replace(identity, generation=self.generation))
        return identity

    def _of_certificate(self, certificate: Certificate, now: float, wall: float) -> Identity:
        digest = bytes.fromhex(certificate.digest)
        found = self._verified.pop(digest, None)
        if found is None:
            return self._remember(digest, self._certified(Certified(certificate, now - wall), now))
        self._verified[digest] = found
        if found.generation != self.generation or now >= found.until:
            found = self._verified[digest] = self._judged_again(found, now)
        return found

    def _certified(self, evidence: Certified, now: float) -> Identity:
        rule, certificate = self.policy.mtls, evidence.certificate
        if rule is None:
            raise refused(Why.UNTRUSTED, "this node takes no client certificates: its policy needs a table [auth.mtls]")
        until = certificate.end + evidence.ahead_s
        if now >= until:
            raise refused(Why.EXPIRED, CERTIFICATE_EXPIRED)
        known = Known(CERTIFICATE_ISSUER, rule.subject_of(certificate))
        return Identity(
            CERTIFICATE_ISSUER,
            known.subject,
            self._rules.grant_of(known),
            until,
            key=certificate.digest,
            issued_at=certificate.begin,
            generation=self.generation,
            evidence=evidence,
        )

    def _vouched(self, vouched: Vouched) -> Identity:
        found = self._vouched_for.pop(vouched, None)
        if found is None or found.generation != self.generation:
            if self.policy.proxy is None:
                raise refused(Why.UNTRUSTED, "this node no longer takes a subject from a proxy: present a token")
            grant = self._rules.grant_of(self.policy.proxy.known(vouched))
            token = digest_of(PROXY_ISSUER, vouched.subject, vouched.grants or "")
            found = Identity(
                PROXY_ISSUER, vouched.subject, grant, token=token, generation=self.generation, evidence=vouched
            )
            self._check_revoked(found)
            found = self._with_names(found)
        remember(self._vouched_for, vouched, found, VERIFIED_MAX)
        return found

    def _static(self, digest: bytes, now: float, wall: float) -> Identity:
        static = self._tokens.get(digest_text(digest))
        if static is None:
            raise refused(Why.UNKNOWN_KEY, "this node knows no such static token: was it removed from its file?")
        return self._static_identity(static, Static(now - wall), now)

    def _static_identity(self, static: StaticToken, evidence: Static, now: float) -> Identity:
        until = static.until + evidence.ahead_s
        if now >= until:
            raise refused(Why.EXPIRED, f"the token expired {now - until:.0f} s ago by this node's clock: get another")
        return Identity(
            STATIC_ISSUER,
            static.name,
            self._rules.grant_of(Known(STATIC_ISSUER, static.name, own=static.allow)),
            until,
            token=digest_text(static.digest),
            generation=self.generation,
            evidence=evidence,
        )

    def _signed(self, text: str, now: float, wall: float) -> Identity:
        token = read_token(text)
        issuer = self._issuers.get(token.issuer)
        if issuer is None:
            raise refused(Why.ISSUER, f"this node does not know the token's issuer {shown(token.issuer)}")
        key = self._key(token, now)
        if not key.verifies(token.signed, token.signature):
            raise refused(Why.SIGNATURE, f"the token's signature is not of key {key.id!a} of its issuer")
        signed = Signed(self._common.of(token), *token.times, token.id, key, now - wall)
        grant, left = self._judged(signed, token.subject, issuer, wall)
        return Identity(
            issuer.name,
            token.subject,
            grant,
            now + left,
            key.id or "",
            signed.issued or 0.0,
            digest_text(sha256(token.signed).digest()),
            "" if token.id is None else digest_of(token.id),
            self.generation,
            signed,
        )

    def _signed_again(self, identity: Identity, signed: Signed, now: float) -> Identity:
        issuer = self._issuers.get(identity.issuer)
        if issuer is None:
            raise refused(Why.ISSUER, f"this node no longer knows the token's issuer {identity.issuer!a}")
        if not self.keyrings[identity.issuer].holds(signed.key, now):
            raise refused(Why.UNKNOWN_KEY, f"key {signed.key.id!a} of the token's issuer has been removed")
        grant, left = self._judged(signed, identity.subject, issuer, now - signed.ahead_s)
        return identity.judged(grant, now + left, self.generation)

    def _judged(self, signed: Signed, subject: str, issuer: Issuer, wall: float) -> tuple[Grant, float]:
        """Check all that a token says; return what it grants, and for how long. Raises `Unauthenticated`."""
        common = signed.common
        rights = common.rights(self._rules_since)
        if rights is not None:
            left = check_times(signed.times, issuer, wall)
            if (grant := rights.of(subject)) is not None:
                return grant, left
        claims = signed.claims(subject)
        check_claims(common.type, claims, issuer)
        left = check_times(signed.times, issuer, wall)
        known = self._known(claims, issuer)
        common.found(self._rules.rights_of(known), issuer, self._rules_since)
        return self._rules.grant_of(known), left

    def _key(self, token: Token, now: float) -> Key:
        keyring = self.keyrings[token.issuer]
        wanted = token.header
        key = keyring.find(wanted.key, wanted.algorithm, now)
        if key is not None:
            return key
        known = keyring.told(now)
        what = f"key {wanted.key[:64]!a}" if wanted.key is not None else "single key"
        of = f"for {wanted.algorithm[:32]!a} of issuer {token.issuer!a}"
        raise refused(Why.UNKNOWN_KEY, f"no {what} {of} (known: {known})")

    @staticmethod
    def _known(claims: Mapping[str, Any], issuer: Issuer) -> Known:
        return Known(
            issuer.name,
            claims["sub"],
            groups_of(claims, issuer),
            scopes_of(claims),
            claims,
            own_grant(claims, issuer),
            issuer.ceiling,
        )
