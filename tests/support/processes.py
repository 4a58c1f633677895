"""A zone of real processes that can be killed at any point, and what they have left on the disk.

Scheduler, image store, address pool and one simulated cell, each run by `tests.support.doomed`, in a network
of their own. Everything is waited for, and nothing for longer than `PATIENCE_S`.
"""

import asyncio
import os
import signal
import socket
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from nano import codec, wire
from nano.contracts.nano import v1
from nano.fabric.enrolment import enrol
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity import Identity
from nano.fleet.configuration import Settings, toml
from nano.model.errors import Unreachable
from nano.model.ids import ImageId, InstanceId, TaskId
from nano.model.image import ImageKind
from nano.model.instance import InstanceSpec
from nano.model.peers import Role
from nano.saga.record import TaskRecord
from nano.shelf.book import Book
from nano.shelf.files import RealDisk
from nano.shelf.folder import load
from services.addresspool.ledger import Ledger
from services.cell.host import Host
from services.cell.sim import SimMachine
from services.imagestore.catalog import Catalog
from services.scheduler.inventory import Inventory
from services.scheduler.templates import template_id
from tests.support.doomed import Doom, Told
from tests.support.hypervisor import MIB, spec_of
from tests.support.nursery import Birth, Born, Died, News

PATIENCE_S = 30.0
"""A bound, never a wait."""
PORTS = {"scheduler": 5600, "imagestore": 5601, "addresspool": 5602, "cell": 5604}
"""Of the network that the test has for itself."""
CELL = "Cell_02000000000a"
GROUP_PORT = 15599
KILLED = -signal.SIGKILL
"""What the kernel says of a process that was."""

B = TypeVar("B", bound=Book[Any])
Asked = Callable[[v1.SchedulerStub, v1.Requester], Awaitable[v1.TaskRef]]


