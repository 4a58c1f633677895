"""The DHCP responder as a real process on a real bridge, with a real client and hand-made ones."""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nano.bindings.messages import Entry
from nano.fleet.tools import run_tool
from nano.model.errors import Conflict, Unreachable
from services.addresspool.bridge import STAND_IN
from services.addresspool.packet import Kind, Option
from tests.support.dhcp import HOST, PATIENCE_S, Guest, ResponderProcess, binding, make_bridge, remove_bridge
from tests.support.netns import fresh_network

__all__ = ["fresh_network"]

pytestmark = pytest.mark.usefixtures("fresh_network")


@pytest.fixture
def responder(fresh_network: None, tmp_path: Path) -> Iterator[ResponderProcess]:
    make_bridge("br0", "guest0", "guest1")
    with ResponderProcess(tmp_path).running() as running:
        yield running


@pytest.fixture
def guest(responder: ResponderProcess) -> Iterator[Guest]:
    with Guest("guest0") as card:
        yield card


@pytest.fixture
def stranger(responder: ResponderProcess) -> Iterator[Guest]:
    with Guest("guest1") as card:
        yield card


async def test_a_real_client_gets_the_leased_address(responder: ResponderProcess, tmp_path: Path) -> None:
    with Guest("guest0") as card:
        mac = card.mac
    await responder.client.bind(mac, binding(7), "vm-7")
    leases, pid = tmp_path / "dhclient.leases", tmp_path / "dhclient.pid"
    client = ["dhclient", "-4", "-1", "-v", "-sf", "/bin/true", "-lf", str(leases), "-pf", str(pid), "guest0"]
    try:
        await asyncio.to_thread(subprocess.run, client, check=True, timeout=PATIENCE_S, capture_output=True)
    finally:
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
    lease = dict(re.findall(r"^\s+(?:option )?([\w-]+) ([^;]+);", leases.read_text(), re.MULTILINE))
    assert lease["fixed-address"] == "10.0.0.7"
    assert lease["subnet-mask"] == "255.255.255.0"
    assert lease["routers"] == lease["dhcp-server-identifier"] == str(HOST)
    assert lease["domain-name-servers"] == "10.0.0.53"
    assert lease["dhcp-lease-time"] == "43200"
    assert (await responder.entry(mac)).granted_ms > 0


async def test_a_stranger_hears_nothing(responder: ResponderProcess, guest: Guest, stranger: Guest) -> None:
    await responder.client.bind(guest.mac, binding(7))
    stranger.say(Kind.DISCOVER, 10)
    stranger.say(Kind.REQUEST, 11, {Option.REQUESTED_ADDRESS: bytes([192, 168, 0, 9])})
    stranger.say(Kind.REQUEST, 12, ciaddr=HOST)
    guest.take_lease(binding(7).address)  # one thread answers in order, so the stranger's turn is over
    await responder.client.bind(stranger.mac, binding(8))
    assert stranger.ask(Kind.DISCOVER, 13).xid == 13


async def test_a_wrong_address_is_refused_to_a_guest_of_ours(
    responder: ResponderProcess, guest: Guest
) -> None:
    await responder.client.bind(guest.mac, binding(7))
    nak = guest.ask(Kind.REQUEST, 5, {Option.REQUESTED_ADDRESS: bytes([10, 0, 0, 99])})
    assert nak.kind is Kind.NAK


async def test_a_killed_responder_serves_on_with_what_it_was_told(
    responder: ResponderProcess, guest: Guest
) -> None:
    await responder.client.bind(guest.mac, binding(7), "vm-7")
    guest.take_lease(binding(7).address)
    responder.kill()
    with pytest.raises(Unreachable):
        await responder.client.list()
    responder.start()
    assert (await responder.entry(guest.mac)).binding == binding(7)
    renewed = guest.ask(Kind.REQUEST, 6, ciaddr=binding(7).address)
    assert (renewed.kind, renewed.yiaddr) == (Kind.ACK, binding(7).address)


async def test_a_lease_is_still_known_after_an_orderly_restart(
    responder: ResponderProcess, guest: Guest
) -> None:
    await responder.client.bind(guest.mac, binding(7))
    guest.take_lease(binding(7).address)
    before = await responder.entry(guest.mac)
    assert responder.stop() == 0
    responder.start()
    assert await responder.entry(guest.mac) == before


