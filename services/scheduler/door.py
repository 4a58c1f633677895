"""The door of the zone: the service `nano.v1.Door`, by which others come in and renew their certificates.

The book decides (`membership.py`), and what it decides is durable before a certificate leaves. Who joins is
known by the key that its link has proven; the name is what it asks for.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.calls.caller import Caller, caller
from nano.fabric.identity.identity import fingerprint_of, key_in, spki_of
from nano.fabric.joining.enrolment import signing_request
from nano.fabric.joining.join_token import JOINABLE, secret_digest
from nano.fabric.joining.short_code import opens, short_code
from nano.fabric.links.sparing import Sparing
from nano.model import names
from nano.model.errors import Conflict, Forbidden, Invalid, NanoError, TimedOut
from nano.model.membership import Applicant
from nano.model.peers import Peer, Role
from nano.shelf import Shelf
from services.scheduler.comings import SHORT
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory

ROLES = {
    "/nano.v1.Door/Join": frozenset({Role.APPLICANT}),
    "/nano.v1.Door/Renew": JOINABLE,
}
"""Who may call what. Services of the scheduler's host renew over the socket of that host."""

STEP_S = 10.0
"""How long an applicant may take for what it says without a person."""

COMMITMENT_BYTES = 32

_log = structlog.get_logger("scheduler.door")