class Service:
    """One service, life after life."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.notify = folder / f"{name}.notify"
        self.config = folder / f"{name}.toml"
        self.pid = 0
        """Of this life; 0: it does not live."""
        self.status = 0
        """With which the last life ended."""

    @property
    def is_up(self) -> bool:
        return self.pid != 0


class Home:
    """The services of a zone, where they are born, and the news of their deaths."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self.services = {name: Service(name, folder) for name in PORTS}
        self._folder = folder
        self._changed = changed
        self._nursery: asyncio.subprocess.Process

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Home"]:
        """Nobody lives when it is closed."""
        with (self._folder / "nursery.log").open("wb") as log:
            self._nursery = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.nursery"), stdin=PIPE, stdout=PIPE, stderr=log
            )
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._hear(), name="births and deaths")
            try:
                yield self
            finally:
                assert self._nursery.stdin is not None
                self._nursery.stdin.close()
                await self._nursery.wait()

    async def _hear(self) -> None:
        assert self._nursery.stdout is not None
        async for line in self._nursery.stdout:
            match msgspec.json.decode(line, type=News):
                case Born(name, pid):
                    self.services[name].pid = pid
                case Died(pid, status):
                    (service,) = (each for each in self.services.values() if each.pid == pid)
                    service.pid, service.status = 0, status
            self._changed()

    def kill(self, name: str) -> None:
        """Its death is told."""
        if self.services[name].pid:
            os.kill(self.services[name].pid, signal.SIGKILL)

    async def start(self, name: str) -> None:
        """Returns when it says that it is ready."""
        service = self.services[name]
        birth = Birth(
            name, *(str(each) for each in (self._folder, service.config, service.log, service.notify))
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.setblocking(False)
            listener.bind(str(service.notify))
            assert self._nursery.stdin is not None
            self._nursery.stdin.write(msgspec.json.encode(birth) + b"\n")
            async with asyncio.timeout(PATIENCE_S):
                said = await asyncio.get_running_loop().sock_recv(listener, 200)
        service.notify.unlink()
        assert said.startswith(b"READY=1")


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[Told], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heard(msgspec.json.decode(data, type=Told))


@dataclass(frozen=True)
class Blow:
    """When which service dies, who dies with it, and in which order they come back."""

    service: str
    at: str
    count: int = 1
    also: str = ""
    """Killed as soon as the first one is dead."""
    order: Sequence[str] = ()
    """In which they are started again."""

    def __str__(self) -> str:
        text = f"{self.service} at {self.at}" + (f" number {self.count}" if self.count > 1 else "")
        return text + (f", with {self.also}, back as {' then '.join(self.order)}" if self.also else "")


@dataclass
class Books:
    """What a restart would find: read from the services' folders, not from their memory."""

    scheduler: Inventory
    imagestore: Catalog
    addresspool: Ledger
    cell: Host
    machines: list[SimMachine]
    files: list[str]
    """Below the cell's volumes, and what is half-made below its bases."""


@dataclass
class Zone:
    """The processes, and this test as the gateway of their zone."""

    folder: Path
    identity: Identity | None = None
    image: ImageId = ImageId("")
    trace: list[Told] = field(default_factory=list)
    """What was reached since the trial began."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _home: Home = field(init=False)
    _spoilt: str = ""
    """The trial that failed."""
    _endings: int = 0
    """Lines of the scheduler's journal that may have settled a task."""

    def __post_init__(self) -> None:
        self._home = Home(self.folder, self._news.set)

    # -------------------------------------------------------------- what it hears

    def heard(self, told: Told) -> None:
        self.trace.append(told)
        if "task_ended" in told.text or "task_forgotten" in told.text:
            self._endings += 1
        self._news.set()

    async def until(self, so: Callable[[], bool], what: str) -> None:
        """Returns as soon as it is so; looks again with each piece of news."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    self._news.clear()
                    if so():
                        return
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited {PATIENCE_S:g} s for {what}") from None

    def story(self) -> str:
        """What happened in this trial, for whoever has to find out why it failed."""
        told = "\n".join(f"  {each.service}: {each.at} {each.text[:300]} {each.doom}" for each in self.trace)
        logs = "\n".join(
            f"--- {each.name}\n{each.log.read_text()[-2500:]}" for each in self._home.services.values()
        )
        return f"{told}\n{logs}"

    # -------------------------------------------------------------- asking

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[Fabric]:
        """This test on the fabric, with no memory of links to lives that are over."""
        assert self.identity is not None
        peers = {name: f"127.0.0.1:{PORTS[name]}" for name in ("scheduler", "imagestore", "addresspool")}
        config = FabricConfig(
            host="127.0.0.1",
            multicast=False,
            peers={f"{name}/main": address for name, address in peers.items()},
        )
        async with Fabric.join(config, self.identity) as fabric:
            yield fabric

    async def _answer(self, ask: Callable[[v1.SchedulerStub], Awaitable[Any]]) -> Any:
        """What the scheduler says; None when it dies before."""
        said: list[Any] = []

        async def call() -> None:
            async with self.joined() as fabric:
                try:
                    said.append(await ask(v1.SchedulerStub(fabric.channel(Role.SCHEDULER))))
                except Unreachable:  # because it died, as `until` sees
                    return
            self._news.set()

        async with asyncio.TaskGroup() as jobs:
            calling = jobs.create_task(call(), name="call")
            await self.until(lambda: bool(said) or "scheduler" in self._dead(), "an answer")
            if not said:
                calling.cancel()
        return said[0] if said else None

    async def acquainted(self) -> None:
        """Returns when the scheduler says that the cell has given its account: it takes instances now."""
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            scheduler = v1.SchedulerStub(fabric.channel(Role.SCHEDULER))
            async with aclosing(scheduler.watch(v1.WatchRequest())) as changes:  # type: ignore[type-var]
                async for change in changes:
                    if any(cell.confirmed for cell in change.cells):
                        return

    async def seen(self) -> tuple[set[str], set[str]]:
        """As a client sees it: the instances, and those that hold an address."""
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            scheduler = v1.SchedulerStub(fabric.channel(Role.SCHEDULER))
            pools = v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL))
            async with aclosing(scheduler.watch(v1.WatchRequest())) as changes:  # type: ignore[type-var]
                instances = {each.id for each in (await anext(changes)).instances}
            async with aclosing(pools.watch(v1.WatchRequest())) as leases:  # type: ignore[type-var]
                owners = {each.instance for each in (await anext(leases)).leases}
        return instances, owners

    # -------------------------------------------------------------- trials

    @contextmanager
    def trial(self, blow: Blow | None) -> Iterator[None]:
        """A trial that fails spoils the zone for all that would follow: they say so, instead of hanging."""
        assert not self._spoilt, f"the trial of {self._spoilt} failed: look at that one first"
        self.trace.clear()
        try:
            yield
        except BaseException as error:
            self._spoilt = str(blow or "nobody's death")
            error.add_note(f"{self._spoilt}\n{self.story()}")
            raise

    def arm(self, blow: Blow, *, holds: bool = False) -> str:
        """The id under which the doom will be told when it strikes."""
        doom = Doom(str(uuid4()), blow.at, blow.count, holds)
        written = self.folder / "doom.new"
        written.write_bytes(msgspec.json.encode(doom))
        written.replace(self.folder / f"{blow.service}.doom")
        return doom.id

    def calls_off(self, blow: Blow) -> bool:
        """Whether it had not struck yet, and never will."""
        try:
            (self.folder / f"{blow.service}.doom").unlink()
        except FileNotFoundError:
            return False
        return True

    async def held(self, at: Blow, ask: Asked) -> TaskId:
        """The task that `ask` starts, at the moment in which a service stands still there."""
        doom = self.arm(at, holds=True)
        ref = await self._answer(lambda stub: ask(stub, v1.Requester(credential="test")))
        await self.until(lambda: any(told.doom == doom for told in self.trace), f"{at}")
        return TaskId(ref.task)

    async def ended(self, blow: Blow | None, ask: Asked) -> tuple[TaskRecord, bool]:
        """The task that `ask` starts, ended and forgotten by all, and whether the blow was struck.

        A client that gets no answer asks again under the same key, and so does this.
        """
        if blow is not None:
            self.arm(blow)
        key, task, struck = str(uuid4()), TaskId(""), False
        requester = v1.Requester(credential="test", idempotency_key=key, body_digest=key)
        while True:
            if not task and (ref := await self._answer(lambda stub: ask(stub, requester))) is not None:
                task = TaskId(ref.task)
            if task:
                await self.until(lambda: bool(self._dead()) or self.is_settled(task), f"the end of {task}")
            if not self._dead() and (blow is None or struck or self.calls_off(blow)):
                return self.scheduler().tasks.record(task), struck
            assert blow is not None, f"{self._dead()} died and nobody had asked for it"
            struck = True
            await self.back_from(blow)

    def _dead(self) -> list[str]:
        return [each.name for each in self._home.services.values() if not each.is_up]

    async def back_from(self, blow: Blow) -> None:
        """The dead are brought back, one after the other."""
        victims = [blow.service, *([blow.also] if blow.also else [])]
        for name in victims:
            self._home.kill(name)
        await self.until(
            lambda: self._dead() == sorted(victims, key=list(PORTS).index), f"the death of {victims}"
        )
        for name in blow.order or victims:
            assert self._home.services[name].status == KILLED, f"{name} ended by itself"
            await self._home.start(name)

    def is_settled(self, task: TaskId) -> bool:
        """It has ended, and everybody who had a part in it knows."""
        tasks = self.scheduler().tasks
        return task in tasks.ended and not tasks.debts

    # -------------------------------------------------------------- what is left

    def scheduler(self) -> Inventory:
        return self._book("scheduler", Inventory)

    def books(self) -> Books:
        cell = self.folder / "cell"
        machines = cell / "machines.json"
        halves = [
            each for each in (cell / "storage").rglob("*") if each.suffix in {".partial", ".removed", ".new"}
        ]
        return Books(
            self.scheduler(),
            self._book("imagestore", Catalog),
            self._book("addresspool", Ledger),
            self._book("cell", Host),
            codec.decode(machines.read_bytes(), list[SimMachine]) if machines.exists() else [],
            sorted(str(each) for each in {*(cell / "storage" / "volumes").iterdir(), *halves}),
        )

    def _book(self, service: str, kind: type[B]) -> B:
        return load(RealDisk(), self.folder / service / "shelf", kind).book

    # -------------------------------------------------------------- its beginning and its end

    async def rise(self) -> None:
        for name in PORTS:
            self._home.services[name].config.write_text(toml(self._settings(name)))
            await self._home.start(name)
        self.identity = await enrol(self.folder / "enrolment", Role.GATEWAY, "test", self.folder / "test")
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            await self._furnish(fabric)

    def _settings(self, name: str) -> Settings:
        fabric = {
            "listen": "127.0.0.1",
            "enrolment": self.folder / "enrolment",
            "discovery": {"interfaces": ["127.0.0.1"], "port": GROUP_PORT},
        }
        own = {"hypervisor": "simulated", "responder": "", "id": CELL} if name == "cell" else {}
        return {**own, "paths": {"data": self.folder / name, "run": self.folder}, "fabric": fabric}

    async def _furnish(self, fabric: Fabric) -> None:
        """An address pool, set on the zone's one pool, and an image."""
        pools = v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL))
        await pools.create_pool(v1.AddressPool(name="lan", gateway="10.9.0.1", dns=[], provider="dhcp"))
        span = v1.Range(start="10.9.0.10", end="10.9.0.250", netmask="255.255.255.0")
        await pools.add_range(v1.RangeRequest(pool="lan", range=span))
        images = v1.ImageStoreStub(fabric.channel(Role.IMAGESTORE))
        record = v1.Image(kind=ImageKind.DISK, name="small", owner="test", group="test")
        self.image = ImageId((await images.create_image(record)).id)
        await fabric.bulk(Role.IMAGESTORE).put(f"/images/{self.image}", _small_image())
        pool = wire.outgoing(self.scheduler().pool(spec_of().pool))
        pool.address_pool = "lan"
        await v1.SchedulerStub(fabric.channel(Role.SCHEDULER)).put_pool(pool)

    def spec(self, name: str) -> InstanceSpec:
        return spec_of(name=name, image=self.image, template=template_id("General"), disks_bytes=(8 * MIB,))


