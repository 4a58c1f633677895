"""The address pool as a real process, over the real fabric: what it has answered survives any kill."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.authority import Authority
from nano.fabric.joining.enrolment import EnrolmentServer
from nano.model.action import LeaseAddress, Leased, Outcome, Progress, ReleaseAddress
from nano.model.address import owner_of
from nano.model.errors import Conflict, Forbidden, NanoError, Unreachable
from nano.model.ids import AddressPoolName, InstanceId, TaskId, new_instance_id, new_task_id
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.netns import fresh_network

__all__ = ["fresh_network"]

pytestmark = pytest.mark.usefixtures("fresh_network")

LAN = AddressPoolName("lan")
POOL = v1.AddressPool(name=LAN, gateway="10.0.0.1", dns=["10.0.0.53"], provider="dhcp")
SPAN = v1.Range(start="10.0.0.10", end="10.0.0.200", netmask="255.255.255.0")
PATIENCE_S = 30.0
"""A bound, never a wait."""
STEP = "lease_address"


class Service:
    """`python -m services.addresspool`, killed and started at will."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "addresspool.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(
            f'[paths]\ndata = "{folder}/data"\n'
            f'[fabric]\nlisten = "127.0.0.1"\nenrolment = "{folder}/enrolment"\n'
            '[fabric.discovery]\ninterfaces = ["127.0.0.1"]\n'
        )

    async def start(self) -> None:
        """Returns when it says that it is ready."""
        notify = self._folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.setblocking(False)
            listener.bind(str(notify))
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [sys.executable, "-m", "services.addresspool", "--config", str(self._config)],
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
            )
            said = b""
            async with asyncio.timeout(PATIENCE_S):
                while not said.startswith(b"READY=1"):  # before, it may say what it waits for
                    said = await asyncio.get_running_loop().sock_recv(listener, 1000)
        notify.unlink()

    async def end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, PATIENCE_S)

    async def restart_after_a_kill(self) -> None:
        await self.end(signal.SIGKILL)
        await self.start()


class Callers:
    """The scheduler and the gateway of a zone, as far as the address pool knows them."""

    def __init__(self, scheduler: Fabric, gateway: Fabric) -> None:
        self.steps = v1.StepsStub(scheduler.channel(Role.ADDRESSPOOL))
        self.pools = v1.AddressPoolsStub(gateway.channel(Role.ADDRESSPOOL))
        self.strange_pools = v1.AddressPoolsStub(scheduler.channel(Role.ADDRESSPOOL))
        self.strange_steps = v1.StepsStub(gateway.channel(Role.ADDRESSPOOL))

    async def lease(self, task: TaskId, instance: InstanceId) -> Outcome:
        action = LeaseAddress(LAN, owner_of(instance), instance)
        return wire.outcome(await self.steps.begin(wire.begin_request(task, STEP, action)))

    async def lease_as_engines_do(self, task: TaskId, instance: InstanceId) -> Outcome:
        """A step is begun again while its callee is not reached: a link learns late that it is dead."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(Unreachable):
                    return await self.lease(task, instance)

    async def ask(self, task: TaskId) -> Outcome:
        return wire.outcome(await self.steps.ask(v1.StepRef(task=task, step=STEP)))

    @asynccontextmanager
    async def watching(
        self, since: v1.Cursor | None = None
    ) -> AsyncIterator[AsyncIterator[v1.AddressPoolChange]]:
        async with asyncio.timeout(PATIENCE_S):
            yield aiter(self.pools.watch(v1.WatchRequest(since=since)))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: the path of a socket is limited."""
    with tempfile.TemporaryDirectory(prefix="nano-addresspool-") as made:
        yield Path(made)


@pytest.fixture
async def service(fresh_network: None, folder: Path) -> AsyncIterator[Service]:
    zone = make_zone(folder / "zone")
    async with EnrolmentServer(zone, folder / "enrolment"):
        service = Service(folder)
        await service.start()
        try:
            yield service
        finally:
            await service.end(signal.SIGKILL)


@pytest.fixture
async def callers(service: Service, folder: Path) -> AsyncIterator[Callers]:
    zone = make_zone(folder / "zone")
    async with AsyncExitStack() as up:
        scheduler, gateway = [
            await up.enter_async_context(peer(zone, role)) for role in (Role.SCHEDULER, Role.GATEWAY)
        ]
        yield Callers(scheduler, gateway)


@asynccontextmanager
async def peer(zone: Authority, role: Role) -> AsyncIterator[Fabric]:
    config = FabricConfig(host="127.0.0.1", interfaces=("127.0.0.1",))
    async with Fabric.join(config, issue(zone, role, "main")) as fabric:
        yield fabric