class DoorRpc(v1.DoorBase):
    """The service, over the scheduler's shelf."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        grants: Grants,
        issuer: Callable[[], x509.Certificate],
        bell: Bell,
        now_ms: Callable[[], int],
    ) -> None:
        """`issuer` is the authority that this scheduler shows on its links, `bell` is rung when who is in, or
        waits, has changed.
        """
        self._shelf = shelf
        self._grants = grants
        self._issuer = issuer
        self._bell = bell
        self._now_ms = now_ms
        self._sparing = Sparing()
        self._waiting: Counter[str] = Counter()
        """Streams that are open for each key: a new one may come before the old one is known to be broken."""

    async def renew(self, message: v1.RenewRequest) -> v1.Grant:
        who = caller()
        with self._tells_of_refusal(who, who.peer):
            csr = signing_request(message.csr)
            if fingerprint_of(key_in(csr)) != who.fingerprint:
                raise Invalid(
                    "csr", "csr is for another key than this link's: a key is changed by joining anew"
                )
            membership = self._shelf.book.membership
            self._shelf.commit(*membership.renewed(who.peer, who.fingerprint, self._now_ms()))
        return await self._grants.grant(csr, who.peer)

    async def join(self, messages: AsyncIterator[v1.JoinMessage]) -> AsyncIterator[v1.JoinReply]:
        who = caller()
        with self._tells_of_refusal(who):
            asked = (await _next(messages)).application
            if asked is None:
                raise Invalid("application", "an application comes first")
            peer = _peer(asked)
            csr = signing_request(asked.csr)
            if fingerprint_of(key_in(csr)) != who.fingerprint:
                raise Invalid("csr", "csr is for another key than the one that this link has proven")
        with self._tells_of_refusal(who, peer):
            is_in = self._let_in(asked, peer, who.fingerprint)
        if not is_in:
            # closed with this one: what it leaves behind would else be tidied up whenever it is collected
            async with contextlib.aclosing(self._admission(asked, peer, who, messages)) as replies:
                async for reply in replies:
                    yield reply
        yield v1.JoinReply(grant=await self._grants.grant(csr, peer))

    def _let_in(self, asked: v1.Application, peer: Peer, fingerprint: str) -> bool:
        """Whether it needs no person: it is a member already, which lost its certificate, or has a token."""
        membership = self._shelf.book.membership
        if self._is_member(peer, fingerprint):
            self._shelf.commit(*membership.renewed(peer, fingerprint, self._now_ms()))
        elif asked.token_secret:
            digest = secret_digest(asked.token_secret)
            self._shelf.commit(*membership.redeem(digest, peer, fingerprint, self._now_ms()))
        else:
            return False
        return True

    @contextlib.contextmanager
    def _tells_of_refusal(self, who: Caller, peer: Peer | None = None) -> Iterator[None]:
        """Whoever is turned away inside is seen in the log, with the reason; `peer` is what it asks to be.

        What an administrator decides is written by `members.py`, once, and not here.
        """
        try:
            yield
        except NanoError as error:
            left_out = self._sparing.left_out("refused", self._now_ms() / 1000)
            if left_out is not None:
                asked = {} if peer is None else {"role": str(peer.role), "id": peer.id}
                key = who.fingerprint[:SHORT]
                _log.info(
                    "door.refused",
                    **asked,
                    key=key,
                    host=who.host,
                    reason=error.message[:200],
                    left_out=left_out,
                )
            raise

    def _is_member(self, peer: Peer, fingerprint: str) -> bool:
        member = self._shelf.book.membership.members.get(peer)
        return member is not None and member.fingerprint == fingerprint

    async def _admission(
        self, asked: v1.Application, peer: Peer, who: Caller, messages: AsyncIterator[v1.JoinMessage]
    ) -> AsyncGenerator[v1.JoinReply, None]:
        """Agree on a code, then wait until an administrator has decided; `Forbidden` when that was a no."""
        with self._tells_of_refusal(who, peer):
            if len(asked.commitment) != COMMITMENT_BYTES:
                raise Invalid(
                    "commitment", f"commitment is not {COMMITMENT_BYTES} bytes, nor is there a token"
                )
            self._shelf.book.membership.check_key(who.fingerprint)
            challenge = self._grants.challenge(who.fingerprint, peer, asked.commitment)
        yield v1.JoinReply(challenge=challenge)
        with self._tells_of_refusal(who, peer):
            nonce = (await _next(messages)).nonce or b""
            if not opens(nonce, asked.commitment):
                raise Invalid("nonce", "nonce does not open the commitment")
        code = short_code(
            spki_of(key_in(signing_request(asked.csr))),
            self._issuer().public_bytes(serialization.Encoding.DER),
            nonce,
            challenge,
        )
        self._waiting[who.fingerprint] += 1
        try:
            applicant = Applicant(
                who.fingerprint, peer.role, peer.id, who.host, code, self._now_ms(), present=True
            )
            with self._tells_of_refusal(who, peer):
                self._shelf.commit(*self._shelf.book.membership.applied(applicant))
            await self._shelf.durable()
            yield v1.JoinReply(code=code)
            await self._decided(peer, who.fingerprint)
        finally:
            self._waiting[who.fingerprint] -= 1
            if not self._waiting[who.fingerprint]:
                del self._waiting[who.fingerprint]
                self._is_away(who.fingerprint)

    def _is_away(self, fingerprint: str) -> None:
        with contextlib.suppress(Conflict):  # the shelf is being closed: at the next start nobody is present
            self._shelf.commit(*self._shelf.book.membership.present(fingerprint, present=False))

    async def _decided(self, peer: Peer, fingerprint: str) -> None:
        """Returns once it is a member. `Forbidden`: refused, removed, or pushed out by others that wait."""
        membership = self._shelf.book.membership
        while not self._is_member(peer, fingerprint):
            membership.check_key(fingerprint)
            waiting = membership.applicants.get(fingerprint)
            if waiting is None:
                raise Forbidden(f"{peer} does not wait here any more: ask again")
            if waiting.refused_until_ms:
                raise Forbidden(f"an administrator refused {peer}")
            await self._bell.heard()


def _peer(asked: v1.Application) -> Peer:
    if asked.role not in JOINABLE:
        raise Invalid(
            "role", f"role is {asked.role!r:.40}: who joins is one of {', '.join(sorted(JOINABLE))}"
        )
    return Peer(Role(asked.role), names.plain("id", asked.id))


async def _next(messages: AsyncIterator[v1.JoinMessage]) -> v1.JoinMessage:
    try:
        async with asyncio.timeout(STEP_S):
            return await anext(messages)
    except TimeoutError:
        raise TimedOut(f"nothing was said for {STEP_S:g} s") from None
    except StopAsyncIteration:
        raise Invalid("step", "the conversation ended in the middle") from None
