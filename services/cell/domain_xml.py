"""An instance as libvirt's XML, and our mark in libvirt's XML read back. Pure: text in, text out.

The elements are those of libvirt's "Domain XML format"; what each choice is for stands beside it.
"""

import string
import xml.etree.ElementTree as ET
from pathlib import Path

from nano.model.errors import Invalid, Unsupported
from nano.model.ids import InstanceId
from nano.model.instance import CpuPriority, Quality
from nano.model.pool import Capabilities, VirtType
from nano.model.template import Devices, DiskBus, OperatingSystem, Tablet, UsbController
from services.cell.hypervisor import Machine

METADATA_URI = "urn:nano:instance:1"
"""Names our element in a domain's metadata; what lacks it is not ours and is never touched."""

AGENT_CHANNEL = "org.qemu.guest_agent.0"

SHARES = {CpuPriority.HIGH: 2000, CpuPriority.MEDIUM: 1000, CpuPriority.LOW: 500}
"""Weights on a busy host (REST document, section 3). No quota: idle cores are for whoever can use them."""

# What QEMU's translator runs at full speed, raised to x86-64-v2, below which Red Hat 9 and its kin refuse
# to start. `maximum` would boot slower for nothing (hypervisor-facts.md, section 1).
_TCG_MODEL = "qemu64"
_TCG_FEATURES = ("cx16", "lahf_lm", "popcnt", "sse4.1", "sse4.2", "ssse3")

_TCG_CACHE_MIB = 64
"""Translated code kept for one guest; QEMU's own choice grows to a gigabyte."""

_PREFIX = {DiskBus.SCSI: "sd", DiskBus.SATA: "sd", DiskBus.IDE: "hd"}
_MOST_DISKS = {DiskBus.SCSI: 26, DiskBus.SATA: 6, DiskBus.IDE: 4}
"""One letter each on virtio-scsi; the ports of one controller on the others."""


def domain_xml(
    machine: Machine, host: Capabilities, *, bridge: str, console_log: Path, own_volumes: bool = False
) -> str:
    """The definition of `machine` on `host`: its card on `bridge`, its serial output kept in `console_log`.

    `own_volumes`: QEMU may open them as they are, and libvirt leaves their owner alone.
    Raises `Invalid` where the spec cannot be built, `Unsupported` where this cell cannot keep a limit.
    """
    _check(machine)
    spec, devices = machine.spec, machine.spec.devices
    domain = ET.Element("domain", type="kvm" if host.virt_type is VirtType.KVM else "qemu")
    # The id is the name: a leftover of another instance can never stand in the way of the same short name.
    _text(domain, "name", machine.instance)
    _text(domain, "uuid", machine.instance)
    _text(domain, "title", spec.full_name)
    _mark(domain, machine)
    _text(domain, "memory", str(spec.memory_bytes // 1024), unit="KiB")
    _text(domain, "vcpu", str(spec.cores), placement="static")
    _text(ET.SubElement(domain, "cputune"), "shares", str(SHARES[spec.quality.cpu_priority]))
    _boot(domain, machine, host)
    _features(domain, host, devices)
    _processor(domain, spec.cores, host)
    _clock(domain, devices)
    # The cell decides what runs: libvirt starts nothing again by itself (hypervisor-facts.md, section 9).
    for event, then in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, then)
    _no_sleep(domain)
    _devices(domain, machine, bridge, console_log, own_volumes=own_volumes)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def read_mark(metadata: str) -> tuple[InstanceId, int] | None:
    """Id and epoch from a domain's whole XML, or from our metadata element alone; None if it is not ours."""
    root = ET.fromstring(metadata)  # noqa: S314 - written by our own libvirt, never by a stranger
    mark = next(root.iter(f"{{{METADATA_URI}}}instance"), None)
    if mark is None:
        return None
    instance, epoch = mark.get("id", ""), mark.get("epoch", "")
    if not instance or not epoch.isdecimal():
        return None
    return InstanceId(instance), int(epoch)


def disk_targets(machine: Machine) -> tuple[str, ...]:
    """The guest's names for the disks, `sda` first; statistics are asked for by them."""
    prefix = _PREFIX[machine.spec.devices.disk]
    return tuple(prefix + letter for letter in string.ascii_lowercase[: len(machine.volumes)])


def _check(machine: Machine) -> None:
    spec = machine.spec
    if len(machine.volumes) != len(spec.disks_bytes):
        raise Invalid(
            "disks",
            f"instance {machine.instance} asks for {len(spec.disks_bytes)} disks "
            f"and has {len(machine.volumes)} volumes",
            subject=machine.instance,
        )
    most = _MOST_DISKS[spec.devices.disk]
    if len(machine.volumes) > most:
        raise Invalid(
            "disks",
            f"instance {machine.instance} has {len(machine.volumes)} disks: "
            f"the bus {spec.devices.disk} takes {most}",
            subject=machine.instance,
        )
    if spec.quality.receive_bytes_s or spec.quality.send_bytes_s:
        raise Unsupported(
            f"instance {machine.instance} limits its network speed, which this cell cannot do: set both to 0",
            field="qos",
            subject=machine.instance,
        )


def _mark(domain: ET.Element, machine: Machine) -> None:
    ET.register_namespace("nano", METADATA_URI)
    metadata = ET.SubElement(domain, "metadata")
    ET.SubElement(
        metadata, f"{{{METADATA_URI}}}instance", {"id": machine.instance, "epoch": str(machine.epoch)}
    )


def _boot(domain: ET.Element, machine: Machine, host: Capabilities) -> None:
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine=_machine_type(machine.spec.devices, host))
    ET.SubElement(system, "boot", dev="hd")
    if _boots_from_network(machine):
        ET.SubElement(system, "boot", dev="network")


