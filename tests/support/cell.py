"""A whole cell in one process: real book, shelf, callee and disks, on the simulated hypervisor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from nano.bindings.client import Responder
from nano.model.action import (
    AnyAction,
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    Outcome,
    Progress,
    StartInstance,
    StopMode,
)
from nano.model.address import Binding
from nano.model.errors import NotFound
from nano.model.ids import ImageId, InstanceId, TaskId
from nano.model.image import Content
from nano.model.instance import InstanceSpec, InstanceStatus, Power
from nano.saga.callee import Callee
from nano.shelf import RealDisk, Shelf
from services.cell.bindings import Bindings
from services.cell.disks import Backing, Disks
from services.cell.host import Host
from services.cell.hypervisor import Hypervisor, Machine
from services.cell.life import live
from services.cell.sim import SimHypervisor, SimSettings
from services.cell.sim_volumes import SimVolumes
from tests.support.hypervisor import MIB, binding_of, spec_of

T = TypeVar("T")

NOW_MS = 1_790_000_000_000
TASK = TaskId("5f0c2a38-2d51-4f8b-9d4e-0b8f3c1d7a66")
OTHER_TASK = TaskId("0f1d2c3b-4a59-4867-8576-94a3b2c1d0ef")
INSTANCE = InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
IMAGE = ImageId("9f3b7a52-6c1d-4f0e-8a7b-2d5e4c3b1a09")
MAC = "00:16:3e:7c:9e:66"
BINDING = binding_of(INSTANCE)
SYSTEM = bytes(range(256)) * 256
"""An image of 64 KiB."""


def content_of(body: bytes, *, version: int = 1, virtual_bytes: int = 4 * MIB) -> Content:
    return Content(version, len(body), blake3(body).hexdigest(), "0" * 40, "qcow2", virtual_bytes)


CONTENT = content_of(SYSTEM)
SPEC = spec_of(image=IMAGE, disks_bytes=(8 * MIB, 4 * MIB))
"""A clone with one data disk."""


class HeldImages:
    """`Images` out of memory, piece by piece."""

    def __init__(self, images: dict[ImageId, bytes], piece_bytes: int = 16 * 1024) -> None:
        self.images = images
        self.asked: list[int] = []
        """The offsets that were asked for."""
        self._piece_bytes = piece_bytes

    async def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        if image not in self.images:
            raise NotFound(f"there is no image {image}", subject=image)
        self.asked.append(offset)
        body = self.images[image][offset:]
        for start in range(0, len(body), self._piece_bytes):
            yield body[start : start + self._piece_bytes]


def create(spec: InstanceSpec = SPEC, *, epoch: int = 1, content: Content | None = CONTENT) -> CreateVolumes:
    return CreateVolumes(INSTANCE, epoch, spec, spec.image, content if spec.image else None)


def build(spec: InstanceSpec = SPEC, *, epoch: int = 1, binding: Binding | None = BINDING) -> BuildInstance:
    return BuildInstance(INSTANCE, epoch, spec, MAC, binding)


def start(*, epoch: int = 1, binding: Binding | None = BINDING) -> StartInstance:
    return StartInstance(INSTANCE, epoch, binding)


def delete(*, epoch: int = 1) -> DeleteInstance:
    return DeleteInstance(INSTANCE, epoch)


Point = Callable[[str], None]
"""Called with a name before and after each touch of the world: where a kill may fall."""


class MarkedDisk(RealDisk):
    """The disk of the shelf; each line of the journal is a point."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self._point = point

    async def run(self, work: Callable[[], T]) -> T:
        self._point("before a write of the book")
        done = await super().run(work)
        self._point("after a write of the book")
        return done


class MarkedVolumes(SimVolumes):
    def __init__(self, point: Point) -> None:
        self._point = point

    async def make(self, path: Path, size_bytes: int, backing: Backing | None) -> None:
        self._point(f"before volume {path.name}")
        await super().make(path, size_bytes, backing)
        self._point(f"after volume {path.name}")


class MarkedSim(SimHypervisor):
    def __init__(self, point: Point, *rest: Any) -> None:
        super().__init__(*rest)
        self._point = point

    async def define(self, machine: Machine) -> None:
        self._point("before define")
        await super().define(machine)
        self._point("after define")

    async def undefine(self, instance: InstanceId) -> None:
        self._point("before undefine")
        await super().undefine(instance)
        self._point("after undefine")

    async def start(self, instance: InstanceId) -> None:
        self._point("before start")
        await super().start(instance)
        self._point("after start")

    async def stop(self, instance: InstanceId, mode: StopMode, patience_s: float) -> None:
        self._point("before stop")
        await super().stop(instance, mode, patience_s)
        self._point("after stop")


