"""The guest that we build boots on the template "Linux (virtio)", takes our DHCP's address and answers."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from nano.bindings.client import Responder
from nano.fleet.bridge import Bridge, ensure_bridge
from nano.fleet.guest_image import built_image, cache_folder
from nano.fleet.host import wait_until
from nano.fleet.libvirtd import (
    Libvirtd,
    accepts,
    choose_libvirtd,
    daemon_environment,
    defined_guests,
    running_guests,
    stop_guests,
)
from nano.fleet.tools import run_tool
from nano.model.address import Binding, Provider
from nano.model.ids import ImageId, InstanceId
from nano.model.pool import Capabilities, VirtType
from services.cell.domain_xml import domain_xml
from services.cell.hypervisor import Machine
from tests.support.netns import fresh_network
from tests.support.nouns import SPEC

__all__ = ["fresh_network"]

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges and a libvirtd of our own need root"),
]

INSTANCE = InstanceId("0a0b7a52-6c1d-4f0e-8a7b-2d5e4c3b1a09")
MAC = "00:16:3e:0a:0b:0c"
ADDRESS = IPv4Address("10.57.0.77")
BRIDGE = Bridge("nano0", IPv4Network("10.57.0.0/24"))
HOST = Capabilities(VirtType.QEMU, cores=2, memory_bytes=2**32, disk_bytes=2**34, machine="pc-q35-7.2")
BINDING = Binding(
    f"{INSTANCE}/0", ADDRESS, IPv4Address("255.255.255.0"), IPv4Address("10.57.0.1"), (), Provider.DHCP
)


@pytest.fixture(scope="module")
def image() -> Path:
    cache = cache_folder(Path("var"))
    cache.mkdir(parents=True, exist_ok=True)
    return built_image(cache, print)


@contextmanager
def process(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, env=daemon_environment(), start_new_session=True) as running:
        try:
            yield running
        finally:
            running.terminate()


@contextmanager
def libvirtd(daemon: Libvirtd, *, guests_go_on: bool = False) -> Iterator[None]:
    with process(*daemon.command):
        assert wait_until(lambda: accepts(daemon.socket), 30)
        try:
            yield
        finally:
            if not guests_go_on:
                stop_guests(daemon.uri, running_guests(daemon.uri), print, patience_s=0)


def define(uri: str, folder: Path, image: Path) -> None:
    volume = folder / "system.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(volume), "1G"],
        check=True,
    )
    spec = replace(SPEC, cores=1, memory_bytes=128 * 2**20, disks_bytes=(2**30,), image=ImageId(INSTANCE))
    definition = folder / "domain.xml"
    machine = Machine(INSTANCE, 1, spec, MAC, (volume,))
    definition.write_text(domain_xml(machine, HOST, bridge=BRIDGE.name, console_log=folder / "console.log"))
    virsh(uri, "define", str(definition))


def virsh(uri: str, *command: str) -> str:
    return run_tool("virsh", "-q", "-c", uri, *command)


def agent(uri: str, command: str) -> object:
    return json.loads(virsh(uri, "qemu-agent-command", INSTANCE, json.dumps({"execute": command})))["return"]


async def lease_taken(socket: Path) -> None:
    async for entry in Responder(str(socket)).watch():
        if entry.granted_ms:
            return


async def said(watcher: asyncio.subprocess.Process, words: bytes) -> None:
    """Returns when the watcher has printed a line with these words, and ends it."""
    assert watcher.stdout is not None
    async for line in watcher.stdout:
        if words in line:
            watcher.terminate()
            await watcher.wait()
            return
    raise AssertionError(f"{words!r} was not said")


async def test_it_boots_takes_its_lease_answers_and_heeds_the_power_button(
    fresh_network: None, image: Path, tmp_path: Path
) -> None:
    ensure_bridge(BRIDGE, str(tmp_path))
    daemon = choose_libvirtd(tmp_path, cache_folder(Path("var")), isolated=True)
    config, socket = tmp_path / "responder.toml", tmp_path / "dhcp.sock"
    config.write_text(f'bridge = "nano0"\nsocket = "{socket}"\nfile = "{tmp_path}/bindings.json"\n')
    with (
        process(sys.executable, "-m", "services.addresspool.responder", "--config", str(config)),
        libvirtd(daemon),
    ):
        assert wait_until(lambda: accepts(socket), 10)
        await Responder(str(socket)).bind(MAC, BINDING, "seven")
        define(daemon.uri, tmp_path, image)
        connected = await asyncio.create_subprocess_exec(
            *("virsh", "-q", "-c", daemon.uri, "event", "--domain", INSTANCE),
            *("--event", "agent-lifecycle", "--loop", "--timeout", "60"),
            stdout=subprocess.PIPE,
        )
        virsh(daemon.uri, "start", INSTANCE)
        async with asyncio.timeout(60):
            await lease_taken(socket)
            await said(connected, b"state: 'connected'")
        # The responder knows of the lease before the guest has made use of it; the guest says when it has.
        console = tmp_path / "console.log"
        assert wait_until(lambda: f"has {ADDRESS}" in console.read_text(errors="replace"), 30)
        assert agent(daemon.uri, "guest-get-host-name") == {"host-name": "seven"}
        assert str(ADDRESS) in json.dumps(agent(daemon.uri, "guest-network-get-interfaces"))
        stop_guests(daemon.uri, running_guests(daemon.uri), print)
        assert running_guests(daemon.uri) == []
        assert "Power down" in console.read_text(errors="replace")


async def test_a_guest_outlives_its_libvirtd_and_is_found_again(
    fresh_network: None, image: Path, tmp_path: Path
) -> None:
    ensure_bridge(BRIDGE, str(tmp_path))
    daemon = choose_libvirtd(tmp_path, cache_folder(Path("var")), isolated=True)
    with libvirtd(daemon, guests_go_on=True):
        define(daemon.uri, tmp_path, image)
        virsh(daemon.uri, "start", INSTANCE)
    assert not accepts(daemon.socket)
    again = choose_libvirtd(tmp_path, cache_folder(Path("var")), isolated=True)
    assert again == daemon
    with libvirtd(again):
        assert running_guests(daemon.uri) == [INSTANCE]
        # Asks QEMU itself, which libvirtd can only do once it has found it again.
        status = virsh(daemon.uri, "qemu-monitor-command", INSTANCE, '{"execute": "query-status"}')
        assert json.loads(status)["return"]["running"]
        virsh(daemon.uri, "destroy", INSTANCE)
        virsh(daemon.uri, "undefine", INSTANCE)
        assert defined_guests(daemon.uri) == []
