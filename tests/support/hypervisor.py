"""What every driver of the cell must do, as tests that both run; and a libvirtd to run them on.

A test module subclasses `HypervisorContract` with a fixture `rig` of its own driver. What only one of them
can be made to do (crash an emulator, lose its daemon) stands in that driver's own tests.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from nano.fleet.guest_image import cache_folder
from nano.fleet.libvirtd import choose_libvirtd
from nano.model.action import StopMode
from nano.model.address import Binding, Provider, owner_of
from nano.model.errors import Conflict, NotFound, TimedOut, Unreachable, Unsupported
from nano.model.ids import ImageId, InstanceId, PoolName, TemplateId
from nano.model.instance import InstanceSpec, Power, Quality
from nano.model.pool import VirtType
from nano.model.template import Devices, RemoteControl
from services.cell.hypervisor import Changed, Domain, Event, Gone, Hypervisor, Machine
from tests.support.rfb import Ended, RfbClient

MIB = 1024 * 1024
GIB = 1024 * MIB
BRIDGE = "nanobr0"

_START_S = 30.0
"""A libvirtd that has never run here looks at every emulator first."""


def new_instance() -> InstanceId:
    return InstanceId(str(uuid.uuid4()))


def spec_of(**wanted: object) -> InstanceSpec:
    """A small instance; anything about it may be given."""
    spec = InstanceSpec(
        name="web1",
        owner="admin",
        group="staff",
        pool=PoolName("default"),
        cores=1,
        memory_bytes=32 * MIB,
        disks_bytes=(8 * MIB,),
        template=TemplateId("0123456789abcdefghij"),
        devices=Devices(),
        quality=Quality(),
    )
    return replace(spec, **wanted)  # type: ignore[arg-type]


def binding_of(instance: InstanceId, address: str = "10.77.0.9") -> Binding:
    return Binding(
        owner=owner_of(instance),
        address=IPv4Address(address),
        netmask=IPv4Address("255.255.255.0"),
        gateway=IPv4Address("10.77.0.1"),
        dns=(IPv4Address("10.77.0.1"),),
        provider=Provider.DHCP,
    )


@dataclass
class Rig:
    """A driver that is open, and a way to make machines that it can run."""

    hypervisor: Hypervisor
    storage: Path
    make_disk: Callable[[Path, int], None]
    made: list[InstanceId] = field(default_factory=list)

    def machine(self, spec: InstanceSpec | None = None, *, epoch: int = 1) -> Machine:
        """One with empty disks: its firmware finds nothing to boot, and stays there."""
        spec = spec or spec_of()
        instance = new_instance()
        volumes = tuple(self.storage / f"{instance}-{index}.qcow2" for index in range(len(spec.disks_bytes)))
        for volume, size_bytes in zip(volumes, spec.disks_bytes, strict=True):
            self.make_disk(volume, size_bytes)
        self.made.append(instance)
        mac = "00:16:3e:" + ":".join(instance[at : at + 2] for at in (0, 2, 4))
        return Machine(instance, epoch, spec, mac, volumes)

    async def defined(self, spec: InstanceSpec | None = None, *, epoch: int = 1) -> InstanceId:
        machine = self.machine(spec, epoch=epoch)
        await self.hypervisor.define(machine)
        return machine.instance

    async def running(self) -> InstanceId:
        instance = await self.defined()
        await self.hypervisor.start(instance)
        return instance

    async def clear(self) -> None:
        for instance in self.made:
            await self.hypervisor.stop(instance, StopMode.FORCE, 0)
            await self.hypervisor.undefine(instance)


async def until(
    events: AsyncIterator[Event], wanted: Callable[[Event], bool], patience_s: float = 60
) -> Event:
    """The first event that is wanted."""
    async with asyncio.timeout(patience_s):
        async for event in events:
            if wanted(event):
                return event
    raise AssertionError("the events ended")


def power_of(instance: InstanceId, power: Power) -> Callable[[Event], bool]:
    def wanted(event: Event) -> bool:
        return isinstance(event, Changed) and (event.domain.instance, event.domain.power) == (instance, power)

    return wanted


class HypervisorContract:
    """Each test gets `rig`; what it made is cleared afterwards."""

    async def test_the_probe_names_what_runs_guests_and_a_machine_type(self, rig: Rig) -> None:
        found = await rig.hypervisor.probe()
        assert found.virt_type in set(VirtType)
        assert found.cores > 0
        assert found.memory_bytes > 128 * MIB
        assert found.disk_bytes > 128 * MIB
        assert found.machine
        assert found.hypervisor_version
        assert found.library_version

    async def test_a_machine_is_defined_stopped_with_its_id_and_epoch(self, rig: Rig) -> None:
        instance = await rig.defined(epoch=7)
        assert await rig.hypervisor.domain(instance) == Domain(instance, 7, Power.STOPPED)
        assert Domain(instance, 7, Power.STOPPED) in await rig.hypervisor.domains()

    async def test_defining_again_takes_the_new_epoch(self, rig: Rig) -> None:
        machine = rig.machine()
        await rig.hypervisor.define(machine)
        await rig.hypervisor.define(replace(machine, epoch=2))
        assert (await rig.hypervisor.domain(machine.instance)).epoch == 2
        assert [each.instance for each in await rig.hypervisor.domains()].count(machine.instance) == 1

    async def test_a_running_machine_keeps_running_when_it_is_defined_again(self, rig: Rig) -> None:
        machine = rig.machine()
        await rig.hypervisor.define(machine)
        await rig.hypervisor.start(machine.instance)
        await rig.hypervisor.define(replace(machine, epoch=2))
        assert await rig.hypervisor.domain(machine.instance) == Domain(machine.instance, 2, Power.RUNNING)

    async def test_starting_twice_is_the_same_as_once(self, rig: Rig) -> None:
        instance = await rig.running()
        await rig.hypervisor.start(instance)
        assert (await rig.hypervisor.domain(instance)).power is Power.RUNNING

    async def test_what_is_not_defined_cannot_be_started_and_is_named(self, rig: Rig) -> None:
        stranger = new_instance()
        with pytest.raises(NotFound) as caught:
            await rig.hypervisor.start(stranger)
        assert caught.value.subject == stranger
        with pytest.raises(NotFound):
            await rig.hypervisor.domain(stranger)

    async def test_force_stops_at_once_and_stopping_again_is_success(self, rig: Rig) -> None:
        instance = await rig.running()
        await rig.hypervisor.stop(instance, StopMode.FORCE, 0)
        assert await rig.hypervisor.domain(instance) == Domain(instance, 1, Power.STOPPED)
        await rig.hypervisor.stop(instance, StopMode.FORCE, 0)
        await rig.hypervisor.stop(instance, StopMode.GRACEFUL, 1)

    async def test_stopping_what_is_not_there_is_success(self, rig: Rig) -> None:
        await rig.hypervisor.stop(new_instance(), StopMode.FORCE, 0)
        await rig.hypervisor.stop(new_instance(), StopMode.GRACEFUL, 1)

    async def test_a_guest_that_ignores_the_button_times_out_and_stays_on(self, rig: Rig) -> None:
        instance = await rig.running()
        with pytest.raises(TimedOut) as caught:
            await rig.hypervisor.stop(instance, StopMode.GRACEFUL, 0.5)
        assert caught.value.subject == instance
        assert (await rig.hypervisor.domain(instance)).power is Power.RUNNING

    @pytest.mark.parametrize("mode", [StopMode.REBOOT, StopMode.RESET])
    async def test_restarting_needs_a_machine_that_is_on(self, rig: Rig, mode: StopMode) -> None:
        instance = await rig.defined()
        with pytest.raises(Conflict):
            await rig.hypervisor.stop(instance, mode, 1)

    async def test_a_reset_leaves_it_running(self, rig: Rig) -> None:
        instance = await rig.running()
        await rig.hypervisor.stop(instance, StopMode.RESET, 1)
        assert (await rig.hypervisor.domain(instance)).power is Power.RUNNING

    async def test_a_running_machine_is_not_undefined(self, rig: Rig) -> None:
        instance = await rig.running()
        with pytest.raises(Conflict) as caught:
            await rig.hypervisor.undefine(instance)
        assert caught.value.subject == instance
        assert (await rig.hypervisor.domain(instance)).power is Power.RUNNING

    async def test_undefining_twice_is_the_same_as_once(self, rig: Rig) -> None:
        instance = await rig.defined()
        await rig.hypervisor.undefine(instance)
        await rig.hypervisor.undefine(instance)
        with pytest.raises(NotFound):
            await rig.hypervisor.domain(instance)
        assert instance not in {each.instance for each in await rig.hypervisor.domains()}

    async def test_starts_stops_and_removal_are_told_in_order(self, rig: Rig) -> None:
        events = rig.hypervisor.events()
        instance = await rig.running()
        await until(events, power_of(instance, Power.RUNNING))
        await rig.hypervisor.stop(instance, StopMode.FORCE, 0)
        await until(events, power_of(instance, Power.STOPPED))
        await rig.hypervisor.undefine(instance)
        assert await until(events, lambda event: event == Gone(instance))

    async def test_events_follow_a_machine_that_was_removed_and_made_again(self, rig: Rig) -> None:
        machine = rig.machine()
        await rig.hypervisor.define(machine)
        events = rig.hypervisor.events()
        await rig.hypervisor.undefine(machine.instance)
        await rig.hypervisor.define(machine)
        await rig.hypervisor.start(machine.instance)
        await until(events, power_of(machine.instance, Power.RUNNING))

    async def test_usage_counts_running_machines_only_and_grows(self, rig: Rig) -> None:
        off, on = await rig.defined(), await rig.running()
        first = {each.instance: each for each in await rig.hypervisor.usage()}
        assert on in first
        assert off not in first
        assert first[on].cores == 1
        assert first[on].memory_total_bytes == 32 * MIB
        assert first[on].disk_total_bytes >= 8 * MIB
        await asyncio.sleep(0.3)  # the machine's own time must pass for its processor to have run
        second = {each.instance: each for each in await rig.hypervisor.usage()}
        assert second[on].cpu_ns > first[on].cpu_ns

    async def test_a_guest_without_an_agent_says_so_and_is_named(self, rig: Rig) -> None:
        instance = await rig.running()
        with pytest.raises(Unreachable) as caught:
            await rig.hypervisor.guest_addresses(instance)
        assert caught.value.subject == instance

    async def test_a_display_speaks_rfb_without_a_password_and_shows_a_screen(self, rig: Rig) -> None:
        instance = await rig.running()
        with closing(await rig.hypervisor.open_display(instance)) as display:
            client = RfbClient(display.receive, display.send)
            await client.shake_hands()
            await client.ask()
            assert all(picture.dots for picture in await client.update())
            await client.press("a")
            await client.ask()  # it still answers
            assert await client.update()

    async def test_a_display_ends_with_its_machine(self, rig: Rig) -> None:
        instance = await rig.running()
        with (
            closing(await rig.hypervisor.open_display(instance)) as one,
            closing(await rig.hypervisor.open_display(instance)) as other,
        ):
            clients = [RfbClient(display.receive, display.send) for display in (one, other)]
            for client in clients:
                await client.shake_hands()
            await rig.hypervisor.stop(instance, StopMode.FORCE, 0)
            for client in clients:
                with pytest.raises(Ended):
                    await client.update()
            assert not await one.send(b"too late")

    async def test_only_a_machine_that_is_on_and_shows_vnc_has_a_display(self, rig: Rig) -> None:
        off = await rig.defined()
        spice = await rig.defined(spec_of(devices=Devices(control=RemoteControl.SPICE)))
        for instance, error in ((off, Conflict), (spice, Unsupported), (new_instance(), NotFound)):
            with pytest.raises(error) as caught:
                await rig.hypervisor.open_display(instance)
            assert caught.value.subject == instance

    async def test_machines_are_started_side_by_side(self, rig: Rig) -> None:
        machines = [await rig.defined() for _ in range(3)]
        async with asyncio.TaskGroup() as jobs:
            for instance in machines:
                jobs.create_task(rig.hypervisor.start(instance))
        running = {each.instance for each in await rig.hypervisor.domains() if each.power is Power.RUNNING}
        assert running >= set(machines)


def qcow2(path: Path, size_bytes: int) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size_bytes)], check=True)


@contextlib.contextmanager
def private_libvirtd() -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """A libvirtd of our own in a network namespace of its own, with a bridge: its URI, its folder, itself.

    Everything ends with it: mounts, network, and what it still runs.
    """
    root = Path(tempfile.mkdtemp(prefix="nano-hv-"))
    cache = cache_folder(Path("var"))  # what libvirt learnt of QEMU serves the next run as well
    cache.mkdir(parents=True, exist_ok=True)
    daemon = choose_libvirtd(root, cache, isolated=True)
    inside = (
        f"ip link set lo up && ip link add {BRIDGE} address 02:77:00:00:00:01 type bridge && "
        f'ip address add 10.77.0.1/24 dev {BRIDGE} && ip link set {BRIDGE} up && exec "$@"'
    )
    with (root / "libvirtd.out").open("wb") as said:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", inside, "sh", *daemon.command],
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(daemon.socket, process, root / "libvirtd.out")
        yield daemon.uri, root, process
    finally:
        _end_guests(daemon.uri)
        process.terminate()
        process.wait(20)
        _kill_emulators(daemon.socket.parent / "qemu")
        shutil.rmtree(daemon.socket.parent, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    command = ["virsh", "-q", "-c", f"qemu+unix:///system?socket={path}", "uri"]
    for _ in range(int(_START_S / 0.1)):
        assert process.poll() is None, log.read_text()
        if path.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise AssertionError(f"libvirtd did not come up: {log.read_text()}")


def _end_guests(uri: str) -> None:
    listed = subprocess.run(
        ["virsh", "-q", "-c", uri, "list", "--name"], capture_output=True, text=True, check=False
    )
    for name in listed.stdout.split():
        subprocess.run(["virsh", "-q", "-c", uri, "destroy", name], capture_output=True, check=False)


def _kill_emulators(run: Path) -> None:
    """Those that a libvirtd which died in a test could not end."""
    for file in run.glob("*-*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


def virsh(uri: str, *command: str) -> str:
    """What virsh printed; a command that fails fails the test."""
    return subprocess.run(
        ["virsh", "-q", "-c", uri, *command], capture_output=True, text=True, check=True
    ).stdout


def is_root() -> bool:
    return os.geteuid() == 0


CLONE = ImageId("9f3b7a52-6c1d-4f0e-8a7b-2d5e4c3b1a09")
"""Stands for the image of a system that was cloned onto a disk."""
