"""A hypervisor that only pretends: the same behaviour as libvirt's at the interface, and nothing runs.

It serves simulations, where its time is the event loop's, and laptops without QEMU. With a state file its
machines outlive the process as QEMU's do, so a cell that was killed finds them again; without, they end
with the object. A guest with a system on its disk boots, connects an agent and says the address it was
bound to; one with an empty disk does nothing, as a real one would, and ignores the power button.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from nano import codec
from nano.model.action import StopMode
from nano.model.address import Binding
from nano.model.errors import Conflict, NanoError, NotFound, TimedOut, Unreachable
from nano.model.ids import InstanceId
from nano.model.instance import Power
from nano.model.pool import Capabilities, VirtType
from nano.model.template import RemoteControl
from services.cell.descriptor import Descriptor
from services.cell.events import Events
from services.cell.hypervisor import (
    Changed,
    Counters,
    Domain,
    Event,
    Gone,
    Machine,
    Resync,
    check_display,
)
from services.cell.sim_screens import Screens

_GIB = 1024**3
_IDLE_SHARE = 0.05
"""Of its processors: what a pretended guest uses."""
_MEMORY_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class SimSettings:
    """How fast and how large the pretended host is."""

    cores: int = 8
    memory_bytes: int = 32 * _GIB
    disk_bytes: int = 500 * _GIB
    boot_s: float = 3.0
    """From the power button to a connected agent."""
    shutdown_s: float = 1.0
    """From the request to switch off until it is off."""
    latency_s: float = 0.0
    """Of each call."""


class SimMachine(msgspec.Struct, frozen=True):
    """One pretended machine, as it is kept in the state file."""

    instance: InstanceId
    epoch: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    has_system: bool
    """Its disk was cloned from an image: something boots."""
    power: Power = Power.STOPPED
    agent: bool = False
    reason: str = ""
    name: str = ""
    control: RemoteControl = RemoteControl.VNC

    @property
    def domain(self) -> Domain:
        return Domain(self.instance, self.epoch, self.power, agent=self.agent, reason=self.reason)


BindingOf = Callable[[InstanceId], Binding | None]
"""What the responder of this host would tell the instance's card."""


