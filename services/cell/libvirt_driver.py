"""The cell's machines through libvirt: `Hypervisor` on a real host."""

import asyncio
import contextlib
import os
import socket
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

import libvirt

from nano.model.action import StopMode
from nano.model.errors import Conflict, Internal, NotFound, TimedOut, Unreachable
from nano.model.ids import InstanceId
from nano.model.instance import Power
from nano.model.pool import Capabilities, VirtType
from services.cell.descriptor import Descriptor
from services.cell.domain_xml import AGENT_CHANNEL, METADATA_URI, domain_xml, read_mark
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
from services.cell.kvm import VirtChoice, kvm_facts, virt_type
from services.cell.libvirt_link import Link, hand_over

AGENT_S = 5
"""How long a guest's agent may take to answer; whole seconds, as libvirt wants them."""

PRESS_AGAIN_S = 10.0
"""When a power button that nothing came of is pressed once more."""

_ALL_FLAGS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_STATISTICS = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
# NOWAIT: a machine that is being started or is stuck must not hold up the figures of the others.
_STATISTICS_OF = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
)
_POWER = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,  # on its way down, not there yet
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
}
_WHY_STOPPED = {
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "the emulator ended without being asked",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "it could not be started",
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "the guest switched itself off",
}
_WHY_PAUSED = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "a disk failed: most often the host's storage is full",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "the guest's kernel panicked",
    libvirt.VIR_DOMAIN_PAUSED_USER: "somebody paused it",
}
_RESTART = {
    StopMode.REBOOT: lambda domain: domain.reboot(0),
    StopMode.RESET: lambda domain: domain.reset(0),
}


@dataclass(frozen=True, slots=True)
class LibvirtSettings:
    """What the driver needs to know of this host."""

    uri: str
    bridge: str
    virt_choice: VirtChoice
    storage: Path
    """The folder of the volumes: its file system's size is the host's."""
    consoles: Path
    """A folder for what the guests write on their serial ports; libvirt's log daemon writes there."""
    own_volumes: bool = False
    """QEMU gets at the volumes by their group: libvirt shall not hand them to its user."""
    start_patience_s: float = 20.0
    """How long libvirtd may take to appear when the cell starts."""
    settle_s: float = 10.0
    """How long a libvirtd that has started may look for its machines before we read them once more."""


