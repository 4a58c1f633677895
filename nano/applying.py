"""How a server that is in no zone asks to be let in: by a token, or by waiting until a person admits it.

One conversation with the scheduler's `Door.Join`, over a link on which both have proven their keys and the
authority was accepted: by a token's fingerprint, or because it is the one that was asked first. A secret is
said to nobody else. Without a token both sides first agree on the code that people compare
(`fabric/short_code.py`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpclib.const import Cardinality
from msgspec.structs import replace

from nano.contracts.nano import v1
from nano.fabric.calls.channel import Call, Channel
from nano.fabric.identity.authority import zone_of
from nano.fabric.identity.folder import IdentityFolder, read_certificate
from nano.fabric.identity.identity import Identity, Removed, authority_fingerprint, spki_of
from nano.fabric.joining import application
from nano.fabric.joining.applicant import ApplicantCredentials, linked
from nano.fabric.joining.application import Application
from nano.fabric.joining.join_token import TokenText
from nano.fabric.joining.schedulers import Schedulers
from nano.fabric.joining.short_code import NONCE_BYTES, short_code
from nano.fabric.joining.standing import Note, State
from nano.fabric.packets.address import Address
from nano.member import zone_trust
from nano.model.errors import (
    Cancelled,
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    NanoError,
    Unreachable,
    Untrusted,
)
from nano.model.peers import Peer
from nano.waits import first_of

JOIN = "/nano.v1.Door/Join"

ANSWER_S = 10.0
"""How long the scheduler may take for each answer that needs no person."""

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_REFUSED_PAUSE_S = 60.0
"""How often one asks again whom an administrator refused, and who may change his mind."""

_log = structlog.get_logger("nano.joining")


NEW_CODE_S = 60.0
LONGEST_NEW_CODE_S = 3600.0

_REASONS_LIMIT = 32
"""Different reasons that are logged: the other end may have any number of them."""


class _SaidAnewError(Exception):
    """The scheduler has another challenge for our commitment than it had: both begin with new nonces."""


class NewCodes:
    """How long to wait before another code is made: not at all, a minute, and twice as long each time.

    Each new code is one more try for whoever stands in between, who may have the scheduler show him millions
    of codes and waits for one of ours that is among them. A scheduler that lost its key changes ours once.
    """

    def __init__(self) -> None:
        self._pause_s = 0.0

    def pause_s(self) -> float:
        """Before the code that is to be made now."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_NEW_CODE_S) or NEW_CODE_S
        return pause_s


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks, and with what."""

    peer: Peer
    folder: IdentityFolder
    token: TokenText | None
    clock: Callable[[], datetime]
    note: Note
    """Where people read how far it is."""
    new_codes: NewCodes = field(default_factory=NewCodes)
    strange: dict[Address, str] = field(default_factory=dict)
    """Where, of the addresses that were told, somebody answered last who is not the token's scheduler."""

    async def until_let_in(self, schedulers: Schedulers, stopping: asyncio.Event) -> Identity:
        """Asks whoever may be the scheduler until it is let in. `Cancelled` once `stopping` is set.

        What a token is refused for is raised: it will not become better; `Removed`: it will with another
        key. A key that was made for this is gone then. Whom an administrator refuses asks again from time to
        time.
        """
        pause_s = _FIRST_PAUSE_S
        told: set[str] = set()
        while not stopping.is_set():
            known = schedulers.known or await schedulers.look(_FIRST_PAUSE_S)
            for address in known:
                found = await self._attempt(address, stopping)
                if stopping.is_set() and not isinstance(found, Identity):
                    break
                if isinstance(found, Identity):
                    return found
                refused = self.token is not None and _is_final(found)
                if refused:  # before it is said: whoever reads that may throw the token away
                    self.folder.former_key()
                self._take_down(found, address, schedulers)
                if refused:
                    raise found
                if found.message not in told and len(told) < _REASONS_LIMIT:
                    told.add(found.message)
                    _log.warning("joining.waits", scheduler=_text(address), why=found.message)
                if _is_final(found):
                    pause_s = _REFUSED_PAUSE_S
                schedulers.failed(address)
            if not known and "" not in told:
                told.add("")
                _log.info("joining.looks", peer=str(self.peer), fingerprint=self.folder.fingerprint[:16])
            heard = () if known else (schedulers.look(pause_s),)  # who did not let us in is not asked at once
            await first_of(stopping.wait(), *heard, within_s=pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S) if pause_s < _REFUSED_PAUSE_S else _FIRST_PAUSE_S
        raise self._stopped()

    def check_token(self) -> None:
        """`Forbidden` when the token is for somebody else, which nobody has to be asked for."""
        token = self.token
        if token is None:
            return
        if token.role is not self.peer.role or token.id not in {"", self.peer.id}:
            why = f"{token} does not let in {self.peer}: create one for it"
            refusal = Forbidden(why, field="fabric.token")
            self.note.says(State.TOKEN_REFUSED, why=refusal.message, token=token.name)
            raise refusal

    @property
    def _token_name(self) -> str:
        return "" if self.token is None else self.token.name

    def _take_down(self, found: NanoError, address: Address, schedulers: Schedulers) -> None:
        """For people: why it is not in yet. What was sure is not made doubtful by whoever answers."""
        if isinstance(found, Removed):
            self.note.says(State.REMOVED, why=found.message)
        elif _is_final(found):
            state = State.REFUSED if self.token is None else State.TOKEN_REFUSED
            self.note.says(state, why=found.message, token=self._token_name)
        elif (kept := self.note.kept) is not None and kept.state in {State.ASKS, State.WAITS}:
            self.strange.pop(address, None)
            if self.token is not None and isinstance(found, Untrusted) and address in schedulers.told:
                self.strange[address] = found.message
            doubts = list(self.strange.values())
            self.note.says(kept.state, why=found.message, doubt=doubts[-1] if doubts else "")

    async def _attempt(self, address: Address, stopping: asyncio.Event) -> Identity | NanoError:
        """A job of its own: grpclib cancels whoever waits on a link that ends, and leaves him marked."""
        async with asyncio.TaskGroup() as jobs:
            asking = jobs.create_task(self._answered(address))
            told = jobs.create_task(stopping.wait())
            await asyncio.wait({asking, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            asking.cancel()
        return self._stopped() if asking.cancelled() else asking.result()

    def _stopped(self) -> Cancelled:
        return Cancelled(f"stopped before {self.peer} was let into a zone", subject=str(self.peer))

    async def _answered(self, address: Address) -> Identity | NanoError:
        try:
            return await self._ask(address)
        except NanoError as error:
            return error
        except OSError as error:  # no such host, no such kind of address here
            return Unreachable(f"{_text(address)} cannot be dialled: {error}")

    async def _ask(self, address: Address) -> Identity:
        """Conversations with whoever is at `address`, until one comes to its end."""
        while True:
            try:
                return await self._conversation(address)
            except _SaidAnewError:
                pause_s = self.new_codes.pause_s()
                _log.warning(
                    "joining.code_changes",
                    why="the scheduler has forgotten the code, a new one is made",
                    in_s=pause_s,
                )
                await asyncio.sleep(pause_s)

    async def _conversation(self, address: Address) -> Identity:
        credentials = ApplicantCredentials(self.folder.key(), self._accepts, self.clock)
        async with linked(address, credentials) as channel:
            authority = credentials.authority
            assert authority is not None  # noqa: S101 - a link is up once it was accepted
            asked = self._application(authority, _text(address), channel)
            try:
                grant = await self._converse(channel, asked, authority)
            except _SaidAnewError:
                application.write(self.folder.path, asked.anew())
                raise
            return self._keep(grant, asked)

    def _accepts(self, authority: x509.Certificate) -> None:
        shown = authority_fingerprint(authority)
        member_of = self.folder.trust()
        trusted = set()
        if member_of is not None:
            trusted = {authority_fingerprint(read_certificate(each)) for each in member_of.authorities}
        if self.token is not None:
            # A member's token stays in its configuration while its zone may move to another authority.
            if member_of is not None and member_of.zone == self.token.zone and shown in trusted:
                return
            if not self.token.trusts(shown) or zone_of(authority).id != self.token.zone:
                raise Untrusted(
                    f"the scheduler there is of the authority {shown[:16]}, which the {self.token} does not "
                    "name: it is another zone, or somebody in between; its secret was not said"
                )
            return
        if member_of is not None:
            if shown not in trusted:
                raise Untrusted(
                    f"the scheduler there is of the authority {shown[:16]}, which is none of zone "
                    f"{member_of.zone}: to leave that zone for another, run nanoctl join --start-over"
                )
            return
        first = self._waiting()
        if first is not None and first.authority != shown:
            raise Untrusted(
                f"the scheduler there is of the authority {shown[:16]}, but {first.authority[:16]} was asked "
                "first and is waited for: to ask this one instead, start over (nanoctl join --start-over)"
            )

    def _waiting(self) -> Application | None:
        """What was asked before as the same peer, and is waited for."""
        found = application.read(self.folder.path)
        same = (self.peer.role, self.peer.id, self.folder.fingerprint)
        if found is None or (found.role, found.id, found.fingerprint) != same or found.state != "waiting":
            return None
        return found

    def _application(self, authority: x509.Certificate, where: str, channel: Channel) -> Application:
        """What is asked; from now on the first authority that was asked is believed, and no other."""
        scheduler_id = channel._authority.partition("/")[2]
        known = self._waiting() if self.token is None else None
        asked = (
            replace(known, scheduler=where, scheduler_id=scheduler_id)
            if known is not None
            else Application(
                role=self.peer.role,
                id=self.peer.id,
                fingerprint=self.folder.fingerprint,
                zone=zone_of(authority).id,
                authority=authority_fingerprint(authority),
                scheduler=where,
                scheduler_id=scheduler_id,
                nonce=application.new_nonce(),
            )
        )
        if self.token is None:
            application.write(self.folder.path, asked)
        return asked

    async def _converse(self, channel: Channel, asked: Application, authority: x509.Certificate) -> v1.Grant:
        """Ask, agree on a code if need be, and wait for the grant; raises what it is refused for."""
        secret = b"" if self.token is None else self.token.secret
        said = v1.Application(
            role=asked.role,
            id=asked.id,
            csr=self.folder.signing_request(),
            token_secret=secret,
            commitment=asked.commitment,
        )
        call = channel.request(JOIN, Cardinality.STREAM_STREAM, v1.JoinMessage, v1.JoinReply)
        async with call:
            await call.send_message(v1.JoinMessage(application=said))
            reply = await _next(call, ANSWER_S)
            if reply.grant is None:
                asked = self._challenged(reply, asked, authority)
                await call.send_message(v1.JoinMessage(nonce=bytes.fromhex(asked.nonce)))
                self._compare(await _next(call, ANSWER_S), asked)
                reply = await _next(call, None)
            call.abandon()
        if reply.grant is None:
            raise Corrupt(f"{channel._authority} broke off in the middle: are both of one version?")
        return reply.grant

    def _challenged(
        self, reply: v1.JoinReply, asked: Application, authority: x509.Certificate
    ) -> Application:
        """The scheduler has named its nonce. It is on disk before ours is said."""
        challenge = reply.challenge or b""
        if self.token is not None or len(challenge) != NONCE_BYTES:
            raise Corrupt("the scheduler answers with what was not asked: are both of one version?")
        if asked.challenge and asked.challenge != challenge.hex():
            raise _SaidAnewError
        code = short_code(
            spki_of(self.folder.key().public_key()),
            authority.public_bytes(serialization.Encoding.DER),
            bytes.fromhex(asked.nonce),
            challenge,
        )
        asked = replace(asked, challenge=challenge.hex(), code=code)
        application.write(self.folder.path, asked)
        return asked

    def _compare(self, reply: v1.JoinReply, asked: Application) -> None:
        """Both ends have the code; people compare it. One that is another by itself is a defect, or worse."""
        if reply.grant is not None or not reply.code:
            raise Corrupt("the scheduler answers with what was not asked: are both of one version?")
        if reply.code != asked.code:
            raise Untrusted(
                f"the scheduler's code is {reply.code!r:.20}, ours {asked.code}: do not admit either"
            )
        self.note.says(State.WAITS)
        _log.warning(
            "joining.waits_to_be_admitted",
            peer=str(self.peer),
            code=asked.code,
            fingerprint=asked.fingerprint[:16],
            zone=asked.zone,
            scheduler=asked.scheduler,
            next=f"compare the code there, then run: nanoctl cell admit {asked.fingerprint[:16]}",
        )

    def _keep(self, grant: v1.Grant, asked: Application) -> Identity:
        """Into the folder, after all checks; the authority that was accepted is among those to trust."""
        try:
            trust = zone_trust(grant.trust, asked.zone)
        except Invalid as error:  # it was let in: this is no refusal
            raise Corrupt(f"the scheduler's grant cannot be read: {error.message}") from error
        certificates = x509.load_pem_x509_certificates(trust.bundle.encode())
        if asked.authority not in {authority_fingerprint(each) for each in certificates}:
            raise Untrusted("the scheduler's grant does not trust the authority by which it was believed")
        if self.token is not None:  # where the scheduler is stands nowhere else
            application.write(self.folder.path, asked)
        identity = self.folder.keep(grant.certificate, trust, self.clock())
        application.write(self.folder.path, replace(asked, state="joined"))
        heard_ms = int(self.clock().timestamp() * 1000)
        self.note.says(State.JOINED, heard_ms=heard_ms, token=self._token_name)
        _log.info("joining.let_in", peer=str(self.peer), zone=asked.zone, scheduler=asked.scheduler)
        return identity


async def _next(call: Call, within_s: float | None) -> v1.JoinReply:
    """The next answer; raises the error with which the scheduler ended the call instead."""
    try:
        async with asyncio.timeout(within_s):
            reply: v1.JoinReply | None = await call.recv_message()
    except TimeoutError:
        call.abandon()
        raise Corrupt("the scheduler says nothing more") from None
    if reply is None:
        await call.end_well()
        raise Corrupt("the scheduler ended the conversation without an answer")
    return reply


def _is_final(error: NanoError) -> bool:
    """Whether the scheduler itself said no, as against: was not there, or is not believed."""
    if isinstance(error, Untrusted):
        return isinstance(error, Removed)
    return isinstance(error, Forbidden | Conflict | Invalid)


def _text(address: Address) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
