"""What the cell asks of whatever runs its instances; `libvirt_driver.py` and `sim.py` answer.

One set of contract tests (`tests/support/hypervisor.py`) runs on both, so the simulated one cannot drift.
`Domain` is libvirt's word for a machine on a host; only the drivers' side of the cell uses it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from nano.model.action import StopMode
from nano.model.errors import Conflict, Unsupported
from nano.model.ids import InstanceId
from nano.model.instance import InstanceSpec, Power
from nano.model.pool import Capabilities
from nano.model.template import RemoteControl


@dataclass(frozen=True, slots=True)
class Machine:
    """All that a driver needs to define an instance on this host."""

    instance: InstanceId
    epoch: int
    spec: InstanceSpec
    mac: str
    volumes: tuple[Path, ...]
    """The system disk first, in the order of `spec.disks_bytes`."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What the hypervisor holds of one instance of ours."""

    instance: InstanceId
    epoch: int
    power: Power
    agent: bool = False
    """The guest agent is connected."""
    reason: str = ""
    """Why it is paused, or stopped when nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What one running instance has used since it was started; sizes in bytes."""

    instance: InstanceId
    cores: int
    cpu_ns: int
    """Processor time of the whole machine, emulator included."""
    memory_used_bytes: int
    """As the guest's balloon driver says; what the host has given it when no driver answers."""
    memory_total_bytes: int
    disk_used_bytes: int
    """Allocated on the host."""
    disk_total_bytes: int
    read_bytes: int
    written_bytes: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The domain is now like this."""

    domain: Domain


@dataclass(frozen=True, slots=True)
class Gone:
    """The instance's domain is not defined any more."""

    instance: InstanceId


@dataclass(frozen=True, slots=True)
class Resync:
    """Events may be missing (the daemon was away, or the consumer too slow): read all domains again."""


Event = Changed | Gone | Resync


class Display(Protocol):
    """One connection to a machine's screen, an end of `nano.relay`; whoever opened it closes it."""

    async def receive(self) -> bytes:
        """The next bytes; empty when the machine has gone off, or closed its screen."""

    async def send(self, data: bytes) -> bool:
        """Takes all of them, when there is room; False when the machine has gone off."""

    def close(self) -> None:
        """The emulator is told at once. Nobody may still receive or send."""


class Hypervisor(Protocol):
    """A host's machines. Every call may be repeated; errors are `NanoError`s that name the instance.

    While the daemon is away each call raises `Unreachable`; nothing is queued for later.
    """

    async def probe(self) -> Capabilities:
        """What this host can do; read once, when the cell starts."""

    async def define(self, machine: Machine) -> None:
        """Record the machine, stopped; one that is defined already takes the new shape at its next start."""

    async def undefine(self, instance: InstanceId) -> None:
        """Forget a stopped machine; nothing there is success. `Conflict` while it runs."""

    async def start(self, instance: InstanceId) -> None:
        """Switch it on; running already is success, paused goes on. `NotFound` when it is not defined."""

    async def stop(self, instance: InstanceId, mode: StopMode, patience_s: float) -> None:
        """Switch it off or restart it.

        Off already, or not there at all, is success for GRACEFUL and FORCE, and `Conflict` for REBOOT and
        RESET. GRACEFUL raises `TimedOut` when the guest is still on after `patience_s`.
        """

    async def domains(self) -> list[Domain]:
        """Every machine that carries our metadata."""

    async def domain(self, instance: InstanceId) -> Domain:
        """One machine; `NotFound` when it is not defined."""

    async def usage(self) -> list[Counters]:
        """Of all machines that run, in one sweep."""

    async def guest_addresses(self, instance: InstanceId) -> tuple[IPv4Address, ...]:
        """What the guest says it has, loopback left out; `Unreachable` when no agent answers."""

    async def open_display(self, instance: InstanceId) -> Display:
        """A new connection to its screen, keyboard and pointer. It speaks RFB and asks for no password.

        `Conflict` when the machine is off, `Unsupported` when its display speaks something else.
        """

    def events(self) -> AsyncIterator[Event]:
        """Each change from now on. The iterator ends with the driver."""


def check_display(instance: InstanceId, kind: str, *, is_on: bool) -> None:
    """Whether a display of that kind can be opened; the same words from both drivers."""
    if kind != RemoteControl.VNC:
        raise Unsupported(
            f"the display of instance {instance} is of the kind {kind or 'none'}, which is not carried: "
            "its template must say vnc",
            field="control",
            subject=instance,
        )
    if not is_on:
        raise Conflict(f"instance {instance} is off and shows nothing: start it", subject=instance)
