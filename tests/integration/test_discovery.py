"""Discovery over real sockets: on the loopback in this process, and between two network namespaces."""

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from nano.fabric.peers.announcement import Announcement, Kind, encode
from nano.fabric.peers.directory import Directory
from nano.fabric.peers.multicast import Group, MulticastSocket
from nano.fabric.peers.roster_events import LinkDown, LinkUp, News
from nano.model.errors import Invalid
from nano.model.peers import Peer, Role
from tests.support.discovering import identity
from tests.support.wires import Hosts, ip

SCHEDULER, CELL = Peer(Role.SCHEDULER, "main"), Peer(Role.CELL, "c1")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def zone() -> str:
    """Zones are kept apart, so a zone of its own keeps each test apart from all else on this host."""
    return secrets.token_hex(8)


@pytest.fixture
def group() -> Group:
    """A port of its own, found free: a strange datagram on it is this test's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return Group(port=probe.getsockname()[1], interfaces=("127.0.0.1",))


class Heard:
    """The news of a directory, to wait for."""

    def __init__(self) -> None:
        self.news: list[tuple[Peer, News]] = []
        self._woken = asyncio.Event()

    def __call__(self, peer: Peer, news: News) -> None:
        self.news.append((peer, news))
        self._woken.set()

    async def wait(self, peer: Peer, news: News) -> None:
        async with asyncio.timeout(10):
            while (peer, news) not in self.news:
                self._woken.clear()
                await self._woken.wait()


def directory(
    zone: str, peer: Peer, port: int, group: Group, told: Callable[[Peer, News], None] | None = None
) -> Directory:
    return Directory(identity(zone, peer.role, peer.id), port, group=group, told=told)


async def test_whoever_starts_later_is_heard_by_those_before(zone: str, group: Group) -> None:
    async with (
        asyncio.timeout(10),
        directory(zone, SCHEDULER, 5600, group) as early,
        directory(zone, CELL, 5604, group),
    ):
        assert await early.find(CELL) == (CELL, ("127.0.0.1", 5604))


async def test_whoever_was_there_before_is_found_by_asking(zone: str, group: Group) -> None:
    async with (
        asyncio.timeout(10),
        directory(zone, CELL, 5604, group),
        directory(zone, SCHEDULER, 5600, group) as late,
    ):
        assert await late.find(Role.CELL) == (CELL, ("127.0.0.1", 5604))


async def test_all_of_a_role_answer_one_question(zone: str, group: Group) -> None:
    cells = [Peer(Role.CELL, f"c{number}") for number in range(5)]
    async with asyncio.timeout(10), contextlib.AsyncExitStack() as stack:
        for number, cell in enumerate(cells):
            await stack.enter_async_context(directory(zone, cell, 6000 + number, group))
        heard = Heard()
        asking = await stack.enter_async_context(directory(zone, SCHEDULER, 5600, group, heard))
        asking.ask(Role.CELL)
        for cell in cells:
            await heard.wait(cell, News.FOUND)
        assert asking.roster.all(Role.CELL) == cells


async def test_waiting_ends_when_somebody_comes(zone: str, group: Group) -> None:
    async with (
        asyncio.timeout(10),
        directory(zone, SCHEDULER, 5600, group) as waits,
        asyncio.TaskGroup() as jobs,
    ):
        found = [jobs.create_task(waits.find(target)) for target in (CELL, Role.CELL, CELL)]
        await asyncio.sleep(0)  # so that they wait
        async with directory(zone, CELL, 5604, group):
            assert {await each for each in found} == {(CELL, ("127.0.0.1", 5604))}


async def test_waiting_given_up_leaves_nothing_behind(zone: str, group: Group) -> None:
    async with directory(zone, SCHEDULER, 5600, group) as waits:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await waits.find(CELL)
        assert waits.roster.next_at == float("inf")


async def test_who_leaves_is_not_found_any_more(zone: str, group: Group) -> None:
    async with asyncio.timeout(10), directory(zone, SCHEDULER, 5600, group) as stays:
        async with directory(zone, CELL, 5604, group):
            await stays.find(CELL)
        leaver = Peer(Role.CELL, "c2")  # what it says comes after the good-bye, on the same way
        async with directory(zone, leaver, 5604, group):
            await stays.find(leaver)
        assert stays.look(CELL) is None


async def test_a_restart_on_another_port_is_followed_once_the_link_is_gone(zone: str, group: Group) -> None:
    heard = Heard()
    async with asyncio.timeout(10), directory(zone, SCHEDULER, 5600, group, heard) as stays:
        async with directory(zone, CELL, 5604, group):
            await stays.find(CELL)
        stays.tell(LinkUp(CELL, ("127.0.0.1", 5604)))
        async with directory(zone, CELL, 5700, group), directory(zone, Peer(Role.CELL, "c2"), 5701, group):
            await stays.find(Peer(Role.CELL, "c2"))
            assert stays.look(CELL) == (CELL, ("127.0.0.1", 5604))
            stays.tell(LinkDown(CELL, graceful=False))
            assert stays.look(CELL) == (CELL, ("127.0.0.1", 5700))
    assert [news for peer, news in heard.news if peer == CELL] == [News.FOUND, News.JOINED, News.LOST]


async def test_two_zones_share_group_and_port_and_do_not_meet(zone: str, group: Group) -> None:
    async with asyncio.timeout(10), directory(zone, SCHEDULER, 5600, group) as ours:
        async with directory("other", CELL, 5604, group), directory(zone, Peer(Role.CELL, "c2"), 5605, group):
            await ours.find(Peer(Role.CELL, "c2"))
        assert ours.roster.foreign >= 1
        assert ours.look(CELL) is None


@pytest.mark.parametrize("noise", [b"", b"\x00", b"{}", b"x" * 513, b"x" * 9000, b'{"\x80":1}'])
async def test_noise_is_counted_and_hurts_nobody(zone: str, group: Group, noise: bytes) -> None:
    async with asyncio.timeout(10), directory(zone, SCHEDULER, 5600, group) as ours:
        with MulticastSocket(group) as stranger:
            stranger.send(noise)
            own = Announcement(Kind.HERE, zone, "nano", Role.CELL, "c1", 5604)
            stranger.send(encode(own))
        await ours.find(CELL)
        assert ours.discovery is not None
        assert ours.discovery.malformed == 1


async def test_a_flood_of_questions_gets_few_answers(zone: str, group: Group) -> None:
    heard = Heard()
    async with (
        asyncio.timeout(10),
        directory(zone, CELL, 5604, group),
        directory(zone, SCHEDULER, 5600, group, heard) as asks,
    ):
        for _ in range(200):
            asks.ask(Role.CELL)
        await heard.wait(CELL, News.FOUND)
        async with directory(zone, Peer(Role.CELL, "c2"), 5605, group):
            await asks.find(Peer(Role.CELL, "c2"))
    assert [peer for peer, _ in heard.news].count(CELL) == 1


async def test_only_what_is_configured_without_multicast(zone: str) -> None:
    static = {CELL: ("10.0.0.7", 5604)}
    async with Directory(identity(zone, Role.SCHEDULER, "main"), 5600, static=static) as still:
        assert await still.find(Role.CELL) == (CELL, ("10.0.0.7", 5604))
        still.ask(Role.CELL)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await still.find(Role.GATEWAY)


@pytest.mark.parametrize("interface", ["lo", "127.0.0.1"])
def test_an_interface_is_pinned_by_name_or_address(group: Group, interface: str) -> None:
    with MulticastSocket(Group(port=group.port, interfaces=(interface,))) as pinned:
        assert {each.address for each in pinned.interfaces} == {"127.0.0.1"}


def test_an_interface_that_is_not_there_is_waited_for(group: Group) -> None:
    with MulticastSocket(Group(port=group.port, interfaces=("nowhere0", "198.51.100.7"))) as pinned:
        assert pinned.interfaces == frozenset()
        pinned.send(b"to nobody")
        assert pinned.refresh() is False


@pytest.mark.parametrize("address", ["10.0.0.1", "nano", "ff02::1", ""])
def test_a_group_that_is_none_is_named(address: str) -> None:
    with pytest.raises(Invalid) as refused:
        Group(address=address)
    assert refused.value.field == "group"


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.99.0.1 and 10.99.0.2 on one wire; both gone afterwards."""
    found = Hosts()
    try:
        left, right = found.add("l"), found.add("r")
        found.wire("wire", (left, "10.99.0.1/24"), (right, "10.99.0.2/24"))
        yield left, right
    finally:
        found.remove()


