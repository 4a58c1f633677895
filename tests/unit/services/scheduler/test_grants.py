"""Book and authority meet: what is granted, trusted and forgotten."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from nano.fabric.identity.authority import Authority
from nano.fabric.identity.identity import authority_fingerprint, fingerprint_of, verify_issued
from nano.model.errors import Conflict, Corrupt
from nano.model.membership import How
from nano.model.peers import Peer, Role
from nano.shelf import Shelf
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory
from tests.support.certificates import signing_request

CELL = Peer(Role.CELL, "c1")
NOW_MS = 1_770_000_000_000


def now_ms() -> int:
    return NOW_MS


def clock() -> datetime:
    return datetime.fromtimestamp(NOW_MS / 1000, UTC)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Inventory]]:
    async with Shelf.open(tmp_path / "shelf", Inventory) as opened:
        yield opened


def grants(shelf: Shelf[Inventory], folder: Path) -> tuple[Grants, Authority]:
    authority = Authority.open(folder / "authority", clock())
    return Grants(shelf, authority, now_ms, clock), authority


async def test_a_book_without_an_authority_takes_the_one_that_is_there(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, authority = grants(shelf, tmp_path)
    assert shelf.book.membership.trust.trusted == (authority.fingerprint,)
    assert made.trust().authorities == authority.pems
    assert made.trust().revision == shelf.book.membership.trust_revision > 0


async def test_a_book_that_trusts_another_authority_is_told_from_a_lost_file(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    shelf.commit(*shelf.book.membership.first_authority("ab" * 32))
    with pytest.raises(Corrupt, match="put it back from a backup"):
        grants(shelf, tmp_path)


async def test_who_is_let_in_locally_is_a_member_and_another_key_shuts_the_first_out(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, _ = grants(shelf, tmp_path)
    made.enrolled(CELL, "aa" * 32)
    assert shelf.book.membership.members[CELL].how is How.LOCAL
    made.enrolled(CELL, "bb" * 32)
    assert [each.fingerprint for each in made.trust().removals] == ["aa" * 32]


async def test_what_was_let_in_otherwise_is_not_taken_over_locally(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, _ = grants(shelf, tmp_path)
    shelf.commit(*shelf.book.membership.enrolled(CELL, "aa" * 32, How.TOKEN, NOW_MS))
    with pytest.raises(Conflict):
        made.enrolled(CELL, "bb" * 32)


async def test_a_grant_is_signed_by_the_authority_that_the_book_puts_first(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, authority = grants(shelf, tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    shelf.commit(*shelf.book.membership.enrolled(CELL, fingerprint_of(key.public_key()), How.TOKEN, NOW_MS))
    new = made.next_authority()
    shelf.commit(*shelf.book.membership.rotate(new))
    shelf.commit(*shelf.book.membership.leave_behind())
    shelf.commit(*shelf.book.membership.advance())
    granted = await made.grant(signing_request(key), CELL)
    issued = x509.load_pem_x509_certificate(granted.certificate.encode())
    assert authority_fingerprint(verify_issued(issued, authority.certificates)) == new
    assert granted.trust is not None
    assert len(granted.trust.authorities) == 2
    assert shelf.durable_revision == shelf.revision


async def test_the_challenge_is_the_same_for_the_same_commitment_and_for_no_other(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, _ = grants(shelf, tmp_path)
    again, _ = grants(shelf, tmp_path)
    challenge = made.challenge("aa" * 32, CELL, b"c" * 32)
    assert len(challenge) == 32
    assert again.challenge("aa" * 32, CELL, b"c" * 32) == challenge
    assert made.challenge("bb" * 32, CELL, b"c" * 32) != challenge
    assert made.challenge("aa" * 32, CELL, b"d" * 32) != challenge
    assert made.challenge("aa" * 32, Peer(Role.CELL, "other"), b"c" * 32) != challenge


async def test_the_keys_of_authorities_that_are_trusted_no_more_go(
    shelf: Shelf[Inventory], tmp_path: Path
) -> None:
    made, authority = grants(shelf, tmp_path)
    made.next_authority()
    made.settled()
    assert [path.name for path in (tmp_path / "authority").glob("authority*.pem")] == ["authority.pem"]
    assert authority.trusted == shelf.book.membership.trust.trusted