@dataclass
class CellRig:
    """The parts of one life of a cell."""

    shelf: Shelf[Host]
    hypervisor: Hypervisor
    disks: Disks
    bindings: Bindings
    callee: Callee

    @property
    def book(self) -> Host:
        return self.shelf.book

    @property
    def sim(self) -> SimHypervisor:
        """Where a test makes the pretended host misbehave."""
        assert isinstance(self.hypervisor, SimHypervisor)
        return self.hypervisor

    async def step(self, action: AnyAction, *, task: TaskId = TASK, name: str = "") -> Outcome:
        """Begin a step and wait for what becomes of it."""
        name = name or str(type(action).__struct_config__.tag)
        outcomes = self.callee.outcomes()
        known = await self.callee.begin(task, name, action)
        while known.progress is Progress.BEGUN:
            known = await _next(outcomes, task, name)
        return known

    async def back(self, name: str, *, task: TaskId = TASK) -> Outcome:
        """Take a step back and wait until that is over."""
        outcomes = self.callee.outcomes()
        known = await self.callee.undo(task, name)
        while known.progress is Progress.UNDOING and known.fault is None:
            known = await _next(outcomes, task, name)
        return known

    async def settled(self) -> None:
        """Until no step is under way."""
        outcomes = self.callee.outcomes()
        while any(
            record.progress in {Progress.BEGUN, Progress.UNDOING} and record.fault is None
            for record in self.book.outcomes
        ):
            await anext(outcomes)

    def status(self) -> InstanceStatus:
        """Of the one instance."""
        status = self.book.statuses.of(INSTANCE)
        assert status is not None
        return status

    async def until(self, wanted: Callable[[InstanceStatus], bool], patience_s: float = 10) -> InstanceStatus:
        """The instance's status as soon as it is as wanted."""
        async with asyncio.timeout(patience_s):
            cursor = self.shelf.cursor
            if not wanted(self.status()):
                async for _ in self.shelf.follow(cursor):
                    if wanted(self.status()):
                        break
        return self.status()

    async def started_by_itself(self) -> InstanceStatus:
        return await self.until(lambda status: status.power is Power.RUNNING and not self.book.due())

    async def made(self, spec: InstanceSpec = SPEC) -> None:
        """The instance, built and stopped."""
        for action in (create(spec), build(spec)):
            done = await self.step(action)
            assert done.progress is Progress.DONE, done.fault

    async def traces(self) -> dict[str, object]:
        """All that an instance leaves on a host: empty once it is gone."""
        found = {
            "domains": [domain.instance for domain in await self.hypervisor.domains()],
            "volumes": sorted(each.name for each in self.disks.folder.iterdir()),
            "instances": sorted(self.book.instances),
            "bindings": sorted(entry.mac for entry in self.bindings.served),
            "statuses": [status.instance for status in self.book.statuses],
            "halves": sorted(each.name for each in self.disks.folder.parent.rglob("*.partial")),
        }
        return {kind: names for kind, names in found.items() if names}


async def _next(outcomes: AsyncIterator[Outcome], task: TaskId, name: str) -> Outcome:
    async for known in outcomes:
        if (known.task, known.step) == (task, name):
            return known
    raise AssertionError("the outcomes ended")


QUICK = SimSettings(boot_s=0.02, shutdown_s=0.01)
"""Fast enough for real time: shelves write on threads, which virtual time does not wait for."""


@contextlib.asynccontextmanager
async def cell(
    folder: Path,
    *,
    images: HeldImages | None = None,
    settings: SimSettings = QUICK,
    responder: Responder | None = None,
    boot: str = "boot-1",
    now_ms: int = NOW_MS,
    point: Point = lambda _: None,
) -> AsyncIterator[CellRig]:
    """One life of the cell in `folder`; enter again for the next one, with another `boot` after a reboot."""
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(folder / "book", Host, disk=MarkedDisk(point)))
        sim = MarkedSim(point, shelf.book.binding, settings, folder / "machines.json")
        await up.enter_async_context(sim.opened())
        held = images or HeldImages({IMAGE: SYSTEM})
        disks = Disks(folder / "storage", MarkedVolumes(point), held)
        bindings = Bindings(responder, shelf.book.bound())
        callee = await up.enter_async_context(
            live(shelf, sim, disks, bindings, boot=boot, now_ms=lambda: now_ms)
        )
        yield CellRig(shelf, sim, disks, bindings, callee)