class LibvirtHypervisor:
    """Machines of one libvirtd. Enter `opened`, then `probe` before the first `define`."""

    def __init__(self, settings: LibvirtSettings) -> None:
        self._settings = settings
        self._link = Link(
            settings.uri,
            self._back,
            start_patience_s=settings.start_patience_s,
            settle_s=settings.settle_s,
        )
        self._events = Events()
        self._loop = asyncio.get_running_loop()
        self._subscribe()
        self._capabilities: Capabilities | None = None
        self._known: dict[InstanceId, Domain] = {}
        self._event_number = 0
        self._event_of: dict[InstanceId, int] = {}
        self._going: set[InstanceId] = set()
        """Undefined by ourselves: libvirt's event of it may come after a new definition, and is no news."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["LibvirtHypervisor"]:
        """Connected while entered; `Unreachable` when libvirt is not there."""
        async with self._link.held():
            try:
                await self.domains()
                yield self
            finally:
                self._events.close()

    # What it can do

    async def probe(self) -> Capabilities:
        kind = virt_type(self._settings.virt_choice, **kvm_facts())
        self._capabilities = await self._link.slow.call(
            lambda connection: _capabilities(connection, kind, self._settings.storage),
            "asking libvirt what this host can do",
        )
        return self._capabilities

    # Definitions

    async def define(self, machine: Machine) -> None:
        if self._capabilities is None:
            await self.probe()
        assert self._capabilities is not None  # noqa: S101 - probe sets it
        log = self._console_log(machine.instance)
        xml = domain_xml(
            machine,
            self._capabilities,
            bridge=self._settings.bridge,
            console_log=log,
            own_volumes=self._settings.own_volumes,
        )
        mark = self._event_number
        found = await self._link.query.call(
            lambda connection: _define(connection, xml),
            f"defining instance {machine.instance}",
            machine.instance,
        )
        self._learn([found] if found else [], mark)

    async def undefine(self, instance: InstanceId) -> None:
        def undefine(connection: Any) -> None:
            domain = connection.lookupByUUIDString(instance)
            if domain.isActive():
                raise Conflict(f"instance {instance} runs: stop it before it is removed", subject=instance)
            domain.undefineFlags(_ALL_FLAGS)

        with contextlib.suppress(NotFound):
            await self._link.query.call(undefine, f"removing the definition of instance {instance}", instance)
            self._forget(instance)
            self._going.add(instance)
        self._console_log(instance).unlink(missing_ok=True)

    def _console_log(self, instance: InstanceId) -> Path:
        return self._settings.consoles / f"{instance}.log"

    # Power

    async def start(self, instance: InstanceId) -> None:
        def start(connection: Any) -> None:
            domain = connection.lookupByUUIDString(instance)
            power = _POWER.get(domain.state()[0], Power.STOPPED)
            if power is Power.STOPPED:
                domain.create()
            elif power is Power.PAUSED:
                domain.resume()

        await self._link.query.call(start, f"starting instance {instance}", instance)

    async def stop(self, instance: InstanceId, mode: StopMode, patience_s: float) -> None:
        if mode is StopMode.FORCE:
            await self._switch_off(instance)
        elif mode is StopMode.GRACEFUL:
            await self._ask_to_stop(instance, patience_s)
        else:
            await self._restart(instance, mode)

    async def _switch_off(self, instance: InstanceId) -> None:
        def destroy(connection: Any) -> None:
            domain = connection.lookupByUUIDString(instance)
            if domain.isActive():
                domain.destroy()

        with contextlib.suppress(NotFound):
            await self._until_off(destroy, instance)
            # Of a machine that it was still finding after its own start, libvirt tells no end.
            await self.domain(instance)

    async def _until_off(self, destroy: Any, instance: InstanceId) -> None:
        """Between the look and the act the guest may have gone by itself, which is what was asked for."""
        try:
            await self._link.query.call(destroy, f"switching instance {instance} off", instance)
        except Conflict:
            if (await self.domain(instance)).power is not Power.STOPPED:
                raise

    async def _ask_to_stop(self, instance: InstanceId, patience_s: float) -> None:
        events = self._events.subscribe()
        try:
            async with asyncio.timeout(patience_s):
                while await self._press_button(instance):
                    await _news_of(events, instance)
        except TimeoutError:
            raise TimedOut(
                f"instance {instance} did not switch itself off within {patience_s:g} s: "
                "wait for its system to start, or stop it by force",
                subject=instance,
            ) from None
        except NotFound:
            return

    async def _press_button(self, instance: InstanceId) -> bool:
        """Whether the machine was on. libvirt asks the agent if one is connected, else presses the button."""

        def press(connection: Any) -> bool:
            domain = connection.lookupByUUIDString(instance)
            power = _POWER.get(domain.state()[0], Power.STOPPED)
            if power is Power.RUNNING:
                domain.shutdown()
            elif power is Power.PAUSED:
                raise Conflict(
                    f"instance {instance} is paused and cannot hear it: start it, or stop it by force",
                    subject=instance,
                )
            return power is not Power.STOPPED

        try:
            doing = f"asking instance {instance} to switch off"
            return await self._link.slow.call(press, doing, instance, leave=True)
        except NotFound:
            return False
        except (Conflict, Internal):  # it may have gone off between the look and the press
            if (await self.domain(instance)).power is not Power.STOPPED:
                raise
            return False

    async def _restart(self, instance: InstanceId, mode: StopMode) -> None:
        def restart(connection: Any) -> None:
            domain = connection.lookupByUUIDString(instance)
            if not domain.isActive():
                raise Conflict(f"instance {instance} is off: start it", subject=instance)
            _RESTART[mode](domain)

        await self._link.slow.call(restart, f"restarting instance {instance} ({mode})", instance)

    # What is so

    async def domains(self) -> list[Domain]:
        mark = self._event_number
        rows = await self._link.query.call(
            lambda connection: [_read(domain) for domain in connection.listAllDomains()],
            "reading all instances",
        )
        self._event_of = {each: number for each, number in self._event_of.items() if number > mark}
        self._known = {each: known for each, known in self._known.items() if each in self._event_of}
        self._going.clear()
        self._learn([row for row in rows if row is not None], mark)
        return list(self._known.values())

    async def domain(self, instance: InstanceId) -> Domain:
        mark = self._event_number
        found = await self._link.query.call(
            lambda connection: _read(connection.lookupByUUIDString(instance)),
            f"reading instance {instance}",
            instance,
        )
        if found is None:
            raise NotFound(f"the machine {instance} on this host is none of ours", subject=instance)
        self._learn([found], mark)
        if instance not in self._known:
            raise NotFound(f"the definition of instance {instance} has just been removed", subject=instance)
        return self._known[instance]

    def _learn(self, found: list[Domain], mark: int) -> None:
        """Takes in what was read since event number `mark`; what an event has told since then is newer."""
        for row in found:
            if self._event_of.get(row.instance, 0) <= mark:
                before = self._known.get(row.instance)
                self._known[row.instance] = row
                if before is not None and before.power is not row.power:
                    self._events.publish(Changed(row))  # libvirt owed us that event, or brings it yet

    async def usage(self) -> list[Counters]:
        rows = await self._link.watch.call(
            lambda connection: [
                (InstanceId(domain.UUIDString()), row)
                for domain, row in connection.getAllDomainStats(_STATISTICS, _STATISTICS_OF)
            ],
            "reading the usage of all instances",
        )
        return [counters(instance, row) for instance, row in rows if instance in self._known]

    async def guest_addresses(self, instance: InstanceId) -> tuple[IPv4Address, ...]:
        if not (await self.domain(instance)).agent:
            raise Unreachable(f"instance {instance}: its guest agent is not connected", subject=instance)
        interfaces = await self._link.slow.call(
            lambda connection: _ask_agent(connection.lookupByUUIDString(instance)),
            f"asking the guest of instance {instance} for its addresses",
            instance,
        )
        return addresses(interfaces)

    async def open_display(self, instance: InstanceId) -> Descriptor:
        opened: list[socket.socket] = []

        def open_graphics(connection: Any) -> None:
            opened.append(_open_graphics(connection.lookupByUUIDString(instance), instance))

        try:
            await self._link.slow.call(open_graphics, f"opening the display of instance {instance}", instance)
        except BaseException:  # also a caller who went away while the thread opened it
            for screen in opened:
                screen.close()
            raise
        return Descriptor(opened[0])

    # Events

    def events(self) -> AsyncIterator[Event]:
        return self._events.subscribe()

    def _back(self) -> None:
        self._events.publish(Resync())

    def _subscribe(self) -> None:
        """The callbacks run on libvirt's thread, and are handed over at once."""
        loop = self._loop

        def lifecycle(_: Any, domain: Any, event: int, detail: int, __: Any) -> None:
            hand_over(loop, self._on_lifecycle, InstanceId(domain.UUIDString()), event, detail)

        def agent(_: Any, domain: Any, state: int, __: int, ___: Any) -> None:
            connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
            hand_over(loop, self._on_agent, InstanceId(domain.UUIDString()), connected)

        self._link.on_event(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle)
        self._link.on_event(libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent)

    def _on_lifecycle(self, instance: InstanceId, event: int, detail: int) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
            if instance in self._going:
                self._going.discard(instance)
            else:
                self._forget(instance)
        elif event in _LIFECYCLE:
            power, why = _LIFECYCLE[event]
            self._on_change(instance, power=power, reason=why.get(detail, ""))

    def _on_agent(self, instance: InstanceId, connected: bool) -> None:
        self._on_change(instance, agent=connected)

    def _on_change(self, instance: InstanceId, **fields: Any) -> None:
        known = self._known.get(instance)
        if known is None:
            return  # a machine that is not ours
        if fields.get("power") is Power.STOPPED:
            fields["agent"] = False
        self._count(instance)
        self._known[instance] = replace(known, **fields)
        if self._known[instance] != known:
            self._events.publish(Changed(self._known[instance]))

    def _forget(self, instance: InstanceId) -> None:
        if self._known.pop(instance, None) is not None:
            self._count(instance)
            self._events.publish(Gone(instance))

    def _count(self, instance: InstanceId) -> None:
        self._event_number += 1
        self._event_of[instance] = self._event_number


