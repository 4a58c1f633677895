"""Peers whose addresses change, who start in any order, restart at any time, and share wires with strangers.

Each in a process of its own, on hosts of their own (network namespaces) that a wire joins.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nano.fabric.identity.authority import Authority
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.wires import Hosts, hosts, ip

__all__ = ["hosts"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PATIENCE_S = 30.0
"""A bound, never a wait."""

MOVED_MS = 1000
"""How long it may take after a move until calls are answered again."""


class Peer:
    """A process, see tests/support/speaking.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.seen: list[str] = []

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")

    async def expect(self, beginning: str) -> str:
        """Reads until a line that begins like this."""
        assert self._process.stdout
        async with asyncio.timeout(PATIENCE_S):
            while True:
                read = await self._process.stdout.readline()
                assert read, f"ended without {beginning!r}: {self.seen}"
                line = read.decode().strip()
                self.seen.append(line)
                if line.startswith(beginning):
                    return line

    async def call(self, target: str) -> tuple[int, str]:
        """Calls until it is answered: after how many milliseconds, by whom."""
        self.tell(f"call {target}")
        _, took_ms, _, by = (await self.expect("answered")).split()
        return int(took_ms), by

    async def is_held(self) -> bool:
        self.tell("held")
        return await self.expect("held") == "held yes"

    async def kill(self) -> None:
        """It says nothing to anybody."""
        self._process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def _peer(host: str, zone: Authority, role: Role, name: str) -> AsyncIterator[Peer]:
    identity = issue(zone, role, name)
    folder = identity.key_file.parent
    shutil.copy(identity.ca_file, folder / "ca.pem")
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", host, sys.executable, "-m", "tests.support.speaking"),
        *(identity.zone, role, name, str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    peer = Peer(process)
    try:
        await peer.expect("ready")
        yield peer
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _two(hosts: Hosts) -> tuple[str, str]:
    """10.99.0.1 and 10.99.0.2 on one wire."""
    left, right = hosts.add("l"), hosts.add("r")
    hosts.wire("wire", (left, "10.99.0.1/24"), (right, "10.99.0.2/24"))
    return left, right


@pytest.fixture
def zone(tmp_path: Path) -> Authority:
    return make_zone(tmp_path)


async def test_whoever_dialled_keeps_its_link_and_its_calls_when_its_address_changes(
    hosts: Hosts, zone: Authority
) -> None:
    left, right = _two(hosts)
    async with _peer(right, zone, Role.CELL, "c1"), _peer(left, zone, Role.SCHEDULER, "s1") as scheduler:
        await scheduler.call("cell")
        scheduler.tell("hold cell")
        await scheduler.expect("holds")
        for before, after in (("10.99.0.1/24", "10.99.0.7/24"), ("10.99.0.7/24", "10.99.0.8/24")):
            await asyncio.to_thread(hosts.move, left, "wire", before, after)
            took_ms, _ = await scheduler.call("cell")
            assert took_ms < MOVED_MS
            assert await scheduler.is_held()
        assert "news cell/c1 lost" not in scheduler.seen


async def test_whoever_was_dialled_is_dialled_by_name_where_it_is_now(hosts: Hosts, zone: Authority) -> None:
    left, right = _two(hosts)
    async with _peer(right, zone, Role.CELL, "c1"), _peer(left, zone, Role.SCHEDULER, "s1") as scheduler:
        await scheduler.call("cell")
        for before, after in (("10.99.0.2/24", "10.99.0.3/24"), ("10.99.0.3/24", "10.99.0.4/24")):
            await asyncio.to_thread(hosts.move, right, "wire", before, after)
            took_ms, _ = await scheduler.call("cell")
            assert took_ms < MOVED_MS


async def test_a_wire_that_is_pulled_and_put_back_at_once_loses_nothing(
    hosts: Hosts, zone: Authority
) -> None:
    left, right = _two(hosts)
    async with _peer(right, zone, Role.CELL, "c1"), _peer(left, zone, Role.SCHEDULER, "s1") as scheduler:
        await scheduler.call("cell")
        scheduler.tell("hold cell")
        await scheduler.expect("holds")
        await asyncio.to_thread(ip, "-n", right, "link", "set", "wire", "down")
        await asyncio.to_thread(ip, "-n", right, "link", "set", "wire", "up")
        took_ms, _ = await scheduler.call("cell")
        assert took_ms < 2 * MOVED_MS, "the link itself needs a moment"
        assert await scheduler.is_held()


@pytest.mark.parametrize("first", ["scheduler", "cell"])
@pytest.mark.parametrize("victim", ["scheduler", "cell"])
async def test_in_whatever_order_they_start_and_whoever_is_killed(
    hosts: Hosts, zone: Authority, first: str, victim: str
) -> None:
    """Both find each other; the one that is killed and comes again is called, and calls, within a second."""
    left, right = _two(hosts)
    places = {"scheduler": (left, Role.SCHEDULER, "s1"), "cell": (right, Role.CELL, "c1")}
    names = {"scheduler": "scheduler/s1", "cell": "cell/c1"}
    second = next(name for name in places if name != first)

    def start(which: str) -> contextlib.AbstractAsyncContextManager[Peer]:
        host, role, name = places[which]
        return _peer(host, zone, role, name)

    async with start(first) as earlier, start(second) as later:
        peers = {first: earlier, second: later}
        for caller, callee in ((first, second), (second, first)):
            assert (await peers[caller].call(callee))[1] == names[callee]
        await peers[victim].kill()
        other = next(name for name in places if name != victim)
        async with start(victim) as again:
            took_ms, by = await peers[other].call(victim)
            assert by == names[victim]
            assert took_ms < MOVED_MS
            took_ms, by = await again.call(other)
            assert by == names[other]
            assert took_ms < MOVED_MS


async def test_a_host_on_two_wires_finds_peers_on_both(hosts: Hosts, zone: Authority) -> None:
    middle, left, right = hosts.add("m"), hosts.add("l"), hosts.add("r")
    hosts.wire("west", (middle, "10.98.0.1/24"), (left, "10.98.0.2/24"))
    hosts.wire("east", (middle, "10.99.0.1/24"), (right, "10.99.0.2/24"))
    async with (
        _peer(left, zone, Role.CELL, "west"),
        _peer(middle, zone, Role.SCHEDULER, "s1") as scheduler,
        _peer(right, zone, Role.CELL, "east") as east,
    ):
        assert (await scheduler.call("cell west"))[1] == "cell/west"
        assert (await scheduler.call("cell east"))[1] == "cell/east"
        assert (await east.call("scheduler"))[1] == "scheduler/s1"


async def test_zones_on_one_wire_with_peers_of_the_same_names_are_kept_apart(
    hosts: Hosts, tmp_path: Path
) -> None:
    """Each scheduler reaches the cell of its own zone only, though all hear all, and notices nobody else."""
    left, right = _two(hosts)
    zones = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        zones.append(make_zone(tmp_path / name, name=name))
    async with (
        _peer(right, zones[0], Role.CELL, "c1"),
        _peer(right, zones[1], Role.CELL, "c2"),
        _peer(left, zones[0], Role.SCHEDULER, "s1") as one,
        _peer(left, zones[1], Role.SCHEDULER, "s1") as two,
    ):
        for _ in range(3):
            assert (await one.call("cell"))[1] == "cell/c1"
            assert (await two.call("cell"))[1] == "cell/c2"
        assert not any("c2" in line for line in one.seen if line.startswith("news"))
        assert not any("c1" in line for line in two.seen if line.startswith("news"))