async def make_pool(callers: Callers) -> None:
    await callers.pools.create_pool(POOL)
    await callers.pools.add_range(v1.RangeRequest(pool=LAN, range=SPAN))


async def test_a_lease_survives_a_kill_and_is_given_only_once(service: Service, callers: Callers) -> None:
    await make_pool(callers)
    task, instance = new_task_id(), new_instance_id()
    known = await callers.lease(task, instance)
    assert isinstance(known.result, Leased)
    assert str(known.result.binding.address) == "10.0.0.10"
    await service.restart_after_a_kill()
    assert await callers.lease_as_engines_do(task, instance) == known
    assert await callers.ask(task) == known
    other = await callers.lease(new_task_id(), new_instance_id())
    assert isinstance(other.result, Leased)
    assert str(other.result.binding.address) == "10.0.0.11"


async def test_a_kill_amid_many_leases_loses_none_that_was_answered(
    service: Service, callers: Callers
) -> None:
    await make_pool(callers)
    asked = [(new_task_id(), new_instance_id()) for _ in range(100)]
    answered: dict[TaskId, Outcome] = {}
    enough = asyncio.Event()

    async def begin(task: TaskId, instance: InstanceId) -> None:
        with suppress(NanoError):  # the kill is what most of them meet
            answered[task] = await callers.lease(task, instance)
            if len(answered) >= 20:
                enough.set()

    async with asyncio.TaskGroup() as jobs:
        for task, instance in asked:
            jobs.create_task(begin(task, instance))
        await enough.wait()
        await service.restart_after_a_kill()
    again = {task: await callers.lease_as_engines_do(task, instance) for task, instance in asked}
    assert all(again[task] == known for task, known in answered.items())
    addresses = [known.result.binding.address for known in again.values() if isinstance(known.result, Leased)]
    assert len(set(addresses)) == len(asked)


async def test_an_undone_lease_is_free_again_and_its_step_stays_away(
    service: Service, callers: Callers
) -> None:
    await make_pool(callers)
    task, instance = new_task_id(), new_instance_id()
    await callers.lease(task, instance)
    undone = wire.outcome(await callers.steps.undo(v1.StepRef(task=task, step=STEP)))
    assert undone.progress is Progress.UNDONE
    await service.restart_after_a_kill()
    assert (await callers.lease_as_engines_do(task, instance)).progress is Progress.UNDONE
    await callers.pools.delete_pool(v1.AddressPoolRef(name=LAN))


async def test_a_release_frees_the_pool(service: Service, callers: Callers) -> None:
    await make_pool(callers)
    instance = new_instance_id()
    await callers.lease(new_task_id(), instance)
    with pytest.raises(Conflict, match=instance):
        await callers.pools.delete_pool(v1.AddressPoolRef(name=LAN))
    release = wire.begin_request(new_task_id(), "release_address", ReleaseAddress(instance))
    assert wire.outcome(await callers.steps.begin(release)).progress is Progress.DONE
    await callers.pools.remove_range(v1.RangeRef(pool=LAN, start=SPAN.start))


async def test_a_watch_goes_on_where_it_was_after_a_kill(service: Service, callers: Callers) -> None:
    await make_pool(callers)
    async with callers.watching() as changes:
        whole = await anext(changes)
        assert (whole.whole, [pool.name for pool in whole.pools]) == (True, [LAN])
        await callers.lease(new_task_id(), new_instance_id())
        first = await anext(changes)
        assert [lease.address for lease in first.leases] == ["10.0.0.10"]
        await service.restart_after_a_kill()
        with pytest.raises(NanoError):
            await anext(changes)
    await callers.lease_as_engines_do(new_task_id(), new_instance_id())
    async with callers.watching(first.cursor) as changes:
        second = await anext(changes)
        assert (second.whole, [lease.address for lease in second.leases]) == (False, ["10.0.0.11"])


async def test_nobody_calls_what_is_not_his(callers: Callers) -> None:
    with pytest.raises(Forbidden, match="scheduler/main"):
        await callers.strange_pools.create_pool(POOL)
    with pytest.raises(Forbidden, match="gateway/main"):
        await callers.strange_steps.ask(v1.StepRef(task="task", step=STEP))


async def test_it_ends_in_good_order_and_starts_with_its_kept_certificate(
    service: Service, callers: Callers
) -> None:
    await make_pool(callers)
    assert await service.end(signal.SIGTERM) == 0
    await service.start()
    async with callers.watching() as changes:
        assert [pool.ranges for pool in (await anext(changes)).pools] == [[SPAN]]
