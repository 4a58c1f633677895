"""The XML of every kind of instance, line by line, and our mark read back.

After a wanted change run this module with NANO_WRITE_GOLDEN=1, then read the diff.
"""

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Invalid, Unsupported
from nano.model.ids import ImageId, InstanceId
from nano.model.instance import CpuPriority, InstanceSpec, Quality
from nano.model.pool import Capabilities, VirtType
from nano.model.template import (
    Devices,
    DiskBus,
    Display,
    NetworkModel,
    OperatingSystem,
    RemoteControl,
    Tablet,
    UsbController,
)
from services.cell.domain_xml import domain_xml, read_mark
from services.cell.hypervisor import Machine
from tests.support.hypervisor import GIB, MIB, spec_of

GOLDEN = Path(__file__).with_name("golden")
INSTANCE = InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
IMAGE = ImageId("9f3b7a52-6c1d-4f0e-8a7b-2d5e4c3b1a09")
KVM = Capabilities(VirtType.KVM, cores=8, memory_bytes=16 * GIB, disk_bytes=500 * GIB, machine="pc-q35-7.2")
TCG = replace(KVM, virt_type=VirtType.QEMU)

LINUX = spec_of(cores=2, memory_bytes=GIB, disks_bytes=(10 * GIB, 20 * GIB), image=IMAGE)
WINDOWS = replace(
    LINUX,
    devices=Devices(operating_system=OperatingSystem.WINDOWS, disk=DiskBus.SATA, network=NetworkModel.E1000),
    quality=Quality(CpuPriority.MEDIUM),
)
LEGACY = replace(
    LINUX,
    image=None,
    devices=Devices(
        disk=DiskBus.IDE,
        network=NetworkModel.RTL8139,
        display=Display.CIRRUS,
        usb=UsbController.NONE,
        tablet=Tablet.NONE,
    ),
)
GENERAL = replace(
    LINUX,
    devices=Devices(disk=DiskBus.SATA, network=NetworkModel.RTL8139, usb=UsbController.NONE),
    quality=Quality(CpuPriority.LOW, read_bytes_s=MIB, write_bytes_s=2 * MIB, read_iops=100, write_iops=200),
)
SPICE = replace(
    LINUX, devices=Devices(control=RemoteControl.SPICE, display=Display.NONE, tablet=Tablet.VIRTIO)
)

CASES = {
    "linux-kvm": (LINUX, KVM),
    "linux-tcg": (LINUX, TCG),
    "windows-kvm": (WINDOWS, KVM),
    "windows-tcg": (WINDOWS, TCG),
    "legacy-blank-kvm": (LEGACY, KVM),
    "general-limited-tcg": (GENERAL, TCG),
    "spice-kvm": (SPICE, KVM),
}


def machine(spec: InstanceSpec, *, epoch: int = 3) -> Machine:
    volumes = tuple(
        Path("/var/lib/nano/volumes", INSTANCE, f"{index}.qcow2") for index in range(len(spec.disks_bytes))
    )
    return Machine(INSTANCE, epoch, spec, "00:16:3e:12:34:56", volumes)


def xml_of(spec: InstanceSpec, host: Capabilities = KVM) -> str:
    return domain_xml(machine(spec), host, bridge="br0", console_log=Path("/var/lib/nano/consoles/web1.log"))


@pytest.mark.parametrize("name", CASES)
def test_the_definition_is_as_written_down(name: str) -> None:
    made = xml_of(*CASES[name])
    file = GOLDEN / f"{name}.xml"
    if os.environ.get("NANO_WRITE_GOLDEN"):
        file.write_text(made)
    assert made == file.read_text()


def test_every_written_definition_has_its_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.xml")} == set(CASES)


def test_ide_gets_the_older_board_of_the_same_version() -> None:
    assert 'machine="pc-i440fx-7.2"' in xml_of(LEGACY)


def test_only_an_empty_system_disk_boots_from_the_network() -> None:
    assert '<boot dev="network"' in xml_of(LEGACY)
    assert '<rom enabled="no"' in xml_of(LINUX)


@pytest.mark.parametrize("spec", [LINUX, WINDOWS, LEGACY, GENERAL, SPICE])
def test_no_definition_opens_a_port_or_lets_libvirt_restart_anything(spec: InstanceSpec) -> None:
    made = xml_of(spec)
    graphics = ET.fromstring(made).find("devices/graphics")
    assert graphics is not None
    assert [dict(listen.attrib) for listen in graphics] == [{"type": "socket"}]
    assert graphics.keys() == ["type"]
    assert "<on_crash>destroy</on_crash>" in made


@pytest.mark.parametrize(("bus", "most"), [(DiskBus.SCSI, 26), (DiskBus.SATA, 6), (DiskBus.IDE, 4)])
def test_a_bus_takes_so_many_disks_and_no_more(bus: DiskBus, most: int) -> None:
    devices = Devices(disk=bus)
    assert xml_of(spec_of(devices=devices, disks_bytes=(MIB,) * most)).count("<disk ") == most
    with pytest.raises(Invalid) as caught:
        xml_of(spec_of(devices=devices, disks_bytes=(MIB,) * (most + 1)))
    assert (caught.value.field, caught.value.subject) == ("disks", INSTANCE)


@pytest.mark.parametrize("quality", [Quality(receive_bytes_s=1), Quality(send_bytes_s=1)])
def test_a_limit_that_cannot_be_kept_is_refused(quality: Quality) -> None:
    with pytest.raises(Unsupported) as caught:
        xml_of(spec_of(quality=quality))
    assert caught.value.subject == INSTANCE


def test_libvirt_changes_the_owner_of_volumes_only_where_qemu_needs_it() -> None:
    made = domain_xml(machine(LINUX), KVM, bridge="br0", console_log=Path("/c"), own_volumes=True)
    labels = ET.fromstring(made).findall("devices/disk/source/seclabel")
    assert [each.attrib for each in labels] == [{"model": "dac", "relabel": "no"}] * len(LINUX.disks_bytes)
    assert "seclabel" not in xml_of(LINUX)


def test_what_a_name_holds_stays_text() -> None:
    made = xml_of(spec_of(name="a", group="<&>"))
    assert ET.fromstring(made).findtext("title") == "<&>.a"


@given(st.uuids(version=4), st.integers(min_value=0, max_value=2**63))
def test_the_mark_is_read_back_as_written(instance: object, epoch: int) -> None:
    marked = replace(machine(LINUX, epoch=epoch), instance=InstanceId(str(instance)))
    made = domain_xml(marked, KVM, bridge="br0", console_log=Path("/c"))
    assert read_mark(made) == (str(instance), epoch)


@pytest.mark.parametrize(
    "foreign",
    [
        "<domain><name>theirs</name></domain>",
        '<domain><metadata><x:instance xmlns:x="urn:other" id="a" epoch="1"/></metadata></domain>',
        '<domain><metadata><n:instance xmlns:n="urn:nano:instance:1" id="a" epoch="-1"/></metadata></domain>',
        '<domain><metadata><n:instance xmlns:n="urn:nano:instance:1" epoch="1"/></metadata></domain>',
    ],
)
def test_a_domain_without_a_whole_mark_is_not_ours(foreign: str) -> None:
    assert read_mark(foreign) is None
