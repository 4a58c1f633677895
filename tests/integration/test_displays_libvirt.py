"""The display of a real machine: from the gateway's call to QEMU, without any port."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from nano.fabric.calls.codec import MessageCodec
from nano.model.action import Progress
from nano.model.ids import CellId
from nano.model.peers import Role
from nano.shelf import Shelf
from services.cell.bindings import Bindings
from services.cell.disks import Disks
from services.cell.host import Host
from services.cell.kvm import VirtChoice
from services.cell.libvirt_driver import LibvirtHypervisor, LibvirtSettings
from services.cell.life import live
from services.cell.qemu_img import QemuImages
from services.cell.rpc import ROLES, CellRpc
from services.gateway.displays import CellDisplays
from tests.support.cell import INSTANCE, NOW_MS, CellRig, HeldImages, build, create, start
from tests.support.fabrics import Lab
from tests.support.hypervisor import BRIDGE, MIB, is_root, private_libvirtd, spec_of, virsh
from tests.support.rfb import GREETING, Ended, Receive, RfbClient

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(not is_root(), reason="a libvirtd of our own needs root"),
]

C1 = CellId("c1")
SPEC = spec_of(memory_bytes=32 * MIB, disks_bytes=(8 * MIB,))
"""Its firmware finds nothing to boot, and says so on the screen."""
LISTENS = "0A"
"""A state in /proc/net/tcp (proc(5))."""


async def test_the_screen_of_a_real_machine_and_no_port_for_it(tmp_path: Path) -> None:
    with private_libvirtd() as (uri, root, daemon):
        async with AsyncExitStack() as up:
            rig = await _cell(up, uri, root)
            lab = Lab(tmp_path, MessageCodec())
            at_cell = await up.enter_async_context(lab.join(Role.CELL, C1))
            rpc = CellRpc(rig.shelf, await rig.hypervisor.probe(), rig.hypervisor)
            at_cell.serve([rpc], ROLES)
            gateway = await up.enter_async_context(lab.join(Role.GATEWAY, "g1"))
            for action in (create(SPEC, content=None), build(SPEC, binding=None), start(binding=None)):
                done = await rig.step(action)
                assert done.progress is Progress.DONE, done.fault

            async with CellDisplays(gateway).open(C1, INSTANCE) as display:
                greeting = await display.receive()
                assert greeting == GREETING
                client = RfbClient(_first(greeting, display.receive), display.send)
                await client.shake_hands()
                await client.ask()
                pictures = await client.update()
                assert sum(picture.width * picture.height for picture in pictures) > 0
                await client.press("a")
                assert len(_viewers(uri)) == 1
                assert _listeners(daemon.pid) == []
            await _until(lambda: not _viewers(uri))

            async with CellDisplays(gateway).open(C1, INSTANCE) as display:
                client = RfbClient(display.receive, display.send)
                await client.shake_hands()
                virsh(uri, "destroy", INSTANCE)
                with pytest.raises(Ended):
                    await _watched(client)
            (link,) = gateway.links
            async with asyncio.timeout(20):
                while rpc.displays.open:
                    await link.ping()


async def _cell(up: AsyncExitStack, uri: str, root: Path) -> CellRig:
    storage, consoles = root / "storage", root / "consoles"
    for folder in (storage, consoles):
        folder.mkdir()
    settings = LibvirtSettings(uri, BRIDGE, VirtChoice.QEMU, storage=storage, consoles=consoles)
    shelf = await up.enter_async_context(Shelf.open(root / "book", Host))
    hypervisor = await up.enter_async_context(LibvirtHypervisor(settings).opened())
    disks = Disks(storage, QemuImages(), HeldImages({}))
    bindings = Bindings(None, shelf.book.bound())
    callee = await up.enter_async_context(
        live(shelf, hypervisor, disks, bindings, boot="boot-1", now_ms=lambda: NOW_MS)
    )
    return CellRig(shelf, hypervisor, disks, bindings, callee)


async def _watched(client: RfbClient) -> None:
    while True:
        await client.ask()
        await client.update()


def _first(data: bytes, receive: Receive) -> Receive:
    """As `receive`, with what was read already before it."""
    held = [data]

    async def both() -> bytes:
        return held.pop() if held else await receive()

    return both


def _viewers(uri: str) -> list[object]:
    """Who is connected to the machine's screen, as QEMU itself says."""
    said = virsh(uri, "qemu-monitor-command", INSTANCE, '{"execute": "query-vnc"}')
    return list(json.loads(said)["return"].get("clients", []))


def _listeners(pid: int) -> list[str]:
    """TCP ports that are listened on in the network of that process."""
    rows = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == LISTENS]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):
            pass