_LIFECYCLE: dict[int, tuple[Power, dict[int, str]]] = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: (Power.RUNNING, {}),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: (Power.RUNNING, {}),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
        Power.PAUSED,
        {
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: _WHY_PAUSED[libvirt.VIR_DOMAIN_PAUSED_IOERROR],
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: _WHY_PAUSED[libvirt.VIR_DOMAIN_PAUSED_USER],
        },
    ),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: (
        Power.PAUSED,
        {libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED: _WHY_PAUSED[libvirt.VIR_DOMAIN_PAUSED_CRASHED]},
    ),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: (
        Power.STOPPED,
        {
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: _WHY_STOPPED[libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN],
            libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: _WHY_STOPPED[libvirt.VIR_DOMAIN_SHUTOFF_CRASHED],
            # Of a monitor that is suddenly gone libvirt says "crashed" when asked and "failed" in its event.
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: _WHY_STOPPED[libvirt.VIR_DOMAIN_SHUTOFF_CRASHED],
        },
    ),
}
"""What each event says of the machine; what is not here (defined, shutting down) changes nothing."""


async def _news_of(events: AsyncIterator[Event], instance: InstanceId) -> None:
    """Something happened to it, or nothing did for so long that the button is worth another press.

    A system that was just starting hears no button; its agent, which connects when it is up, does.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PRESS_AGAIN_S):
            await _next_of(events, instance)


async def _next_of(events: AsyncIterator[Event], instance: InstanceId) -> None:
    """Returns with the next event that concerns the instance, or may hide one that does."""
    async for event in events:
        match event:
            case Resync():
                return
            case Changed(domain) if domain.instance == instance:
                return
            case Gone(gone) if gone == instance:
                return


def _define(connection: Any, xml: str) -> Domain | None:
    """Runs on a thread. A machine that runs takes its shape at its next start, but its new mark at once."""
    domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    if domain.isActive():
        mark = domain.metadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_URI, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, mark, "nano", METADATA_URI, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
    return _read(domain)


def _read(domain: Any) -> Domain | None:
    """Runs on a thread. None for a machine that is not ours, or that was undefined under our eyes."""
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_URI)
        xml = domain.XMLDesc()
        state, why = domain.state()
    except libvirt.libvirtError as error:
        if error.get_error_code() in {libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN}:
            return None
        raise
    mark = read_mark(xml)
    if mark is None:
        return None
    power = _POWER.get(state, Power.STOPPED)
    reasons = {Power.STOPPED: _WHY_STOPPED, Power.PAUSED: _WHY_PAUSED}.get(power, {})
    return Domain(mark[0], mark[1], power, agent=_agent_connected(xml), reason=reasons.get(why, ""))


def _ask_agent(domain: Any) -> Any:
    """Runs on a thread. Without a limit of its own, a guest that hangs would keep the thread for ever."""
    domain.agentSetResponseTimeout(AGENT_S, 0)
    return domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)


def _open_graphics(domain: Any, instance: InstanceId) -> socket.socket:
    """Runs on a thread. libvirt hands one end of a new pair to the emulator, and the other to us."""
    kind = ET.fromstring(domain.XMLDesc()).find("devices/graphics")  # noqa: S314 - written by our own libvirt
    check_display(instance, "" if kind is None else kind.get("type", ""), is_on=bool(domain.isActive()))
    return socket.socket(fileno=domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))


def _agent_connected(xml: str) -> bool:
    root = ET.fromstring(xml)  # noqa: S314 - written by our own libvirt
    return any(
        target.get("name") == AGENT_CHANNEL and target.get("state") == "connected"
        for target in root.iterfind("devices/channel/target")
    )


def _capabilities(connection: Any, kind: VirtType, storage: Path) -> Capabilities:
    described = connection.getDomainCapabilities(
        None, "x86_64", "q35", "kvm" if kind is VirtType.KVM else "qemu"
    )
    host = connection.getInfo()
    room = os.statvfs(storage)
    return Capabilities(
        virt_type=kind,
        cores=host[2],
        memory_bytes=host[1] * 1024 * 1024,
        disk_bytes=room.f_frsize * room.f_blocks,
        machine=ET.fromstring(described).findtext("machine", ""),  # noqa: S314 - written by our own libvirt
        hypervisor_version=_version(connection.getVersion()),
        library_version=_version(connection.getLibVersion()),
    )


def _version(number: int) -> str:
    """`7002022` is 7.2.22."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def counters(instance: InstanceId, row: dict[str, Any]) -> Counters:
    """One machine's row of libvirt's statistics (virConnectGetAllDomainStats), in our words."""
    disks = range(row.get("block.count", 0))
    cards = range(row.get("net.count", 0))
    total = row.get("balloon.current", 0) * 1024
    free = row.get("balloon.usable", row.get("balloon.unused"))
    used = total - free * 1024 if free is not None else min(row.get("balloon.rss", 0) * 1024, total)
    return Counters(
        instance=instance,
        cores=row.get("vcpu.current", 1),
        cpu_ns=row.get("cpu.time", 0),
        memory_used_bytes=max(used, 0),
        memory_total_bytes=total,
        disk_used_bytes=sum(row.get(f"block.{index}.allocation", 0) for index in disks),
        disk_total_bytes=sum(row.get(f"block.{index}.capacity", 0) for index in disks),
        read_bytes=sum(row.get(f"block.{index}.rd.bytes", 0) for index in disks),
        written_bytes=sum(row.get(f"block.{index}.wr.bytes", 0) for index in disks),
        received_bytes=sum(row.get(f"net.{index}.rx.bytes", 0) for index in cards),
        sent_bytes=sum(row.get(f"net.{index}.tx.bytes", 0) for index in cards),
    )


def addresses(interfaces: dict[str, Any] | None) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses in an agent's answer, in its order. It is the guest's word: nonsense is left out."""
    found: list[IPv4Address] = []
    for interface in (interfaces or {}).values():
        for entry in (interface or {}).get("addrs") or ():
            with contextlib.suppress(AddressValueError):
                found.append(IPv4Address(str(entry.get("addr"))))
    return tuple(address for address in found if not address.is_loopback)