class Elsewhere:
    """A peer in a process of its own, see tests/support/discovering.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def expect(self, line: str) -> None:
        """Reads until `line`."""
        assert self._process.stdout
        seen: list[str] = []
        async with asyncio.timeout(20):
            while not seen or seen[-1] != line:
                read = await self._process.stdout.readline()
                assert read, f"ended without {line!r}: {seen}"
                seen.append(read.decode().strip())


@contextlib.asynccontextmanager
async def elsewhere(host: str, *words: str) -> AsyncIterator[Elsewhere]:
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", host, sys.executable, "-m", "tests.support.discovering", *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield Elsewhere(process)
    finally:
        await process.communicate(b"\n")


@needs_root
async def test_two_hosts_find_each_other_on_every_interface(zone: str, hosts: tuple[str, str]) -> None:
    left, right = hosts
    async with elsewhere(left, zone, "scheduler", "main", "5600", "cell") as scheduler:
        await scheduler.expect("ready")
        async with elsewhere(right, zone, "cell", "c1", "5604", "scheduler") as cell:
            await cell.expect("found scheduler/main 10.99.0.1 5600")
            await scheduler.expect("found cell/c1 10.99.0.2 5604")


@needs_root
async def test_an_address_that_changes_is_announced_at_once(zone: str, hosts: tuple[str, str]) -> None:
    left, right = hosts
    async with (
        elsewhere(left, zone, "scheduler", "main", "5600", "cell") as scheduler,
        elsewhere(right, zone, "cell", "c1", "5604", "scheduler") as cell,
    ):
        await scheduler.expect("found cell/c1 10.99.0.2 5604")
        await cell.expect("found scheduler/main 10.99.0.1 5600")
        await asyncio.to_thread(ip, "-n", right, "address", "delete", "10.99.0.2/24", "dev", "wire")
        await asyncio.to_thread(ip, "-n", right, "address", "add", "10.99.0.3/24", "dev", "wire")
        await scheduler.expect("news cell/c1 moved")


@needs_root
async def test_a_host_without_a_network_finds_its_own_and_follows_when_one_comes(
    zone: str, hosts: tuple[str, str]
) -> None:
    left, right = hosts
    await asyncio.to_thread(ip, "-n", left, "link", "set", "wire", "down")
    async with (
        elsewhere(left, zone, "scheduler", "main", "5600", "gateway") as scheduler,
        elsewhere(left, zone, "gateway", "main", "5603", "cell") as gateway,
        elsewhere(right, zone, "cell", "c1", "5604") as cell,
    ):
        await scheduler.expect("found gateway/main 127.0.0.1 5603")
        await cell.expect("ready")
        await asyncio.to_thread(ip, "-n", left, "link", "set", "wire", "up")
        await gateway.expect("found cell/c1 10.99.0.2 5604")