class SimHypervisor:
    """`Hypervisor` without a host. `state_file` keeps the machines over the life of the process."""

    def __init__(
        self, binding_of: BindingOf, settings: SimSettings = SimSettings(), state_file: Path | None = None
    ) -> None:
        self._binding_of = binding_of
        self._settings = settings
        self._file = state_file
        self._events = Events()
        self._loop = asyncio.get_running_loop()
        self._timers: dict[InstanceId, asyncio.TimerHandle] = {}
        self._since: dict[InstanceId, float] = {}
        self._faults: dict[tuple[str, InstanceId], list[NanoError]] = {}
        self._away = False
        self._screens = Screens()
        self._machines = {machine.instance: machine for machine in _load(state_file)}
        for machine in self._machines.values():
            if machine.power is Power.RUNNING:
                self._since[machine.instance] = self._loop.time()
                self._boot(machine)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["SimHypervisor"]:
        try:
            yield self
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._screens.close_all()
            self._events.close()

    # What a test may do to it

    def fail_next(self, call: str, instance: InstanceId, error: NanoError) -> None:
        """The next `call` (`define`, `start`, ...) for `instance` raises `error`, and does nothing.

        Said several times, as many calls fail.
        """
        self._faults.setdefault((call, instance), []).append(error)

    def vanish(self) -> None:
        """The daemon goes: calls raise `Unreachable`, machines go on, events are lost."""
        self._away = True

    def come_back(self) -> None:
        self._away = False
        self._events.publish(Resync())

    def crash(self, instance: InstanceId) -> None:
        """The machine's emulator dies."""
        self._halt(instance, "the emulator ended without being asked")

    def power_off_inside(self, instance: InstanceId) -> None:
        """Somebody switches the machine off from within."""
        self._halt(instance, "the guest switched itself off")

    def reboot_host(self) -> None:
        """Every machine is off, as after a power failure; no event tells of it."""
        for machine in self._machines.values():
            self._stop_timer(machine.instance)
            self._screens.close(machine.instance)
            self._keep(_off(machine, ""))

    # Hypervisor

    async def probe(self) -> Capabilities:
        await self._arrive("probe", InstanceId(""))
        return Capabilities(
            virt_type=VirtType.SIMULATED,
            cores=self._settings.cores,
            memory_bytes=self._settings.memory_bytes,
            disk_bytes=self._settings.disk_bytes,
            machine="simulated",
            hypervisor_version="simulated",
            library_version="simulated",
        )

    async def define(self, machine: Machine) -> None:
        await self._arrive("define", machine.instance)
        known = self._machines.get(machine.instance)
        self._keep(
            SimMachine(
                machine.instance,
                machine.epoch,
                machine.spec.cores,
                machine.spec.memory_bytes,
                machine.spec.disk_bytes,
                has_system=machine.spec.image is not None,
                power=known.power if known else Power.STOPPED,
                agent=known.agent if known else False,
                name=machine.spec.name,
                control=machine.spec.devices.control,
            )
        )

    async def undefine(self, instance: InstanceId) -> None:
        await self._arrive("undefine", instance)
        known = self._machines.get(instance)
        if known is None:
            return
        if known.power is not Power.STOPPED:
            raise Conflict(f"instance {instance} runs: stop it before it is removed", subject=instance)
        del self._machines[instance]
        self._save()
        self._publish(Gone(instance))

    async def start(self, instance: InstanceId) -> None:
        await self._arrive("start", instance)
        known = self._machine(instance)
        if known.power is Power.RUNNING:
            return
        started = msgspec.structs.replace(known, power=Power.RUNNING, reason="")
        self._change(started)
        if known.power is Power.STOPPED:
            self._since[instance] = self._loop.time()
            self._boot(started)

    async def stop(self, instance: InstanceId, mode: StopMode, patience_s: float) -> None:
        await self._arrive("stop", instance)
        known = self._machines.get(instance)
        off = known is None or known.power is Power.STOPPED
        if mode in {StopMode.REBOOT, StopMode.RESET}:
            self._restart(self._machine(instance), mode)
        elif not off and mode is StopMode.FORCE:
            self._halt(instance, "")
        elif not off:
            await self._ask_to_stop(instance, patience_s)

    async def domains(self) -> list[Domain]:
        await self._arrive("domains", InstanceId(""))
        return [machine.domain for machine in self._machines.values()]

    async def domain(self, instance: InstanceId) -> Domain:
        await self._arrive("domain", instance)
        return self._machine(instance).domain

    async def usage(self) -> list[Counters]:
        await self._arrive("usage", InstanceId(""))
        return [self._used(each) for each in self._machines.values() if each.power is Power.RUNNING]

    async def guest_addresses(self, instance: InstanceId) -> tuple[IPv4Address, ...]:
        await self._arrive("guest_addresses", instance)
        if not self._machine(instance).agent:
            raise Unreachable(f"instance {instance}: its guest agent is not connected", subject=instance)
        binding = self._binding_of(instance)
        return (binding.address,) if binding else ()

    async def open_display(self, instance: InstanceId) -> Descriptor:
        await self._arrive("open_display", instance)
        known = self._machine(instance)
        check_display(instance, known.control, is_on=known.power is not Power.STOPPED)
        return await self._screens.open(instance, known.name)

    def events(self) -> AsyncIterator[Event]:
        return self._events.subscribe()

    # The pretence

    async def _arrive(self, call: str, instance: InstanceId) -> None:
        await asyncio.sleep(self._settings.latency_s)
        if self._away:
            raise Unreachable("the simulated hypervisor is away", subject=instance)
        if faults := self._faults.get((call, instance)):
            raise faults.pop(0)

    def _machine(self, instance: InstanceId) -> SimMachine:
        known = self._machines.get(instance)
        if known is None:
            raise NotFound(f"there is no machine of instance {instance} on this host", subject=instance)
        return known

    async def _ask_to_stop(self, instance: InstanceId, patience_s: float) -> None:
        known = self._machine(instance)
        if known.power is Power.PAUSED:
            raise Conflict(
                f"instance {instance} is paused and cannot hear it: start it, or stop it by force",
                subject=instance,
            )
        events = self._events.subscribe()
        try:
            async with asyncio.timeout(patience_s):
                while not self._machine(instance).agent:  # a system that is just starting hears nothing yet
                    await anext(events)
                await asyncio.sleep(self._settings.shutdown_s)
        except TimeoutError:
            raise TimedOut(
                f"instance {instance} did not switch itself off within {patience_s:g} s: "
                "wait for its system to start, or stop it by force",
                subject=instance,
            ) from None
        if instance in self._machines:
            self._halt(instance, "")

    def _restart(self, known: SimMachine, mode: StopMode) -> None:
        if known.power is Power.STOPPED:
            raise Conflict(f"instance {known.instance} is off: start it", subject=known.instance)
        if mode is StopMode.RESET or known.agent:
            again = msgspec.structs.replace(known, agent=False)
            self._change(again)
            self._screens.restart(again.instance)
            self._boot(again)

    def _boot(self, machine: SimMachine) -> None:
        self._stop_timer(machine.instance)
        if machine.has_system and not machine.agent:
            self._timers[machine.instance] = self._loop.call_later(
                self._settings.boot_s, self._booted, machine.instance
            )

    def _booted(self, instance: InstanceId) -> None:
        self._change(msgspec.structs.replace(self._machines[instance], agent=True))

    def _halt(self, instance: InstanceId, reason: str) -> None:
        self._stop_timer(instance)
        self._screens.close(instance)
        self._change(_off(self._machine(instance), reason))

    def _stop_timer(self, instance: InstanceId) -> None:
        if timer := self._timers.pop(instance, None):
            timer.cancel()

    def _change(self, machine: SimMachine) -> None:
        self._keep(machine)
        self._publish(Changed(machine.domain))

    def _publish(self, event: Event) -> None:
        if not self._away:
            self._events.publish(event)

    def _keep(self, machine: SimMachine) -> None:
        self._machines[machine.instance] = machine
        self._save()

    def _save(self) -> None:
        """Whole or not at all, as a killed process leaves it; a lost host loses its machines anyway."""
        if self._file is None:
            return
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(codec.encode(list(self._machines.values())))
        temporary.replace(self._file)

    def _used(self, machine: SimMachine) -> Counters:
        seconds = self._loop.time() - self._since[machine.instance]
        return Counters(
            instance=machine.instance,
            cores=machine.cores,
            cpu_ns=int(seconds * machine.cores * _IDLE_SHARE * 1e9),
            memory_used_bytes=int(machine.memory_bytes * _MEMORY_SHARE),
            memory_total_bytes=machine.memory_bytes,
            disk_used_bytes=machine.disk_bytes // 4,
            disk_total_bytes=machine.disk_bytes,
            read_bytes=int(seconds * 1_000),
            written_bytes=int(seconds * 500),
            received_bytes=int(seconds * 200),
            sent_bytes=int(seconds * 100),
        )


def _off(machine: SimMachine, reason: str) -> SimMachine:
    return msgspec.structs.replace(machine, power=Power.STOPPED, agent=False, reason=reason)


def _load(file: Path | None) -> list[SimMachine]:
    if file is None or not os.path.exists(file):  # noqa: PTH110 - called once, before anything runs
        return []
    return codec.decode(file.read_bytes(), list[SimMachine])
