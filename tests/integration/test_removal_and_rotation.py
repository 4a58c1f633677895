"""Who is shut out stays out everywhere, and a zone moves to another authority without losing anybody."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from nano.contracts.nano import v1
from nano.fabric.identity.authority import LIFETIME, Authority
from nano.fabric.identity.folder import read_certificate
from nano.fabric.identity.identity import authority_fingerprint, verify_issued
from nano.fabric.identity.trust import ZoneTrust
from nano.model.errors import Conflict, Forbidden, Unreachable
from nano.model.membership import Phase
from nano.model.peers import Peer, Role
from nano.shelf import Shelf
from services.scheduler.inventory import Inventory
from tests.support.doors import PATIENCE_S, SCHEDULER, Door, Zone, short_folder

CELL = Peer(Role.CELL, "c1")
OTHER = Peer(Role.CELL, "c2")
GATEWAY = Peer(Role.GATEWAY, "g1")
IMAGESTORE = Peer(Role.IMAGESTORE, "main")


@pytest.fixture
def zone() -> Iterator[Zone]:
    with short_folder() as folder:
        yield Zone(folder)


@contextlib.asynccontextmanager
async def _member(zone: Zone, door: Door, peer: Peer) -> AsyncIterator[v1.StepsStub]:
    """A member that is linked and knows what is trusted; a stub of it for the scheduler."""
    known = (zone.identity(peer) / "certificate.pem").exists()
    token = "" if known else await door.token(peer.role)
    async with zone.joined(peer, token=token):
        await zone.linked(door, peer)
        await door.known_by(peer)
        yield v1.StepsStub(door.fabric.channel(peer.role, peer.id))


# ------------------------------------------------------------------ removal


async def test_a_removal_closes_open_links_at_once_and_everywhere(zone: Zone) -> None:
    async with zone.scheduler() as door, _member(zone, door, IMAGESTORE):
        token = await door.token(Role.CELL)
        async with zone.joined(CELL, token=token) as (place, _):
            await zone.linked(door, CELL)
            stub = v1.StepsStub(place.fabric.channel(IMAGESTORE.role, IMAGESTORE.id))
            assert (await stub.ask(v1.StepRef(task="t"), timeout=5)).task == "t"
            links = [link for link in place.fabric.links if link.is_up]
            assert {link.peer for link in links} >= {SCHEDULER, IMAGESTORE}
            await door.remove(CELL)
            async with asyncio.timeout(PATIENCE_S):
                for link in links:
                    await link.wait_closed()
            with pytest.raises((Forbidden, Unreachable), match=r"removed|ended"):
                await stub.ask(v1.StepRef(task="t"), timeout=5)
        await door.known_by(IMAGESTORE)
        assert CELL not in door.book.members


async def test_who_comes_and_goes_is_in_the_schedulers_log_once(zone: Zone) -> None:
    with capture_logs() as lines:
        async with zone.scheduler() as door:
            token = await door.token(Role.CELL)
            async with zone.joined(CELL, token=token):
                await zone.linked(door, CELL)
                await door.known_by(CELL)
                await door.remove(CELL)
                await door.until(lambda: CELL not in door.book.members)
    key = door.book.removals.popitem()[0][:16]
    told = [line for line in lines if line.get("id") == CELL.id and line["event"].startswith("member.")]
    assert [(line["event"], line["key"], line.get("how")) for line in told] == [
        ("member.joined", key, "token"),
        ("member.removed", key, None),
    ]


async def test_a_removal_holds_while_the_scheduler_is_down_and_after_a_restart(zone: Zone) -> None:
    async with zone.scheduler() as door, _member(zone, door, CELL), _member(zone, door, IMAGESTORE):
        await door.remove(CELL)
        await door.known_by(IMAGESTORE)
    for _ in range(2):
        async with zone.joined(IMAGESTORE), zone.joined(CELL) as (place, _):
            stub = v1.StepsStub(place.fabric.channel(IMAGESTORE.role, IMAGESTORE.id))
            with pytest.raises((Forbidden, Unreachable), match="removed from the zone"):
                await stub.ask(v1.StepRef(task="t"), timeout=8)


async def test_who_was_away_hears_of_a_removal_when_it_is_back(zone: Zone) -> None:
    async with zone.scheduler() as door:
        async with _member(zone, door, CELL), _member(zone, door, IMAGESTORE):
            pass
        await door.remove(CELL)
        assert zone.folder_of(IMAGESTORE).trust() != door.grants.trust()
        async with _member(zone, door, IMAGESTORE):
            assert zone.folder_of(IMAGESTORE).trust() == door.grants.trust()


async def test_a_removal_is_durable_at_the_peer_before_it_says_so(zone: Zone) -> None:
    async with zone.scheduler() as door, _member(zone, door, CELL), _member(zone, door, IMAGESTORE):
        await door.remove(CELL)
        await door.until(lambda: door.book.members[IMAGESTORE].trust_revision >= door.book.trust_revision)
        kept = zone.folder_of(IMAGESTORE).trust()
        assert kept is not None
        assert [each.id for each in kept.removals] == [CELL.id]


async def test_a_zone_put_back_from_a_backup_is_listened_to_again(zone: Zone) -> None:
    """Its members know a larger revision than its book: what it trusts must still reach them."""
    async with zone.scheduler() as door, _member(zone, door, IMAGESTORE):
        zone.folder_of(IMAGESTORE).trusts(
            ZoneTrust(door.grants.zone, door.book.trust_revision + 50, door.authority.pems)
        )
    async with zone.scheduler() as door, _member(zone, door, IMAGESTORE):
        await door.until(lambda: door.book.trust_revision > 50)
        await door.known_by(IMAGESTORE)
        assert zone.folder_of(IMAGESTORE).trust() == door.grants.trust()


async def test_a_member_that_always_knows_more_does_not_drive_the_zone_on(zone: Zone) -> None:
    """One lie would be told to all, who would answer, and be followed by the next lie."""
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        async with _member(zone, door, IMAGESTORE):
            told = door.book.trust_revision
            lie = ZoneTrust(door.grants.zone, told + 50, door.authority.pems)
            zone.folder_of(IMAGESTORE).trusts(lie)
            await door.remove(CELL)
            await door.until(lambda: door.book.members[IMAGESTORE].trust_revision == told + 50)
            assert door.book.trust_revision == told + 1


# ------------------------------------------------------------------ rotation


def _signer(zone: Zone, peer: Peer) -> str:
    return zone.folder_of(peer).issuer


async def _rotate(door: Door, *, leave_behind: bool = False) -> None:
    await door.admissions.rotate_authority(v1.RotateAuthorityRequest(leave_behind=leave_behind))


async def test_a_rotation_waits_for_who_is_away_and_then_ends_by_itself(zone: Zone) -> None:
    async with zone.scheduler() as door:
        old = door.authority.fingerprint
        async with _member(zone, door, OTHER):
            pass  # away from now on
        async with _member(zone, door, CELL) as stub, _member(zone, door, GATEWAY):
            links = [link for link in door.fabric.links if link.is_up and link.peer == CELL]
            await _rotate(door)
            await door.known_by(CELL, GATEWAY, SCHEDULER)
            assert door.book.trust.phase is Phase.INTRODUCING
            assert door.book.waiting_for() == ["cell/c2"]
            assert _signer(zone, CELL) == old
            async with _member(zone, door, OTHER):
                await door.phase(Phase.STEADY)
            new = door.authority.fingerprint
            assert new != old
            await door.known_by(CELL, GATEWAY)
            for peer in (CELL, GATEWAY, OTHER, SCHEDULER):
                assert _signer(zone, peer) == new
            assert (await stub.ask(v1.StepRef(task="t"), timeout=5)).task == "t"
            assert [link for link in links if link.is_up] == links  # not one was dialled anew for it
        files = {path.name for path in (zone.folder / "authority").glob("authority*.pem")}
        assert files == {f"authority-{new[:16]}.pem"}
        async with _member(zone, door, CELL) as stub:
            assert (await stub.ask(v1.StepRef(task="t"), timeout=5)).task == "t"
        await zone.join(Peer(Role.CELL, "c3"), token=await door.token())


async def test_a_token_that_stays_in_the_configuration_binds_no_member_to_the_old_authority(
    zone: Zone,
) -> None:
    async with zone.scheduler() as door:
        token, old = await door.token(), door.authority.fingerprint
        async with zone.joined(CELL, token=token):
            await zone.linked(door, CELL)
            await _rotate(door)
            await door.until(
                lambda: door.book.trust.trusted != (old,) and door.book.trust.phase is Phase.STEADY
            )
        assert door.authority.fingerprint != old
    zone.moved = LIFETIME + timedelta(days=1)
    async with zone.scheduler() as door:
        await zone.join(CELL, token=token)


async def test_who_is_left_behind_comes_back_by_a_token_alone(zone: Zone) -> None:
    async with zone.scheduler() as door:
        async with _member(zone, door, OTHER):
            pass
        await _rotate(door)
        await door.known_by(SCHEDULER)
        await _rotate(door, leave_behind=True)
        await door.phase(Phase.MOVING)
        await _rotate(door, leave_behind=True)
        await door.phase(Phase.STEADY)
        async with zone.joined(OTHER):
            link_s = 1.0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(link_s):
                    await zone.linked(door, OTHER)
        (zone.identity(OTHER) / "certificate.pem").unlink()
        await zone.join(OTHER, token=await door.token())
        assert _signer(zone, OTHER) == door.authority.fingerprint


async def test_a_second_rotation_waits_until_the_first_is_over(zone: Zone) -> None:
    async with zone.scheduler() as door:
        async with _member(zone, door, OTHER):
            pass
        await _rotate(door)
        with pytest.raises(Conflict, match="is being rotated already"):
            await _rotate(door)


@pytest.mark.parametrize("phase", [Phase.INTRODUCING, Phase.MOVING])
async def test_killed_between_the_phases_a_rotation_goes_on(zone: Zone, phase: Phase) -> None:
    """The book is as it was after the phase began, and nothing that follows from it was done yet."""
    async with zone.scheduler() as door, _member(zone, door, CELL):
        old = door.authority.fingerprint
    new = await _phase_begun(zone, phase)
    async with zone.scheduler() as door, _member(zone, door, CELL) as stub:
        await door.phase(Phase.STEADY)
        assert door.book.trust.trusted == (new,)
        assert _signer(zone, CELL) == new != old
        assert (await stub.ask(v1.StepRef(task="t"), timeout=5)).task == "t"


async def _phase_begun(zone: Zone, phase: Phase) -> str:
    authority = Authority.open(zone.folder / "authority", zone.clock())
    old, new = authority.fingerprint, authority.make_next(zone.clock())
    authority.follow([old, new])
    async with Shelf.open(zone.folder / "shelf", Inventory) as shelf:
        book = shelf.book.membership
        shelf.commit(*book.rotate(new))
        if phase is Phase.MOVING:
            told = ZoneTrust(authority.zone.id, book.trust_revision, authority.pems)
            for peer in book.members:
                zone.folder_of(peer).trusts(told)
                shelf.commit(*book.acknowledged(peer, book.trust_revision, old))
            shelf.commit(*book.advance())
        assert book.trust.phase is phase
    return new


async def test_a_key_that_was_made_for_a_rotation_that_never_began_goes(zone: Zone) -> None:
    async with zone.scheduler() as door:
        old = door.authority.fingerprint
    Authority.open(zone.folder / "authority", zone.clock()).make_next(zone.clock())
    async with zone.scheduler() as door:
        assert door.authority.trusted == (old,)
    assert [path.name for path in (zone.folder / "authority").glob("authority*.pem")] == ["authority.pem"]


async def test_a_local_service_moves_over_its_socket(zone: Zone) -> None:
    async with zone.scheduler() as door, zone.joined(IMAGESTORE, enrolment=str(zone.socket)):
        await zone.linked(door, IMAGESTORE)
        await door.known_by(IMAGESTORE)
        await _rotate(door)
        await door.phase(Phase.MOVING)
        await door.phase(Phase.STEADY)
        certificate = read_certificate((zone.identity(IMAGESTORE) / "certificate.pem").read_text())
        issuer = verify_issued(certificate, door.authority.certificates)
        assert authority_fingerprint(issuer) == door.authority.fingerprint
