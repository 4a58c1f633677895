"""A zone of real processes in which any can be killed at any point, and this test as its gateway.

Everything is waited for, and nothing for longer than `PATIENCE_S`.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.fabric.joining.enrolment import enrol
from nano.model.errors import Unreachable
from nano.model.ids import ImageId, TaskId
from nano.model.image import ImageKind
from nano.model.instance import InstanceSpec
from nano.model.peers import Role
from nano.saga.record import TaskRecord
from services.scheduler.templates import template_id
from tests.support.doomed import Doom, Told
from tests.support.hypervisor import MIB, spec_of
from tests.support.processes import KILLED, PATIENCE_S, PORTS, Home
from tests.support.remains import scheduler_book

Asked = Callable[[v1.SchedulerStub, v1.Requester], Awaitable[v1.TaskRef]]
"""A request that starts a task, or turns one."""


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

    @property
    def victims(self) -> list[str]:
        return [self.service, self.also] if self.also else [self.service]


class Zone:
    """The processes, and what they tell of themselves."""

    image = ImageId("")
    _identity: Identity

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace: list[Told] = []
        """What was reached since the trial began."""
        self._news = asyncio.Event()
        self._home = Home(folder, self._news.set)
        self._spoilt = ""
        """The trial that failed."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator["Zone"]:
        """All processes, up and acquainted, with an address pool and an image; all gone afterwards."""
        zone = cls(folder)
        loop = asyncio.get_running_loop()
        ears, _ = await loop.create_datagram_endpoint(
            lambda: _Ears(zone._heard), local_addr=str(folder / "told"), family=socket.AF_UNIX
        )
        try:
            async with zone._home.opened():
                for name in PORTS:
                    await zone._home.start(name)
                zone._identity = await enrol(folder / "enrolment", Role.GATEWAY, "test", folder / "test")
                await zone._furnish()
                yield zone
        finally:
            ears.close()

    # -------------------------------------------------------------- waiting

    def _heard(self, told: Told) -> None:
        self.trace.append(told)
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
        told = [f"{each.service}: {each.at} {each.text[:300]} {each.doom}" for each in self.trace]
        logs = [
            f"--- {service.name}\n{service.log.read_text()[-2500:]}"
            for service in self._home.services.values()
        ]
        return "\n".join([*told, *logs])

    # -------------------------------------------------------------- asking

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[Fabric]:
        """This test on the fabric, with no memory of links to lives that are over."""
        peers = {f"{name}/main": f"127.0.0.1:{port}" for name, port in PORTS.items() if name != "cell"}
        config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers)
        async with Fabric.join(config, self._identity) as fabric:
            yield fabric

    async def acquainted(self) -> None:
        """Returns when the scheduler says that the cell has given its account: it takes instances now."""
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            watch = v1.SchedulerStub(fabric.channel(Role.SCHEDULER)).watch(v1.WatchRequest())
            async with aclosing(watch) as changes:  # type: ignore[type-var]
                async for change in changes:
                    if any(cell.confirmed for cell in change.cells):
                        return

    async def seen(self) -> tuple[set[str], set[str]]:
        """As a client sees it: the instances, and those that hold an address."""
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            instances = v1.SchedulerStub(fabric.channel(Role.SCHEDULER)).watch(v1.WatchRequest())
            async with aclosing(instances) as changes:  # type: ignore[type-var]
                there = {each.id for each in (await anext(changes)).instances}
            leases = v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL)).watch(v1.WatchRequest())
            async with aclosing(leases) as held:  # type: ignore[type-var]
                return there, {each.instance for each in (await anext(held)).leases}

    async def _answer(self, ask: Callable[[v1.SchedulerStub], Awaitable[v1.TaskRef]]) -> v1.TaskRef | None:
        """What the scheduler says; None when it dies before."""
        said: list[v1.TaskRef] = []

        async def call() -> None:
            async with self.joined() as fabric:
                try:
                    said.append(await ask(v1.SchedulerStub(fabric.channel(Role.SCHEDULER))))
                except Unreachable:  # because it died, as is seen below
                    return
            self._news.set()

        async with asyncio.TaskGroup() as jobs:
            calling = jobs.create_task(call(), name="call")
            await self.until(lambda: bool(said) or "scheduler" in self._home.dead(), "an answer")
            if not said:
                calling.cancel()
        return said[0] if said else None

    # -------------------------------------------------------------- trials

    @contextmanager
    def trial(self, blow: Blow | None) -> Iterator[None]:
        """A trial that fails spoils the zone for all that would follow: they are skipped, instead of hanging,
        and what is printed of the one that failed is not buried under theirs."""
        if self._spoilt:
            pytest.skip(f"the trial of {self._spoilt} failed: look at that one first")
        self.trace.clear()
        try:
            yield
        except BaseException as error:
            self._spoilt = str(blow or "nobody's death")
            error.add_note(f"{self._spoilt}\n{self.story()}")
            raise

    async def held(self, at: Blow, ask: Asked) -> TaskId:
        """The task that `ask` starts, at the moment in which a service stands still there."""
        doom = self._arm(at, holds=True)
        ref = await self._answer(lambda stub: ask(stub, v1.Requester(credential="test")))
        assert ref is not None
        await self.until(lambda: any(told.doom == doom for told in self.trace), f"{at}")
        return TaskId(ref.task)

    async def ended(self, blow: Blow | None, ask: Asked) -> tuple[TaskRecord, bool]:
        """The task that `ask` concerns, ended and forgotten by all; and whether the blow was struck.

        A client that gets no answer asks again under the same key, and so does this.
        """
        key, task, struck = str(uuid4()), TaskId(""), False
        requester = v1.Requester(credential="test", idempotency_key=key, body_digest=key)
        if blow is not None:
            self._arm(blow)
        while True:
            if not task and (ref := await self._answer(lambda stub: ask(stub, requester))) is not None:
                task = TaskId(ref.task)
            if task:
                await self._settled_or_dead(task)
            if not self._home.dead() and (blow is None or struck or self._call_off(blow)):
                return scheduler_book(self.folder).tasks.record(task), struck
            assert blow is not None, f"{self._home.dead()} died, and nobody had asked for it"
            struck = True
            await self._bring_back(blow)
            if not task:  # what was asked may have died unheard: a zone without its cell has no room for it
                await self.acquainted()

    def _arm(self, blow: Blow, *, holds: bool = False) -> str:
        """The id under which the doom is told when it strikes."""
        doom = Doom(str(uuid4()), blow.at, blow.count, holds)
        written = self.folder / "doom.new"
        written.write_bytes(msgspec.json.encode(doom))
        written.replace(self.folder / f"{blow.service}.doom")
        return doom.id

    def _call_off(self, blow: Blow) -> bool:
        """Whether it had not struck yet, and never will."""
        try:
            (self.folder / f"{blow.service}.doom").unlink()
        except FileNotFoundError:
            return False
        return True

    async def _settled_or_dead(self, task: TaskId) -> None:
        """Returns when somebody has died, or the task has ended and all who had a part in it know."""

        looked = -1

        def so() -> bool:
            nonlocal looked
            if self._home.dead():
                return True
            endings = sum("task_ended" in told.text or "task_forgotten" in told.text for told in self.trace)
            if endings == looked:  # to read a book takes its time: only when there may be something in it
                return False
            looked = endings
            tasks = scheduler_book(self.folder).tasks
            return task in tasks.ended and not tasks.debts

        await self.until(so, f"the end of task {task}")

    async def _bring_back(self, blow: Blow) -> None:
        """All victims dead, then alive again, one after the other."""
        await self.until(lambda: blow.service in self._home.dead(), f"the death of {blow.service}")
        for name in blow.victims:
            self._home.kill(name)
        await self.until(lambda: set(blow.victims) <= set(self._home.dead()), f"the death of {blow.victims}")
        for name in self._home.dead():
            assert self._home.services[name].status == KILLED, f"{name} ended by itself"
        for name in blow.order or blow.victims:
            await self._home.start(name)

    # -------------------------------------------------------------- what is there from the beginning

    async def _furnish(self) -> None:
        """An address pool, set on the zone's one compute pool, and an image."""
        async with self.joined() as fabric, asyncio.timeout(PATIENCE_S):
            pools = v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL))
            await pools.create_pool(v1.AddressPool(name="lan", gateway="10.9.0.1", provider="dhcp"))
            span = v1.Range(start="10.9.0.10", end="10.9.0.250", netmask="255.255.255.0")
            await pools.add_range(v1.RangeRequest(pool="lan", range=span))
            images = v1.ImageStoreStub(fabric.channel(Role.IMAGESTORE))
            record = v1.Image(kind=ImageKind.DISK, name="small", owner="test", group="test")
            self.image = ImageId((await images.create_image(record)).id)
            await fabric.bulk(Role.IMAGESTORE).put(f"/images/{self.image}", _small_image())
            pool: Any = wire.outgoing(scheduler_book(self.folder).pool(self.spec().pool))
            pool.address_pool = "lan"
            await v1.SchedulerStub(fabric.channel(Role.SCHEDULER)).put_pool(pool)

    def spec(self) -> InstanceSpec:
        """Always of the same name: it must be free again after whatever went before."""
        return spec_of(image=self.image, template=template_id("General"), disks_bytes=(8 * MIB,))


async def _small_image() -> AsyncIterator[bytes]:
    """A QCOW2 header of version 3 that shows 4 MiB, and nothing behind it."""
    fixed = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 4 * MIB)
    yield fixed.ljust(72, b"\0") + bytes(32)


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[Told], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._heard(msgspec.json.decode(data, type=Told))
