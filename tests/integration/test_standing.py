"""A server knows how it stands with its zone, says so, and comes back by a new token when it is out of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from nano import joining, outlook
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity, Removed
from nano.fabric.joining import join_token, standing
from nano.fabric.joining.applicant import ApplicantCredentials, linked
from nano.fabric.joining.standing import State
from nano.model.errors import Cancelled, Forbidden, NanoError
from nano.model.membership import Phase
from nano.model.peers import Peer, Role
from nano.service import Discovery
from tests.support.certificates import issue, make_zone
from tests.support.doors import PATIENCE_S, SCHEDULER, Door, Zone, short_folder
from tests.support.heard_logs import heard_logs
from tests.support.udp_relay import Relay

CELL = Peer(Role.CELL, "c1")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    monkeypatch.setattr(outlook, "FIRST_S", 0.5)
    with short_folder() as folder:
        yield Zone(folder)


def _where(zone: Zone, at: str) -> Discovery:
    """No multicast that leads anywhere; the scheduler is there."""
    return Discovery(
        zone.domain, port=zone.group_port + 1, interfaces=("127.0.0.1",), peers={"scheduler/main": at}
    )


@contextlib.asynccontextmanager
async def _runs(zone: Zone, **settings: object) -> AsyncIterator[None]:
    async with zone.joined(CELL, **settings):
        yield


async def _is(zone: Zone, state: State, since_ms: int = 0) -> standing.Standing:
    return await zone.stands(CELL, lambda found: found.state is state and found.said_ms >= since_ms)


async def test_who_is_let_in_and_heard_says_so_with_the_token_that_it_used(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token()
        async with _runs(zone, token=token):
            found = await _is(zone, State.JOINED)
            assert found.token == join_token.decode(token).name
            assert found.heard_ms


async def test_a_member_that_starts_again_hears_that_it_still_is_one(zone: Zone) -> None:
    """Told by the scheduler, or where the scheduler does not find it by asking."""
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        for settings in ({}, {"discovery": _where(zone, f"127.0.0.1:{zone.port}")}):
            since_ms = zone.now_ms()
            async with _runs(zone, **settings):
                assert (await _is(zone, State.JOINED, since_ms)).heard_ms >= since_ms


async def test_who_is_removed_while_it_runs_knows_it_at_once(zone: Zone) -> None:
    async with zone.scheduler() as door, contextlib.AsyncExitStack() as up:
        await up.enter_async_context(_runs(zone, token=await door.token()))
        await zone.linked(door, CELL)
        await door.known_by(CELL)
        await door.remove(CELL)
        assert "was removed" in (await _is(zone, State.REMOVED)).why


async def test_who_was_removed_while_it_was_off_finds_out_when_it_is_back(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        await door.remove(CELL)
        async with _runs(zone):
            await _is(zone, State.REMOVED)


@pytest.mark.parametrize("knows", [True, False])
async def test_who_was_removed_comes_back_by_a_new_token_with_another_key(zone: Zone, *, knows: bool) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        await door.remove(CELL)
        if knows:
            async with _runs(zone):
                await _is(zone, State.REMOVED)
        async with _runs(zone, token=await door.token()):
            await _is(zone, State.JOINED)
            after = zone.folder_of(CELL).fingerprint
            assert door.book.members[CELL].fingerprint == after != before
        assert not list(zone.identity(CELL).glob("*.before"))


async def test_a_removal_is_not_undone_by_the_token_that_it_came_by(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token()
        await zone.join(CELL, token=token)
        before = zone.folder_of(CELL).fingerprint
        await door.remove(CELL)
        for _ in range(2):
            async with _runs(zone, token=token):
                await _is(zone, State.REMOVED, zone.now_ms())
        assert zone.folder_of(CELL).fingerprint == before
        assert CELL not in door.book.members


async def _revoked(door: Door) -> str:
    token = await door.token()
    await door.admissions.revoke_token(v1.TokenRef(id=join_token.decode(token).name))
    return token


@pytest.mark.parametrize("knows", [True, False])
async def test_a_removed_server_whose_new_token_is_refused_keeps_its_key_and_runs(
    zone: Zone, *, knows: bool
) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        revoked = await _revoked(door)
        await door.remove(CELL)
        if knows:
            async with _runs(zone):
                await _is(zone, State.REMOVED)
        async with _runs(zone, token=revoked):
            assert zone.folder_of(CELL).fingerprint == before
            await _is(zone, State.REMOVED)
        assert not list(zone.identity(CELL).glob("*.before"))


async def test_a_token_that_cannot_fit_costs_a_removed_server_no_key(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        await door.remove(CELL)
        async with _runs(zone):
            await _is(zone, State.REMOVED)
        async with _runs(zone, token=await door.token(Role.GATEWAY)):
            assert zone.folder_of(CELL).fingerprint == before
            assert not zone.folder_of(CELL).has_former_key
            await _is(zone, State.REMOVED)


async def test_a_key_that_a_crash_left_aside_is_back_when_the_other_is_refused(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        revoked = await _revoked(door)
        await door.remove(CELL)
        zone.folder_of(CELL).another_key()  # killed right behind this
        standing.Note(zone.identity(CELL), zone.now_ms).says(State.ASKS)
        async with _runs(zone, token=revoked):
            assert zone.folder_of(CELL).fingerprint == before
            await _is(zone, State.REMOVED)
        assert not list(zone.identity(CELL).glob("*.before"))


class _LosesTheGrant(Relay):
    """From the moment at which the scheduler has let the cell in, nothing that it says arrives."""

    def __init__(self, door: Door) -> None:
        super().__init__(door.fabric.address)
        self._door = door
        self.has_lost = asyncio.Event()

    def _from_target(self, data: bytes, address: tuple[str, int]) -> None:
        if CELL in self._door.book.members:
            self.has_lost.set()
        else:
            super()._from_target(data, address)


async def test_who_is_stopped_while_its_grant_is_on_its_way_is_let_in_at_the_next_start(zone: Zone) -> None:
    """The name and the token are bound to its other key by then."""
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        await door.remove(CELL)
        token = await door.token()
        async with _LosesTheGrant(door).open() as relay, asyncio.TaskGroup() as jobs:
            joins = jobs.create_task(
                _is_stopped(zone.join(CELL, token=token, discovery=_where(zone, relay.address)))
            )
            await relay.has_lost.wait()
            zone.stopping.set()
            await joins
        zone.stopping.clear()
        after = zone.folder_of(CELL).fingerprint
        assert door.book.members[CELL].fingerprint == after != before
        await zone.join(CELL, token=token)
        assert zone.folder_of(CELL).fingerprint == after
        assert not list(zone.identity(CELL).glob("*.before"))


async def _is_stopped(joins: Awaitable[None]) -> None:
    with pytest.raises(Cancelled):
        await joins


async def test_a_removed_member_that_was_let_in_by_another_key_waits_for_the_grant(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a member that still is one would."""
    monkeypatch.setattr(joining, "AGAIN_S", 1.5)
    monkeypatch.setattr("nano.applying.ANSWER_S", 3.0)
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        await door.remove(CELL)
        token = await door.token()
        async with _LosesTheGrant(door).open() as relay:
            await zone.join(CELL, token=token, discovery=_where(zone, relay.address))
            assert relay.has_lost.is_set()
        assert door.book.members[CELL].fingerprint == zone.folder_of(CELL).fingerprint != before


