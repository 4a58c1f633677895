"""A whole cell on a real libvirtd: a guest from an image gets its address, obeys, and leaves nothing."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from nano.bindings.client import Responder
from nano.fleet.guest_image import built_image, cache_folder
from nano.model.action import Progress, Reported, StopInstance, StopMode
from nano.model.image import Content
from nano.model.instance import Power
from nano.shelf import Shelf
from services.cell.bindings import Bindings
from services.cell.disks import Disks
from services.cell.host import Host
from services.cell.kvm import VirtChoice
from services.cell.libvirt_driver import LibvirtHypervisor, LibvirtSettings
from services.cell.life import live
from services.cell.qemu_img import QemuImages
from tests.support.cell import (
    BINDING,
    IMAGE,
    INSTANCE,
    MAC,
    NOW_MS,
    CellRig,
    HeldImages,
    build,
    create,
    delete,
    start,
)
from tests.support.dhcp import ResponderProcess
from tests.support.hypervisor import BRIDGE, GIB, MIB, is_root, private_libvirtd, spec_of

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(not is_root(), reason="a libvirtd of our own needs root"),
]

SPEC = spec_of(memory_bytes=128 * MIB, disks_bytes=(GIB,), image=IMAGE, modules=("qemu",))
BOOT_S = 90
"""A translated guest on a busy machine."""


@dataclass(frozen=True)
class Ground:
    """What a host gives a cell."""

    uri: str
    root: Path
    responder: Responder


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with private_libvirtd() as (uri, root, daemon):
        in_its_network = ("nsenter", "-t", str(daemon.pid), "-n")
        with ResponderProcess(root, BRIDGE, in_its_network).running() as responder:
            yield Ground(uri, root, responder.client)


@contextlib.asynccontextmanager
async def cell_on(ground: Ground, body: bytes) -> AsyncIterator[CellRig]:
    """One life of the cell on that ground."""
    storage, consoles = ground.root / "storage", ground.root / "consoles"
    for folder in (storage, consoles):
        folder.mkdir(exist_ok=True)
    settings = LibvirtSettings(ground.uri, BRIDGE, VirtChoice.QEMU, storage=storage, consoles=consoles)
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(ground.root / "book", Host))
        hypervisor = await up.enter_async_context(LibvirtHypervisor(settings).opened())
        disks = Disks(storage, QemuImages(), HeldImages({IMAGE: body}, piece_bytes=MIB))
        bindings = Bindings(ground.responder, shelf.book.bound())
        callee = await up.enter_async_context(
            live(shelf, hypervisor, disks, bindings, boot="boot-1", now_ms=lambda: NOW_MS)
        )
        yield CellRig(shelf, hypervisor, disks, bindings, callee)


@pytest.fixture(scope="module")
def body() -> bytes:
    cache = cache_folder(Path("var"))
    cache.mkdir(parents=True, exist_ok=True)
    return built_image(cache, print).read_bytes()


async def served(ground: Ground) -> list[str]:
    return [entry.mac for entry in await ground.responder.list()]


async def test_a_guest_from_an_image_lives_and_leaves_nothing(ground: Ground, body: bytes) -> None:
    assert await served(ground) == []
    content = Content(1, len(body), blake3(body).hexdigest(), "0" * 40, "qcow2", _virtual_bytes(body))
    async with cell_on(ground, body) as rig:
        for action in (create(SPEC, content=content), build(SPEC), start()):
            done = await rig.step(action)
            assert done.progress is Progress.DONE, done.fault
        assert await served(ground) == [MAC]
        status = await rig.until(lambda status: bool(status.addresses), BOOT_S)
        assert (status.agent, status.addresses) == (True, (BINDING.address,))

    async with cell_on(ground, body) as rig:  # a restart of the cell: the guest went on
        assert (rig.status().power, rig.status().addresses) == (Power.RUNNING, (BINDING.address,))
        (row,) = await rig.hypervisor.usage()
        assert 0 < row.memory_used_bytes < row.memory_total_bytes
        assert row.received_bytes > 0
        stopped = await rig.step(StopInstance(INSTANCE, 1, StopMode.GRACEFUL, BOOT_S))
        assert isinstance(stopped.result, Reported), stopped.fault
        assert (stopped.result.status.power, stopped.result.status.reason) == (Power.STOPPED, "")
        assert (await rig.step(delete())).progress is Progress.DONE
        assert await rig.traces() == {}
        assert await served(ground) == []
        assert list((ground.root / "consoles").iterdir()) == []


def _virtual_bytes(body: bytes) -> int:
    """Of a qcow2 image: eight octets at 24 (QEMU, docs/interop/qcow2.txt)."""
    return int.from_bytes(body[24:32], "big")