async def _small_image() -> AsyncIterator[bytes]:
    """A QCOW2 header of version 3 that shows 4 MiB, and nothing behind it."""
    fixed = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 4 * MIB)
    yield fixed.ljust(72, b"\0") + bytes(32)


@asynccontextmanager
async def zone(folder: Path) -> AsyncIterator[Zone]:
    """All processes, up and acquainted; every one of them is gone afterwards."""
    async with AsyncExitStack() as up:
        made = Zone(folder)
        ears, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Ears(made.heard), local_addr=str(folder / "told"), family=socket.AF_UNIX
        )
        up.callback(ears.close)
        await up.enter_async_context(made._home.opened())
        await made.rise()
        yield made


def whereabouts(books: Books, instance: InstanceId) -> set[str]:
    """Everything in the zone that knows of the instance."""
    found = {
        "record": instance in books.scheduler.instances,
        "status": instance in books.scheduler.statuses,
        "lease": any(lease.instance == instance for lease in books.addresspool.leases.values()),
        "held": instance in books.cell.instances,
        "domain": any(machine.instance == instance for machine in books.machines),
        "volumes": any(Path(each).name == instance for each in books.files),
        "cell status": books.cell.statuses.of(instance) is not None,
    }
    return {name for name, there in found.items() if there}


def leftovers(books: Books) -> dict[str, object]:
    """What no task may leave behind once it has ended, however it ended."""
    found = {
        "open tasks": sorted(books.scheduler.tasks.open),
        "claims": len(books.scheduler.tasks.claims),
        "debts": dict(books.scheduler.tasks.debts),
        "pins": books.imagestore.snapshot()["pins"],
        "outcomes": [
            (name, record.task, record.key)
            for name, book in (
                ("imagestore", books.imagestore),
                ("addresspool", books.addresspool),
                ("cell", books.cell),
            )
            for record in book.outcomes
        ],
        "halves": [each for each in books.files if Path(each).suffix],
    }
    return {name: left for name, left in found.items() if left}