async def test_a_new_token_of_another_zone_takes_no_member_away(zone: Zone) -> None:
    with short_folder() as elsewhere:
        other = Zone(elsewhere, group_port=zone.group_port, domain=zone.domain)
        async with zone.scheduler() as door, other.scheduler() as foreign:
            await zone.join(CELL, token=await door.token())
            with heard_logs() as logs:
                await zone.join(CELL, token=await foreign.token())
            (line,) = logs.events("token.passed_over")
            assert "nanoctl join --start-over" in line["why"]
            assert foreign.book.members.keys() == {SCHEDULER}


async def test_a_token_of_another_zone_takes_no_member_away_whose_certificate_has_ended(zone: Zone) -> None:
    with short_folder() as elsewhere:
        other = Zone(elsewhere, group_port=zone.group_port, domain=zone.domain)
        async with zone.scheduler() as door:
            await zone.join(CELL, token=await door.token())
        zone.moved = other.moved = timedelta(days=8)
        async with zone.scheduler() as door, other.scheduler() as foreign:
            with heard_logs() as logs:
                await zone.join(CELL, token=await foreign.token())
            (line,) = logs.events("token.passed_over")
            assert "nanoctl join --start-over" in line["why"]
            assert foreign.book.members.keys() == {SCHEDULER}
            assert door.book.members[CELL].fingerprint == zone.folder_of(CELL).fingerprint


