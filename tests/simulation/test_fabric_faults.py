"""Whole fabrics on bad networks, on a virtual clock: outages take moments, and each seed is one story.

What holds on each of them: a call with an id acts once, however often it is made and answered; a watch and a
body go on where they broke off; who is there is not lost, who is gone is.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nano.fabric.calls.codec import MessageCodec
from nano.fabric.fabric import Fabric
from nano.fabric.links.liveness import PING_COST_S, PING_SHARE
from nano.fabric.peers.roster_events import News
from nano.model.errors import NanoError
from nano.model.peers import Peer, Role
from tests.support.address_calls import Follower, Pool, Tenant, check
from tests.support.bodies import Bodies
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub
from tests.support.fabrics import Lab
from tests.support.strangers import first_packets
from tests.support.udp_faults import BOTH, Faults, Way
from tests.support.virtual_network import HOST, Network
from tests.support.virtual_time import run_virtually

SEEDS = range(6)
LEASES = 40
BODY = bytes(range(256)) * 8192
"""Two MiB."""

CELL, SCHEDULER = Peer(Role.CELL, "c1"), Peer(Role.SCHEDULER, "s1")

BAD: dict[str, Faults] = {
    "lossy": Faults(loss=0.1, delay_s=0.005),
    "reordering": Faults(reordering=0.3, delay_s=0.002),
    "doubling": Faults(duplication=0.4, delay_s=0.002),
    "slow": Faults(delay_s=0.05, rate_bytes_s=400_000),
    "all": Faults(loss=0.05, duplication=0.1, reordering=0.1, delay_s=0.01, rate_bytes_s=1_000_000),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


def _play(story: Callable[[Network], Coroutine[Any, Any, None]], seed: int = 0) -> None:
    network = Network(seed)
    with network.installed():
        run_virtually(story(network))


async def _outages(network: Network, fabric: Fabric, seed: int) -> None:
    """The path is cut again and again: one way or both, for a moment or until everybody has given up."""
    dice = random.Random(seed)
    faults = network.path(fabric.address).faults
    for _ in range(5):
        await asyncio.sleep(dice.uniform(0.05, 1.5))
        faults.cut = dice.choice([frozenset({Way.TO}), frozenset({Way.FROM}), BOTH])
        await asyncio.sleep(dice.choice([0.3, 2.5, 4.5, 9.0]))
        faults.cut = frozenset()


@contextlib.asynccontextmanager
async def _leasing(
    folder: Path, network: Network, faults: Faults
) -> AsyncIterator[tuple[Pool, Fabric, Fabric]]:
    lab = Lab(folder, MessageCodec())
    async with (
        Pool.open() as pool,
        lab.join(Role.ADDRESSPOOL, "main", host=HOST) as server,
        lab.join(Role.SCHEDULER, "main", host=HOST) as scheduler,
    ):
        pool.serve(server)
        network.path(server.address).faults = faults
        yield pool, server, scheduler


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("network_is", BAD)
def test_calls_act_once_and_a_watch_has_no_gap(tmp_path: Path, network_is: str, seed: int) -> None:
    async def story(network: Network) -> None:
        async with _leasing(tmp_path, network, BAD[network_is]) as (pool, server, scheduler):
            tenant, follower = Tenant(scheduler), Follower(scheduler)
            async with asyncio.timeout(300), asyncio.TaskGroup() as jobs:
                following = jobs.create_task(follower.follow())
                async with asyncio.TaskGroup() as calls:
                    calls.create_task(_outages(network, server, seed))
                    for number in range(LEASES):
                        calls.create_task(_later(number * 0.4, tenant.lease(number)))
                await follower.until(pool.shelf.revision)
                following.cancel()
            check(pool, tenant, follower, LEASES)
            assert follower.resumed, "some outage was longer than anybody's patience"

    _play(story, seed)


async def _later(delay_s: float, job: Coroutine[Any, Any, None]) -> None:
    await asyncio.sleep(delay_s)
    await job


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("network_is", ["lossy", "all"])
def test_a_body_goes_on_where_it_broke_off(tmp_path: Path, network_is: str, seed: int) -> None:
    async def story(network: Network) -> None:
        lab = Lab(tmp_path)
        bodies = Bodies(BODY)
        async with (
            lab.join(Role.IMAGESTORE, "main", host=HOST) as store,
            lab.join(Role.CELL, "c1", host=HOST) as cell,
        ):
            store.serve_bulk(bodies, {("GET", "/"): frozenset(Role)})
            faults = network.path(store.address).faults = BAD[network_is]
            got = bytearray()
            async with asyncio.timeout(300), asyncio.TaskGroup() as jobs:
                jobs.create_task(_outages(network, store, seed))
                while len(got) < len(BODY):
                    faults.rate_bytes_s = 200_000  # so that the outages fall into it
                    with contextlib.suppress(NanoError):
                        async for part in cell.bulk(Role.IMAGESTORE).get("/image", len(got)):
                            got += part
                    await asyncio.sleep(0.05)
            assert bytes(got) == BODY
            assert bodies.offsets == sorted(set(bodies.offsets)), "each try begins further on"

    _play(story, seed)


# who is there, and who is not


@contextlib.asynccontextmanager
async def _linked(folder: Path, **settings: Any) -> AsyncIterator[tuple[Fabric, Fabric]]:
    """A scheduler that dialled a cell."""
    lab = Lab(folder, BytesCodec())
    async with (
        lab.join(Role.CELL, "c1", host=HOST, **settings) as cell,
        lab.join(Role.SCHEDULER, "s1", host=HOST, **settings) as scheduler,
    ):
        cell.serve([EchoHandler()], ROLES)
        assert await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"up") == b"up"
        await scheduler.links[0].ping()
        yield cell, scheduler


async def _listen(fabric: Fabric, heard: list[tuple[News, float]]) -> None:
    """What is news, and when."""
    loop = asyncio.get_running_loop()
    async for event in fabric.events():
        heard += [(event.news, loop.time())]


def test_an_idle_hour_on_a_lossy_network_loses_nobody(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        async with _linked(tmp_path) as (cell, scheduler):
            network.path(cell.address).faults = BAD["lossy"]
            links = [*cell.links, *scheduler.links]
            await asyncio.sleep(3600)
            assert [*cell.links, *scheduler.links] == links

    _play(story)


@pytest.mark.parametrize("cut", [frozenset({Way.TO}), frozenset({Way.FROM}), BOTH], ids=str)
def test_a_cut_is_noticed_in_time_by_both_ends_whichever_way_it_goes(
    tmp_path: Path, cut: frozenset[Way]
) -> None:
    """5 s after the last word that came, which may be the interval of a keep-alive before the cut."""

    async def story(network: Network) -> None:
        async with _linked(tmp_path) as (cell, scheduler):
            (here,), (there,) = scheduler.links, cell.links
            loop = asyncio.get_running_loop()
            network.path(cell.address).faults.cut = cut
            began = loop.time()
            await here.wait_closed()
            await there.wait_closed()
            assert loop.time() - began <= 5.0 + 1.0

    _play(story)


def test_a_peer_that_vanishes_is_suspected_after_three_seconds_and_lost_after_five(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        async with _linked(tmp_path) as (cell, scheduler), asyncio.TaskGroup() as jobs:
            loop = asyncio.get_running_loop()
            heard: list[tuple[News, float]] = []
            ear = jobs.create_task(_listen(scheduler, heard))
            await asyncio.sleep(0)
            began = loop.time()
            network.vanish(cell.address)
            await scheduler.links[0].wait_closed()
            await asyncio.sleep(0)
            ear.cancel()
            assert [news for news, _ in heard[1:]] == [News.SUSPECT, News.LOST]
            assert [at - began for _, at in heard[1:]] == pytest.approx([3.0, 5.0], abs=0.01)

    _play(story)


def test_samples_are_the_only_sign_of_life_that_is_needed(tmp_path: Path) -> None:
    """A sample and its acknowledgement every two seconds, no ping, nobody doubted; then silence, in time."""

    async def story(network: Network) -> None:
        async with _linked(tmp_path) as (cell, scheduler), asyncio.TaskGroup() as jobs:
            loop = asyncio.get_running_loop()
            path = network.path(cell.address)
            heard: list[tuple[News, float]] = []
            ears = [jobs.create_task(_listen(fabric, heard)) for fabric in (cell, scheduler)]
            for _ in range(3):  # until the rhythm is known
                cell.send_sample(b"cpu 7")
                await asyncio.sleep(2)
            before, heard[:] = path.passed, []
            for _ in range(500):
                cell.send_sample(b"cpu 7")
                await asyncio.sleep(2)
            assert path.passed - before == 2 * 500
            assert heard == []
            assert scheduler.pace.asked == 0
            path.faults.cut = BOTH
            began = loop.time()
            await scheduler.links[0].wait_closed()
            assert loop.time() - began == pytest.approx(3.0, abs=0.1), "two seconds after the last sample"
            for ear in ears:
                ear.cancel()

    _play(story)


def test_very_many_silent_peers_are_asked_less_often_and_both_ends_agree(tmp_path: Path) -> None:
    count, watched_s = 250, 20

    async def story(network: Network) -> None:
        lab = Lab(tmp_path)
        async with contextlib.AsyncExitStack() as up:
            cells = [
                await up.enter_async_context(lab.join(Role.CELL, f"c{number}", host=HOST))
                for number in range(count)
            ]
            scheduler = await up.enter_async_context(lab.join(Role.SCHEDULER, "s1", host=HOST))
            scheduler.keep_linked(Role.CELL)
            await asyncio.sleep(30)
            assert scheduler.pace.asked == count
            interval_s = count * PING_COST_S / PING_SHARE
            assert scheduler.pace.interval_s == interval_s == 2.5
            passed = sum(network.path(cell.address).passed for cell in cells)
            await asyncio.sleep(watched_s)
            packets = sum(network.path(cell.address).passed for cell in cells) - passed
            assert packets * PING_COST_S / 2 <= 1.1 * PING_SHARE * watched_s
            for link in [*scheduler.links, *(link for cell in cells for link in cell.links)]:
                assert link.patience.keep_alive_s == pytest.approx(interval_s, abs=0.001)
                assert link.patience.lost_s == pytest.approx(5 * interval_s, abs=0.005)
            (link,) = cells[7].links
            network.vanish(scheduler.address)
            network.vanish(cells[7].address)
            gone = next(each for each in scheduler.links if each.peer == Peer(Role.CELL, "c7"))
            loop = asyncio.get_running_loop()
            began = loop.time()
            await gone.wait_closed()
            assert 4 * interval_s <= loop.time() - began <= 5 * interval_s + 0.1

    _play(story)


def test_strangers_who_begin_and_never_go_on_are_forgotten(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        async with _linked(tmp_path) as (cell, _):
            strangers = [("10.0.0.1", 30_000 + number) for number in range(40)]
            for packet, stranger in zip(first_packets(40), strangers, strict=True):
                network.carry_from_nowhere(packet, stranger, cell.address)
            await asyncio.sleep(1)
            half_open = cell._listener.half_open
            assert len(half_open) == 40
            assert len(cell.links) == 41
            await asyncio.sleep(5)
            assert len(half_open) == 0
            assert len(cell.links) == 1
            assert half_open.begun == 41

    _play(story)


def test_two_hundred_peers_dial_at_once_over_a_bad_network_and_none_fails(tmp_path: Path) -> None:
    """Above some handshakes under way they prove their addresses first; nobody is turned away or lost."""
    count = 200

    async def story(network: Network) -> None:
        lab = Lab(tmp_path, BytesCodec())
        async with contextlib.AsyncExitStack() as up:
            scheduler = await up.enter_async_context(lab.join(Role.SCHEDULER, "s1", host=HOST))
            scheduler.serve([EchoHandler()], ROLES)
            network.path(scheduler.address).faults = Faults(loss=0.02, reordering=0.1, delay_s=0.02)
            cells = [
                await up.enter_async_context(lab.join(Role.CELL, f"c{number}", host=HOST))
                for number in range(count)
            ]
            loop = asyncio.get_running_loop()
            began = loop.time()
            stubs = [EchoStub(cell.channel(Role.SCHEDULER, "s1")) for cell in cells]
            # no deadline of the calls': grpclib counts those in real time
            assert await asyncio.gather(*(stub.repeat(b"x") for stub in stubs)) == [b"x"] * count
            assert loop.time() - began < 5
            assert len(scheduler.links) == count
            half_open = scheduler._listener.half_open
            assert half_open.retries > count // 4
            assert half_open.refused == 0
            assert len(half_open) == 0

    _play(story)


def test_a_host_with_two_addresses_is_reached_at_either(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        lab = Lab(tmp_path)
        async with lab.join(Role.CELL, "c1", host=HOST) as cell:
            cell.serve([EchoHandler()], ROLES)
            host, port = network.also_at(cell.address, "10.0.0.2")
            lab.addresses["cell/c1"] = f"{host}:{port}"
            async with lab.join(Role.SCHEDULER, "s1", host=HOST) as scheduler:
                assert await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"x", timeout=5) == b"x"
                assert {link.address for link in scheduler.links} == {(host, port)}

    _play(story)