def _machine_type(devices: Devices, host: Capabilities) -> str:
    """A versioned type, so that a newer QEMU gives the same board: q35, or pc where IDE asks for it.

    QEMU versions both families together, so the name of one gives that of the other.
    """
    if devices.disk is DiskBus.IDE:
        return host.machine.replace("q35", "i440fx", 1)
    return host.machine


def _boots_from_network(machine: Machine) -> bool:
    """Only an empty system disk leaves anything for the network to boot; every other guest starts faster."""
    return machine.spec.image is None


def _features(domain: ET.Element, host: Capabilities, devices: Devices) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if host.virt_type is VirtType.QEMU:
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(_TCG_CACHE_MIB), unit="MiB")
    elif devices.operating_system is OperatingSystem.WINDOWS:
        # Windows idles on these instead of trapping at each tick of its clock.
        hyperv = ET.SubElement(features, "hyperv", mode="custom")
        for name in ("relaxed", "vapic"):
            ET.SubElement(hyperv, name, state="on")
        ET.SubElement(hyperv, "spinlocks", state="on", retries="8191")


def _processor(domain: ET.Element, cores: int, host: Capabilities) -> None:
    if host.virt_type is VirtType.KVM:
        cpu = ET.SubElement(domain, "cpu", mode="host-model", check="partial")
    else:
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", _TCG_MODEL, fallback="forbid")
    # One socket: desktop editions of Windows use no more than two.
    ET.SubElement(cpu, "topology", sockets="1", dies="1", cores=str(cores), threads="1")
    if host.virt_type is not VirtType.KVM:
        for name in _TCG_FEATURES:
            ET.SubElement(cpu, "feature", policy="require", name=name)


def _clock(domain: ET.Element, devices: Devices) -> None:
    """Windows keeps its hardware clock in local time, everything else in UTC."""
    windows = devices.operating_system is OperatingSystem.WINDOWS
    clock = ET.SubElement(domain, "clock", offset="localtime" if windows else "utc")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")


def _no_sleep(domain: ET.Element) -> None:
    """A guest that suspends itself would look paused and nobody could tell why."""
    power = ET.SubElement(domain, "pm")
    ET.SubElement(power, "suspend-to-mem", enabled="no")
    ET.SubElement(power, "suspend-to-disk", enabled="no")


def _devices(
    domain: ET.Element, machine: Machine, bridge: str, console_log: Path, *, own_volumes: bool
) -> None:
    devices = ET.SubElement(domain, "devices")
    choice = machine.spec.devices
    if choice.disk is DiskBus.SCSI:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for index, (volume, target) in enumerate(zip(machine.volumes, disk_targets(machine), strict=True)):
        source = _disk(devices, machine, index, volume, target)
        if own_volumes:  # also of the base below, which other guests read meanwhile
            ET.SubElement(source, "seclabel", model="dac", relabel="no")
    _interface(devices, machine, bridge)
    _console(devices, console_log)
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    _people(devices, choice)
    balloon = ET.SubElement(devices, "memballoon", model="virtio")
    # Without a period the guest's own figures are never refreshed.
    ET.SubElement(balloon, "stats", period="2")
    _text(ET.SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def _disk(devices: ET.Element, machine: Machine, index: int, volume: Path, target: str) -> ET.Element:
    """The disk's source, which says where the volume is."""
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(
        disk,
        "driver",
        name="qemu",
        type="qcow2",
        # The guest's own cache is enough, and what it flushes is on the disk.
        cache="none",
        # What the guest trims, or fills with zeros, returns to the host.
        discard="unmap",
        detect_zeroes="unmap",
        # A full host pauses the guest, which goes on when there is room, instead of corrupting its files.
        error_policy="stop",
    )
    source = ET.SubElement(disk, "source", file=str(volume))
    ET.SubElement(disk, "target", dev=target, bus=machine.spec.devices.disk.value)
    _text(disk, "serial", f"{machine.instance.replace('-', '')[:16]}-{index}")
    _limit_disk(disk, machine.spec.quality)
    return source


def _limit_disk(disk: ET.Element, quality: Quality) -> None:
    limits = {
        "read_bytes_sec": quality.read_bytes_s,
        "write_bytes_sec": quality.write_bytes_s,
        "read_iops_sec": quality.read_iops,
        "write_iops_sec": quality.write_iops,
    }
    if not any(limits.values()):
        return
    tune = ET.SubElement(disk, "iotune")
    for name, rate in limits.items():
        if rate:
            _text(tune, name, str(rate))


def _interface(devices: ET.Element, machine: Machine, bridge: str) -> None:
    interface = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(interface, "mac", address=machine.mac)
    ET.SubElement(interface, "source", bridge=bridge)
    ET.SubElement(interface, "model", type=machine.spec.devices.network.value)
    ET.SubElement(interface, "rom", enabled="yes" if _boots_from_network(machine) else "no")


def _console(devices: ET.Element, console_log: Path) -> None:
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(console_log), append="off")
    ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")


def _people(devices: ET.Element, choice: Devices) -> None:
    """Screen, keyboard and pointer. The screen is reached by a descriptor from libvirt: no port exists."""
    graphics = ET.SubElement(devices, "graphics", type=choice.control.value)
    ET.SubElement(graphics, "listen", type="socket")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type=choice.display.value)
    if choice.usb is not UsbController.NONE:
        ET.SubElement(devices, "controller", type="usb", index="0", model=choice.usb.value)
    elif choice.tablet is not Tablet.USB:
        ET.SubElement(devices, "controller", type="usb", index="0", model="none")
    if choice.tablet is not Tablet.NONE:
        ET.SubElement(devices, "input", type="tablet", bus=choice.tablet.value)


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, name, attributes)
    element.text = text
    return element
