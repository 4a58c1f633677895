"""What is said at the door is taken step by step, and what is not meant is refused before the book knows of
it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.calls.caller import Caller, answering
from nano.fabric.identity.authority import Authority
from nano.fabric.identity.identity import fingerprint_of, spki_of
from nano.fabric.joining.join_token import secret_digest
from nano.fabric.joining.short_code import commitment_to, short_code
from nano.fabric.links.sparing import LINES
from nano.model.errors import Forbidden, Invalid, NanoError
from nano.model.membership import How, JoinToken
from nano.model.peers import Peer, Role
from nano.shelf import Shelf
from services.scheduler.door import DoorRpc
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory
from tests.support.certificates import signing_request

NOW_MS = 1_770_000_000_000
KEY = ec.generate_private_key(ec.SECP256R1())
FINGERPRINT = fingerprint_of(KEY.public_key())
CSR = signing_request(KEY).public_bytes(Encoding.PEM).decode()
OTHER_CSR = signing_request(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM).decode()
CELL = Peer(Role.CELL, "c1")
NONCE = b"n" * 32
SECRET = b"s" * 16


@dataclass
class Desk:
    """A door, its book and its bell, without a network."""

    door: DoorRpc
    shelf: Shelf[Inventory]
    authority: Authority
    bell: Bell

    def said(self, *messages: v1.JoinMessage, key: str = FINGERPRINT) -> AsyncIterator[v1.JoinReply]:
        async def one_by_one() -> AsyncIterator[v1.JoinMessage]:
            for message in messages:
                yield message

        async def conversation() -> AsyncIterator[v1.JoinReply]:
            with answering(Caller(Peer(Role.APPLICANT, key), None, "", key, "10.0.0.7")):
                async with contextlib.aclosing(cast("Any", self.door.join(one_by_one()))) as replies:
                    async for reply in replies:
                        yield reply

        return conversation()

    def admit(self) -> None:
        membership = self.shelf.book.membership
        self.shelf.commit(*membership.admit(FINGERPRINT, NOW_MS))
        self.bell.ring()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    async with Shelf.open(tmp_path / "shelf", Inventory) as shelf:
        authority = Authority.open(tmp_path / "authority", now)
        grants = Grants(shelf, authority, lambda: NOW_MS, lambda: now)
        bell = Bell()
        door = DoorRpc(shelf, grants, lambda: authority.certificate, bell, lambda: NOW_MS)
        yield Desk(door, shelf, authority, bell)


def application(**more: object) -> v1.JoinMessage:
    said: dict[str, object] = {
        "role": "cell",
        "id": "c1",
        "csr": CSR,
        "commitment": commitment_to(NONCE),
    }
    return v1.JoinMessage(application=v1.Application(**(said | more)))  # type: ignore[arg-type]


async def test_both_sides_have_the_code_before_anybody_waits(desk: Desk) -> None:
    replies = desk.said(application(), v1.JoinMessage(nonce=NONCE))
    challenge = (await anext(replies)).challenge
    assert challenge is not None
    assert desk.shelf.book.membership.applicants == {}
    code = (await anext(replies)).code
    authority = desk.authority.certificate.public_bytes(Encoding.DER)
    assert code == short_code(spki_of(KEY.public_key()), authority, NONCE, challenge)
    waiting = desk.shelf.book.membership.applicants[FINGERPRINT]
    assert (waiting.code, waiting.host, waiting.present) == (code, "10.0.0.7", True)
    desk.admit()
    grant = (await anext(replies)).grant
    assert grant is not None
    assert grant.zone == desk.authority.zone.id
    assert desk.shelf.book.membership.members[CELL].how is How.ADMITTED


async def test_under_another_name_the_same_key_and_nonce_have_another_code(desk: Desk) -> None:
    """Or a server could change its name after its code was read, and before it is admitted by that."""
    codes = []
    for name in ("c1", "c2", "c1"):
        replies = desk.said(application(id=name), v1.JoinMessage(nonce=NONCE))
        await anext(replies)
        codes.append((await anext(replies)).code)
        await replies.aclose()  # type: ignore[attr-defined]
    assert codes[0] == codes[2] != codes[1]


async def test_who_leaves_keeps_its_place_and_is_shown_as_away(desk: Desk) -> None:
    replies = desk.said(application(), v1.JoinMessage(nonce=NONCE))
    await anext(replies)
    await anext(replies)
    await replies.aclose()  # type: ignore[attr-defined]
    assert desk.shelf.book.membership.applicants[FINGERPRINT].present is False


async def test_a_member_that_lost_its_certificate_needs_nobody(desk: Desk) -> None:
    desk.shelf.commit(*desk.shelf.book.membership.enrolled(CELL, FINGERPRINT, How.ADMITTED, NOW_MS))
    (reply,) = [each async for each in desk.said(application())]
    assert reply.grant is not None


async def test_a_token_needs_nobody_either(desk: Desk) -> None:
    token = JoinToken("t", secret_digest(SECRET), Role.CELL, "", NOW_MS, NOW_MS + 60_000)
    desk.shelf.commit(*desk.shelf.book.membership.create_token(token))
    (reply,) = [each async for each in desk.said(application(token_secret=SECRET))]
    assert reply.grant is not None
    assert desk.shelf.book.membership.tokens["t"].used_by == FINGERPRINT


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ((), "step"),
        ((v1.JoinMessage(nonce=NONCE),), "application"),
        ((v1.JoinMessage(),), "application"),
        ((application(role="scheduler"),), "role"),
        ((application(role="applicant"),), "role"),
        ((application(role=""),), "role"),
        ((application(id="no/slash"),), "id"),
        ((application(csr=""),), "csr"),
        ((application(csr=OTHER_CSR),), "csr"),
        ((application(commitment=b"short"),), "commitment"),
        ((application(),), "step"),
        ((application(), v1.JoinMessage(nonce=b"m" * 32)), "nonce"),
        ((application(), v1.JoinMessage(nonce=b"")), "nonce"),
        ((application(), application()), "nonce"),
    ],
)
async def test_what_is_not_meant_is_refused_with_its_field(
    desk: Desk, messages: tuple[v1.JoinMessage, ...], field: str
) -> None:
    before = desk.shelf.revision
    with pytest.raises(Invalid) as refused:
        [each async for each in desk.said(*messages)]
    assert refused.value.field == field
    assert desk.shelf.revision == before


STEPS = st.one_of(
    st.just(v1.JoinMessage()),
    st.binary(max_size=40).map(lambda nonce: v1.JoinMessage(nonce=nonce)),
    st.builds(
        application,
        role=st.sampled_from(["cell", "gateway", "scheduler", "", "king"]),
        id=st.text(max_size=70),
        csr=st.sampled_from([CSR, OTHER_CSR, "", "-----BEGIN CERTIFICATE REQUEST-----"]),
        token_secret=st.binary(max_size=20),
        commitment=st.binary(max_size=40),
    ),
)


@given(st.lists(STEPS, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_said_it_ends_in_an_error_and_lets_nobody_in(
    desk: Desk, messages: list[v1.JoinMessage]
) -> None:
    with pytest.raises(NanoError):
        [each async for each in desk.said(*messages)]
    membership = desk.shelf.book.membership
    assert (membership.members, membership.applicants) == ({}, {})


async def test_a_renewal_is_for_the_callers_own_name_and_key(desk: Desk) -> None:
    desk.shelf.commit(*desk.shelf.book.membership.enrolled(CELL, FINGERPRINT, How.TOKEN, NOW_MS))
    with answering(Caller(CELL, None, "", FINGERPRINT)):
        assert (await desk.door.renew(v1.RenewRequest(csr=CSR))).certificate
        with pytest.raises(Invalid, match="another key"):
            await desk.door.renew(v1.RenewRequest(csr=OTHER_CSR))
    with answering(Caller(Peer(Role.CELL, "c2"), None, "", FINGERPRINT)), pytest.raises(Forbidden):
        await desk.door.renew(v1.RenewRequest(csr=CSR))
    desk.shelf.commit(*desk.shelf.book.membership.remove(CELL, NOW_MS))
    with answering(Caller(CELL, None, "", FINGERPRINT)), pytest.raises(Forbidden, match="removed"):
        await desk.door.renew(v1.RenewRequest(csr=CSR))


async def test_who_is_turned_away_is_seen_in_the_log_but_not_without_end(desk: Desk) -> None:
    with capture_logs() as lines:
        for _ in range(2 * LINES):
            with pytest.raises(Forbidden):
                [each async for each in desk.said(application(token_secret=SECRET))]
    assert [line["event"] for line in lines] == ["door.refused"] * LINES
    assert lines[0] == {
        "event": "door.refused",
        "log_level": "info",
        "role": "cell",
        "id": "c1",
        "key": FINGERPRINT[:16],
        "host": "10.0.0.7",
        "reason": "this join token is not known here: it was revoked, or is of another zone",
        "left_out": 0,
    }


async def test_who_is_let_in_is_none_that_was_turned_away(desk: Desk) -> None:
    desk.shelf.commit(*desk.shelf.book.membership.enrolled(CELL, FINGERPRINT, How.ADMITTED, NOW_MS))
    with capture_logs() as lines:
        [each async for each in desk.said(application())]
    assert lines == []
