"""What administrators ask of the scheduler: durable when it is answered, refused with the reason."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from nano.contracts.nano import v1
from nano.fabric.joining import join_token
from nano.model.errors import Conflict, Invalid, NotFound
from nano.model.ids import CellId, PoolName
from nano.model.membership import Applicant, How, Phase
from nano.model.peers import Peer, Role
from nano.model.pool import Pool, Presence
from nano.saga.engine import Engine
from nano.shelf import Shelf
from services.scheduler.admissions import AdmissionsRpc
from services.scheduler.inventory import CellGone, CellPut, Change, InstancePut, Inventory, PoolPut
from services.scheduler.invitations import Invitations
from services.scheduler.membership import (
    ApplicantGone,
    MemberGone,
    RemovalGone,
    TokenGone,
)
from services.scheduler.rpc import told, whole
from services.scheduler.tasks import SAGAS
from tests.support.absent import Nobody
from tests.support.nouns import CELL, INSTANCE

PEER = Peer(Role.CELL, CELL.id)
KEY = "a1" * 32
OLD, NEW = "0a" * 32, "0b" * 32
NOW = 1_000_000


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Inventory]]:
    async with Shelf.open(tmp_path, Inventory) as opened:
        opened.commit(PoolPut(Pool(PoolName("default"))), CellPut(CELL))
        opened.commit(*opened.book.membership.first_authority(OLD))
        yield opened


@pytest.fixture
def rpc(shelf: Shelf[Inventory]) -> AdmissionsRpc:
    made: list[str] = []

    def next_authority() -> str:
        assert not made, "a key was made for a rotation that cannot begin"
        made.append(NEW)
        return NEW

    engine = Engine(shelf, SAGAS, Nobody(), now_ms=lambda: NOW)
    return AdmissionsRpc(
        shelf, engine, Invitations("0011", lambda: ["10.0.0.1:5600"] * 20), next_authority, lambda: NOW
    )


def applicant(name: str = CELL.id) -> Applicant:
    return Applicant(KEY, Role.CELL, name, "10.0.0.7", "7K2M-Q0XD", 5, present=True)


async def test_a_token_says_whom_it_trusts_and_the_book_keeps_no_secret(
    shelf: Shelf[Inventory], rpc: AdmissionsRpc
) -> None:
    reply = await rpc.create_token(v1.CreateTokenRequest(role="gateway", id="two", lifetime_s=60))
    assert shelf.durable_revision >= reply.revision
    text = join_token.decode(reply.token)
    assert (text.zone, text.role, text.id, text.expires_ms) == ("0011", Role.GATEWAY, "two", NOW + 60_000)
    assert text.authorities == (bytes.fromhex(OLD),)
    assert len(text.schedulers) == 16
    kept = shelf.book.membership.tokens[reply.id]
    assert kept.digest == join_token.secret_digest(text.secret)
    assert text.secret.hex() not in repr(shelf.book.snapshot())
    await rpc.revoke_token(v1.TokenRef(id=reply.id))
    assert not shelf.book.membership.tokens
    with pytest.raises(NotFound):
        await rpc.revoke_token(v1.TokenRef(id=reply.id))


@pytest.mark.parametrize("role", ["", "king", "admin", "scheduler"])
async def test_a_token_for_a_role_that_nobody_joins_as_is_refused(rpc: AdmissionsRpc, role: str) -> None:
    with pytest.raises(Invalid) as refused:
        await rpc.create_token(v1.CreateTokenRequest(role=role, lifetime_s=60))
    assert refused.value.field == "role"


async def test_an_applicant_is_admitted_by_its_code_or_refused(
    shelf: Shelf[Inventory], rpc: AdmissionsRpc
) -> None:
    shelf.commit(*shelf.book.membership.applied(applicant()))
    with pytest.raises(Conflict, match="somebody stands in between"):
        await rpc.admit(v1.ApplicantRef(fingerprint=KEY, code="0000-0000"))
    await rpc.refuse(v1.ApplicantRef(fingerprint="a1"))
    assert shelf.book.membership.applicants[KEY].refused_until_ms > NOW
    await rpc.admit(v1.ApplicantRef(fingerprint="A1", code="7k2m q0xd"))
    assert shelf.book.membership.member(PEER).how is How.ADMITTED


async def test_a_removed_cell_that_holds_instances_stays_on_record(
    shelf: Shelf[Inventory], rpc: AdmissionsRpc
) -> None:
    shelf.commit(InstancePut(INSTANCE), *shelf.book.membership.enrolled(PEER, KEY, How.TOKEN, 1))
    reply = await rpc.remove_peer(v1.MemberRef(role="cell", id=CELL.id))
    assert shelf.durable_revision >= reply.revision
    assert KEY in shelf.book.membership.removals
    assert shelf.book.cells[CELL.id].presence is Presence.REMOVED
    other = Peer(Role.CELL, "Cell_00163e000009")
    shelf.commit(*shelf.book.membership.enrolled(other, "b1" * 32, How.TOKEN, 1))
    shelf.commit(*shelf.book.cell_seen(CellId(other.id), "", 2, None))
    await rpc.remove_peer(v1.MemberRef(role="cell", id=other.id))
    assert other.id not in shelf.book.cells
    with pytest.raises(NotFound):
        await rpc.remove_peer(v1.MemberRef(role="cell", id=other.id))


async def test_a_rotation_makes_one_key_and_none_while_another_is_under_way(
    shelf: Shelf[Inventory], rpc: AdmissionsRpc
) -> None:
    shelf.commit(*shelf.book.membership.enrolled(PEER, KEY, How.TOKEN, 1))
    with pytest.raises(Conflict):
        await rpc.rotate_authority(v1.RotateAuthorityRequest(leave_behind=True))
    await rpc.rotate_authority(v1.RotateAuthorityRequest())
    assert shelf.book.membership.trust.trusted == (OLD, NEW)
    with pytest.raises(Conflict, match=f"cell/{CELL.id}"):
        await rpc.rotate_authority(v1.RotateAuthorityRequest())
    await rpc.rotate_authority(v1.RotateAuthorityRequest(leave_behind=True))
    assert shelf.book.membership.trust.left_behind == (str(PEER),)
    assert shelf.book.membership.trust.phase is Phase.INTRODUCING


# ------------------------------------------------------------------ what a watcher sees


def applied(book: Inventory, changes: Sequence[Change]) -> Inventory:
    for change in changes:
        book.apply(change)
    return book


def test_a_watcher_sees_the_whole_door_and_nothing_secret() -> None:
    book = Inventory()
    token, secret = Invitations("0011", list).new(Role.CELL, "", 1, 2000)
    applied(book, book.membership.first_authority(OLD))
    applied(book, book.membership.create_token(token))
    applied(book, book.membership.enrolled(PEER, "b2" * 32, How.LOCAL, 1))
    applied(book, book.remove_member(PEER, 5))
    applied(book, book.membership.enrolled(PEER, "b3" * 32, How.LOCAL, 6))
    applied(book, book.membership.applied(applicant("Cell_2")))
    message = whole(book)
    assert [one.id for one in message.join_tokens] == [token.id]
    assert [one.fingerprint for one in message.applicants] == [KEY]
    assert [one.fingerprint for one in message.members] == ["b3" * 32]
    assert [one.fingerprint for one in message.removals] == ["b2" * 32]
    assert [(one.phase, one.revision) for one in message.authorities] == [("steady", 2)]
    assert token.digest.encode() not in bytes(message)
    assert secret not in bytes(message)


def test_a_watcher_is_told_who_came_who_went_and_what_is_trusted() -> None:
    book = Inventory()
    token, _ = Invitations("0011", list).new(Role.CELL, "", 1, 2000)
    made = book.membership.create_token(token)
    message = told(applied(book, made), tuple(made))
    assert message is not None
    assert ([one.id for one in message.join_tokens], message.authorities) == ([token.id], [])
    assert token.digest.encode() not in bytes(message)
    gone = (
        CellGone(CELL.id),
        MemberGone(Role.CELL, CELL.id),
        ApplicantGone(KEY),
        TokenGone(token.id),
        RemovalGone(OLD),
    )
    message = told(book, gone)
    assert message is not None
    assert [(one.kind, one.id) for one in message.gone] == [
        ("cell", CELL.id),
        ("member", str(PEER)),
        ("applicant", KEY),
        ("join_token", token.id),
        ("removal", OLD),
    ]
    assert len(message.authorities) == 1


def test_while_the_authority_is_rotated_a_watcher_is_told_whom_that_waits_for() -> None:
    book = applied(Inventory(), Inventory().membership.first_authority(OLD))
    applied(book, book.membership.enrolled(PEER, KEY, How.LOCAL, 1))
    known = book.membership.acknowledged(PEER, 1, OLD)
    message = told(applied(book, known), tuple(known))
    assert message is not None
    assert message.authorities == []
    began = book.membership.rotate(NEW)
    message = told(applied(book, began), tuple(began))
    assert message is not None
    assert list(message.authorities[0].waiting_for) == [str(PEER)]
    known = book.membership.acknowledged(PEER, book.membership.trust_revision, OLD)
    message = told(applied(book, known), tuple(known))
    assert message is not None
    assert list(message.authorities[0].waiting_for) == []