async def test_a_bound_interface_is_served_until_it_is_unbound(
    responder: ResponderProcess, guest: Guest, stranger: Guest
) -> None:
    await responder.client.replace([Entry(guest.mac, binding(7)), Entry(stranger.mac, binding(8))])
    stranger.take_lease(binding(8).address)
    await responder.client.unbind(stranger.mac)
    await responder.client.unbind(stranger.mac)
    stranger.say(Kind.DISCOVER, 20)
    guest.take_lease(binding(7).address)
    assert [entry.mac for entry in await responder.client.list()] == [guest.mac]
    await responder.client.replace([Entry(stranger.mac, binding(8))])
    assert stranger.ask(Kind.DISCOVER, 21).xid == 21


async def test_a_watcher_sees_each_lease_as_it_is_taken(responder: ResponderProcess, guest: Guest) -> None:
    await responder.client.bind(guest.mac, binding(7))
    watch = responder.client.watch()
    assert (await anext(watch)).granted_ms == 0
    guest.take_lease(binding(7).address)
    taken = await anext(watch)
    assert taken == replace(await responder.entry(guest.mac), granted_ms=taken.granted_ms)
    assert taken.granted_ms > 0
    decline = {Option.SERVER_ID: HOST.packed, Option.REQUESTED_ADDRESS: binding(7).address.packed}
    guest.say(Kind.DECLINE, 7, decline)
    declined = await anext(watch)
    assert (declined.granted_ms, declined.declined_ms > 0) == (0, True)
    responder.kill()
    with pytest.raises(Unreachable):
        await anext(watch)


async def test_two_interfaces_never_have_one_address(responder: ResponderProcess) -> None:
    await responder.client.bind("00:16:3e:00:00:01", binding(7))
    with pytest.raises(Conflict, match="00:16:3e:00:00:01"):
        await responder.client.bind("00:16:3e:00:00:02", binding(7))
    assert len(await responder.client.list()) == 1


async def test_rubbish_does_not_stop_the_service(responder: ResponderProcess, guest: Guest) -> None:
    await responder.client.bind(guest.mac, binding(7))
    chance = random.Random(7)
    for size in range(0, 600, 3):
        guest.send(chance.randbytes(size))
    assert responder.logged("frame.refused")["count"] == 1
    guest.take_lease(binding(7).address)


async def test_the_bridge_may_come_late_and_may_go(tmp_path: Path) -> None:
    with ResponderProcess(tmp_path).running() as responder:
        for octet in (7, 8):
            make_bridge("br0", "guest0")
            responder.serves_bridge()
            with Guest("guest0") as guest:
                await responder.client.bind(guest.mac, binding(octet))
                guest.take_lease(binding(octet).address)
            remove_bridge("br0", "guest0")
            responder.logged("bridge.left")
    assert not responder.socket.exists()


async def test_a_bridge_that_was_down_is_served_when_it_is_up_again(
    responder: ResponderProcess, guest: Guest
) -> None:
    await responder.client.bind(guest.mac, binding(7))
    run_tool("ip", "link", "set", "br0", "down")
    run_tool("ip", "link", "set", "br0", "up")
    guest.take_lease(binding(7).address)


async def test_a_bridge_without_an_address_serves_all_the_same(
    responder: ResponderProcess, guest: Guest
) -> None:
    await responder.client.bind(guest.mac, binding(7))
    run_tool("ip", "address", "flush", "dev", "br0")
    assert guest.take_lease(binding(7).address).server == STAND_IN


async def test_a_file_serves_one_responder_only(responder: ResponderProcess) -> None:
    with responder.spawn() as second:
        _, log = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1
    assert "another responder uses" in log
    assert await responder.client.list() == ()


def test_an_idle_responder_feeds_the_watchdog(fresh_network: None, tmp_path: Path) -> None:
    address = f"nano-test/{os.getpid()}/dhcp"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + address)
        supervisor.settimeout(PATIENCE_S)
        with ResponderProcess(tmp_path).spawn(notify="@" + address, watchdog_us=20_000) as idle:
            try:
                assert supervisor.recv(200).startswith(b"READY=1\nSTATUS=")
                assert [supervisor.recv(200) for _ in range(5)] == [b"WATCHDOG=1"] * 5
            finally:
                idle.terminate()
        while not (said := supervisor.recv(200)).startswith(b"STOPPING=1"):
            assert said == b"WATCHDOG=1"


def test_it_stays_small(responder: ResponderProcess) -> None:
    rollup = Path(f"/proc/{responder.pid}/smaps_rollup").read_text()
    pss_kib = int(re.findall(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)[0])
    assert pss_kib < 15 * 1024
    assert (responder.socket.stat().st_mode & 0o777) == 0o600
