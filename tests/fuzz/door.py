"""The scheduler's door: what an applicant says, who has proven nothing but a key of its own."""

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from nano import wire
from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.calls.caller import Caller, answering
from nano.fabric.identity.authority import Authority
from nano.fabric.identity.identity import fingerprint_of, key_in
from nano.fabric.joining.short_code import commitment_to
from nano.model.errors import NanoError
from nano.model.peers import Peer, Role
from nano.shelf import Shelf
from services.scheduler.door import DoorRpc
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory
from tests.fuzz.target import Target, packed, pieces
from tests.support.certificates import make_zone, signing_request

NOW = datetime(2026, 11, 29, tzinfo=UTC)
NONCE = bytes(range(32))


@functools.cache
def _key() -> x509.CertificateSigningRequest:
    return signing_request(ec.generate_private_key(ec.SECP256R1()))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@functools.cache
def _authority() -> Authority:
    return make_zone(Path(tempfile.mkdtemp(prefix="nano-fuzz-")), now=NOW)


def _now_ms() -> int:
    return round(NOW.timestamp() * 1000)


def _join(data: bytes) -> None:
    """The messages of one conversation; it is over when a person would have to decide."""
    messages = []
    for _, part in pieces(data)[:8]:
        try:
            messages.append(wire.decode(v1.JoinMessage, part))
        except NanoError:
            continue
    _loop().run_until_complete(_asked(messages))


def waiting_after(data: bytes) -> int:
    """How many wait to be let in after a conversation whose messages are all readable."""
    messages = [wire.decode(v1.JoinMessage, part) for _, part in pieces(data)]
    return _loop().run_until_complete(_asked(messages))


async def _asked(messages: list[v1.JoinMessage]) -> int:
    """How many wait to be let in, after this."""
    authority = _authority()
    fingerprint = fingerprint_of(key_in(_key()))
    with tempfile.TemporaryDirectory(prefix="nano-fuzz-") as folder:
        async with Shelf.open(Path(folder), Inventory) as shelf:
            grants = Grants(shelf, authority, _now_ms, lambda: NOW)
            door = DoorRpc(shelf, grants, lambda: authority.certificate, Bell(), _now_ms)
            with answering(Caller(Peer(Role.APPLICANT, fingerprint), None, "", fingerprint, "10.6.6.6")):
                await _talk(door, messages)
            membership = shelf.book.membership
            assert not membership.members, "nobody was let in"
            assert not any(each.present for each in membership.applicants.values()), "it has gone"
            return len(membership.applicants)


async def _talk(door: DoorRpc, messages: list[v1.JoinMessage]) -> None:
    async def said() -> AsyncIterator[v1.JoinMessage]:
        for message in messages:
            yield message

    replies = cast("Any", door.join(said()))
    try:
        async for reply in replies:
            assert not reply.code or len(reply.code) < 20
            if reply.code:
                return
    except NanoError:
        return
    finally:
        await replies.aclose()


def _conversations() -> list[bytes]:
    csr = _key().public_bytes(Encoding.PEM).decode()
    commitment = commitment_to(NONCE)
    by_code = v1.Application(role="cell", id="c1", csr=csr, commitment=commitment)
    by_token = v1.Application(role="gateway", id="g1", csr=csr, token_secret=bytes(16))
    application, nonce = v1.JoinMessage(application=by_code), v1.JoinMessage(nonce=NONCE)
    return [
        packed((0, bytes(application)), (0, bytes(nonce))),
        packed((0, bytes(v1.JoinMessage(application=by_token)))),
        packed((0, bytes(nonce)), (0, bytes(application))),
        packed((0, bytes(application)), (0, bytes(v1.JoinMessage(nonce=bytes(32))))),
    ]


TARGETS = [Target("door", _join, _conversations, longest_bytes=2000)]