async def test_a_server_that_was_removed_may_change_to_another_zone_and_is_not_held_back_by_a_stop(
    zone: Zone,
) -> None:
    with short_folder() as elsewhere:
        other = Zone(elsewhere, group_port=zone.group_port, domain=zone.domain)
        async with zone.scheduler() as door:
            await zone.join(CELL, token=await door.token())
        async with other.scheduler() as foreign:
            token = await foreign.token()
        standing.Note(zone.identity(CELL), zone.now_ms).says(State.REMOVED)
        zone.stopping.set()  # before anybody has answered
        with pytest.raises(Cancelled):
            await zone.join(CELL, token=token)
        zone.stopping.clear()
        async with other.scheduler() as foreign:
            await zone.join(CELL, token=token)
            assert foreign.book.members[CELL].fingerprint == zone.folder_of(CELL).fingerprint


async def test_a_member_whose_new_token_nobody_answers_to_goes_on(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AGAIN_S", 0.5)
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        token = await door.token()
    async with _runs(zone, token=token):
        assert zone.folder_of(CELL).kept(zone.clock()) is not None


# ------------------------------------------------------------------ refused


async def test_who_is_refused_by_an_administrator_says_so_until_it_is_admitted(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nano.applying._REFUSED_PAUSE_S", 0.2)
    async with zone.scheduler() as door, asyncio.TaskGroup() as jobs:
        joins = jobs.create_task(zone.join(CELL))
        (found,) = await door.waiting()
        await _is(zone, State.WAITS)
        await door.admissions.refuse(v1.ApplicantRef(fingerprint=found.fingerprint))
        assert "an administrator refused" in (await _is(zone, State.REFUSED)).why
        await door.admit(found)
        await joins
        assert (await _is(zone, State.JOINED)).why == ""


async def test_what_a_token_is_refused_for_is_written_down(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token()
        await zone.join(Peer(Role.CELL, "c2"), token=token)
        with pytest.raises(Forbidden):
            await zone.join(CELL, token=token)
        found = await _is(zone, State.TOKEN_REFUSED)
        assert "used by another server" in found.why
        assert found.token == join_token.decode(token).name
        gateways = await door.token(Role.GATEWAY)
        with pytest.raises(Forbidden):
            await zone.join(CELL, token=gateways)
        assert "does not let in" in (await _is(zone, State.TOKEN_REFUSED)).why


# ------------------------------------------------------------------ left behind


async def _leave_behind(zone: Zone, door: Door, *, knows: bool) -> None:
    """Rotate the authority while the cell is away; with `knows` it has heard of the new one before.

    Look at it with the scheduler started anew: one that dials the cell since before may still take it in.
    """

    async def rotate(*, leave_behind: bool) -> None:
        await door.admissions.rotate_authority(v1.RotateAuthorityRequest(leave_behind=leave_behind))

    await rotate(leave_behind=False)
    await door.known_by(SCHEDULER)
    if knows:
        zone.folder_of(CELL).trusts(door.grants.trust())
    await rotate(leave_behind=True)
    await door.phase(Phase.MOVING)
    await rotate(leave_behind=True)
    await door.phase(Phase.STEADY)
    await door.known_by(SCHEDULER)


async def test_who_was_left_behind_and_knows_the_new_authority_comes_back_by_itself(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        await _leave_behind(zone, door, knows=True)
    with heard_logs() as logs:
        async with zone.scheduler() as door:
            async with _runs(zone):
                await logs.until(lambda line: line.get("state") == "left-behind", PATIENCE_S)
                await _is(zone, State.JOINED, zone.now_ms())
                await zone.linked(door, CELL)
            assert zone.folder_of(CELL).issuer == door.authority.fingerprint


async def test_who_was_left_behind_has_a_doubt_and_comes_back_by_a_token_with_its_own_key(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        before = zone.folder_of(CELL).fingerprint
        await _leave_behind(zone, door, knows=False)
    async with zone.scheduler() as door:
        async with _runs(zone):
            found = await zone.stands(CELL, lambda found: bool(found.doubt))
            assert found.state is State.JOINED
        async with _runs(zone, token=await door.token()):
            await zone.linked(door, CELL)
            assert (await _is(zone, State.JOINED)).doubt == ""
        assert door.book.members[CELL].fingerprint == zone.folder_of(CELL).fingerprint == before


# ------------------------------------------------------------------ what strangers can do


async def _at(fabric: Fabric) -> str:
    return "{}:{}".format(*fabric.address)


async def test_a_stranger_in_the_schedulers_place_makes_a_doubt_and_no_more(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
    before = zone.folder_of(CELL).fingerprint
    stranger = issue(make_zone(zone.folder / "stranger"), SCHEDULER.role, SCHEDULER.id)
    async with Fabric.join(FabricConfig(host="127.0.0.1", multicast=False), stranger) as fabric:
        fabric.admit_applicants()
        async with _runs(zone, discovery=_where(zone, await _at(fabric))):
            found = await zone.stands(CELL, lambda found: bool(found.doubt))
            assert found.state is State.JOINED
    async with zone.scheduler() as door, _runs(zone):
        assert (await zone.stands(CELL, lambda found: not found.doubt)).state is State.JOINED
        assert zone.folder_of(CELL).fingerprint == before


async def test_that_another_member_refuses_the_key_is_not_the_schedulers_word(zone: Zone) -> None:
    """A cell whose key was stolen says of everybody that he was removed."""
    liar = Peer(Role.CELL, "liar")
    async with zone.scheduler() as door:
        await zone.join(liar, token=await door.token())
        async with zone.joined(CELL, token=await door.token()) as (place, _):
            await door.known_by(CELL)
            config = FabricConfig(
                host="127.0.0.1", multicast=False, peers={"cell/c1": await _at(place.fabric)}
            )
            folder = zone.folder_of(liar)
            identity = folder.kept(zone.clock())
            assert isinstance(identity, Identity)
            async with Fabric.join(config, identity) as fabric:
                link = await fabric.channel(CELL.role, CELL.id).__connect__()
                await link.ping()
                (theirs,) = [each for each in place.fabric.links if each.is_up and each.peer == liar]
                link.shut_out(Forbidden("cell/c1 was removed from the zone"))
                await theirs.wait_closed()
            assert (await _is(zone, State.JOINED)).why == ""


async def test_a_removed_key_that_asks_to_be_let_in_is_told_why_it_is_turned_away(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        await door.remove(CELL)
        door.place.member.told(door.grants.trust())
        key = zone.folder_of(CELL).key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        credentials = ApplicantCredentials(key, lambda _: None, zone.clock)
        with pytest.raises(Removed, match="was removed from the zone"):
            await _asks(door, credentials)


async def _asks(door: Door, credentials: ApplicantCredentials) -> None:
    async with linked(door.fabric.address, credentials) as channel:
        link = await channel.__connect__()
        await link.ping()


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert standing.read(tmp_path) is None
    (tmp_path / standing.STANDING_FILE).write_text("{")
    assert standing.read(tmp_path) is None
    assert issubclass(Removed, NanoError)
