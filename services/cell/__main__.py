"""`python -m services.cell --config FILE`: wiring, imported by nobody."""

import asyncio
import socket
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import structlog

from nano.bindings.client import Responder
from nano.joining import joined
from nano.local_users import gid_of
from nano.model.peers import Role
from nano.service import now_ms, ready, run, waiting
from nano.shelf import Shelf
from nano.steps import STEP_ROLES, StepsRpc
from services.cell.bindings import Bindings
from services.cell.config import Config, Driver, cell_id
from services.cell.disks import HANDED_OVER, Access, Disks, VolumeMaker, shared_by
from services.cell.host import Host
from services.cell.hypervisor import Hypervisor
from services.cell.images import StoredImages
from services.cell.life import live
from services.cell.qemu_img import QemuImages
from services.cell.rpc import ROLES, CellRpc
from services.cell.sampler import Sampler
from services.cell.sim import SimHypervisor
from services.cell.sim_volumes import SimVolumes


def _bridge_mac(bridge: str) -> str | None:
    address = Path("/sys/class/net", bridge, "address")
    return address.read_text().strip() if address.exists() else None


def _boot_id() -> str:
    """Of this life of the host's kernel (proc(5), /proc/sys/kernel/random)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _hypervisor(config: Config, book: Host, data: Path) -> AbstractAsyncContextManager[Hypervisor]:
    if config.hypervisor is Driver.SIMULATED:
        structlog.get_logger().warning("cell.simulated", meaning="instances are pretended, nothing runs")
        return SimHypervisor(book.binding, state_file=data / "machines.json").opened()
    # A pretended cell needs no libvirt at all, neither daemon nor library.
    from services.cell.libvirt_driver import LibvirtHypervisor, LibvirtSettings  # noqa: PLC0415

    storage, consoles = data / "storage", data / "consoles"
    for folder in (storage, consoles):
        folder.mkdir(parents=True, exist_ok=True)
    settings = LibvirtSettings(
        config.libvirt_uri,
        config.bridge,
        config.virt_type,
        storage=storage,
        consoles=consoles,
        own_volumes=bool(config.volumes_group),
    )
    return LibvirtHypervisor(settings).opened()


def _access(group: str) -> Access:
    return shared_by(gid_of(group, field="volumes_group")) if group else HANDED_OVER


async def serve(config: Config, stopping: asyncio.Event) -> None:
    data = Path.cwd() / config.paths.data
    simulated = config.hypervisor is Driver.SIMULATED
    name = cell_id(config, _bridge_mac(config.bridge), socket.gethostname())
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Host))
        with waiting(f"libvirt at {config.libvirt_uri}"):
            hypervisor = await up.enter_async_context(_hypervisor(config, shelf.book, data))
            capabilities = await hypervisor.probe()
        structlog.get_logger().info("cell.probed", cell=name, virt_type=str(capabilities.virt_type))
        volumes: VolumeMaker = SimVolumes() if simulated else QemuImages()
        images = StoredImages()
        disks = Disks(data / "storage", volumes, images, _access(config.volumes_group))
        responder = None if simulated else Responder(config.responder, user=config.responder_user)
        bindings = Bindings(responder, shelf.book.bound())
        callee = await up.enter_async_context(
            live(shelf, hypervisor, disks, bindings, boot=_boot_id(), now_ms=now_ms)
        )
        # Behind the rest: instances start with their host, whether or not the zone is there.
        fabric = await up.enter_async_context(
            joined(config.fabric, Role.CELL, name, data / "identity", stopping)
        )
        images.join(fabric.bulk(Role.IMAGESTORE))
        sampler = Sampler(name, hypervisor, data / "storage", fabric.send_sample, now_ms)
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        up.callback(jobs.create_task(sampler.run(), name="samples").cancel)
        rpc = CellRpc(shelf, capabilities, hypervisor)
        fabric.serve([rpc, StepsRpc(callee)], ROLES | STEP_ROLES)
        ready(f"{name} runs on {capabilities.virt_type}")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(run("cell", Config, serve))
