"""The libvirt driver keeps the contract on a real libvirtd with real (translated) machines."""

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nano.model.action import StopMode
from nano.model.errors import Invalid, Unreachable
from nano.model.ids import InstanceId
from nano.model.instance import CpuPriority, Power, Quality
from nano.model.pool import VirtType
from nano.model.template import Devices, DiskBus, Display, NetworkModel, Tablet, UsbController
from services.cell.hypervisor import Changed, Resync
from services.cell.kvm import VirtChoice
from services.cell.libvirt_driver import LibvirtHypervisor, LibvirtSettings
from tests.support.hypervisor import (
    BRIDGE,
    MIB,
    HypervisorContract,
    Rig,
    is_root,
    power_of,
    private_libvirtd,
    qcow2,
    spec_of,
    until,
    virsh,
)

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(not is_root(), reason="a libvirtd of our own needs root"),
]


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    with private_libvirtd() as running:
        yield running


def _settings(
    libvirtd: tuple[str, Path, object], virt_choice: VirtChoice = VirtChoice.QEMU
) -> LibvirtSettings:
    uri, root, _ = libvirtd
    for folder in ("disks", "consoles"):
        (root / folder).mkdir(exist_ok=True)
    return LibvirtSettings(uri, BRIDGE, virt_choice, storage=root / "disks", consoles=root / "consoles")


@pytest.fixture
async def rig(libvirtd: tuple[str, Path, object]) -> AsyncIterator[Rig]:
    settings = _settings(libvirtd)
    async with LibvirtHypervisor(settings).opened() as driver:
        rig = Rig(driver, settings.storage, qcow2)
        yield rig
        await rig.clear()


class TestLibvirt(HypervisorContract):
    """The whole contract, on QEMU."""


async def test_the_probe_finds_a_versioned_machine_type(rig: Rig) -> None:
    found = await rig.hypervisor.probe()
    assert found.virt_type is VirtType.QEMU
    assert found.machine.startswith("pc-q35-")
    assert found.hypervisor_version.count(".") == 2


LEGACY = Devices(
    disk=DiskBus.IDE,
    network=NetworkModel.RTL8139,
    display=Display.CIRRUS,
    usb=UsbController.NONE,
    tablet=Tablet.NONE,
)
GENERAL = Devices(disk=DiskBus.SATA, network=NetworkModel.RTL8139, usb=UsbController.NONE)
WINDOWS = Devices(disk=DiskBus.SATA, network=NetworkModel.E1000)


@pytest.mark.parametrize("devices", [LEGACY, GENERAL, WINDOWS], ids=["legacy", "general", "windows"])
async def test_the_documented_choices_of_devices_start(rig: Rig, devices: Devices) -> None:
    quality = Quality(CpuPriority.LOW, read_bytes_s=MIB, write_iops=100)
    instance = await rig.defined(spec_of(devices=devices, disks_bytes=(8 * MIB, 4 * MIB), quality=quality))
    await rig.hypervisor.start(instance)
    assert (await rig.hypervisor.domain(instance)).power is Power.RUNNING


async def test_a_definition_that_libvirt_refuses_is_an_error_of_ours(rig: Rig) -> None:
    with pytest.raises(Invalid) as caught:
        await rig.hypervisor.define(rig.machine(spec_of(cores=0)))
    assert caught.value.subject == rig.made[-1]


async def test_no_port_is_opened_for_the_screen(rig: Rig, libvirtd: tuple[str, Path, object]) -> None:
    instance = await rig.running()
    shown = virsh(libvirtd[0], "domdisplay", instance)
    assert "unix:" in shown
    assert "/vnc.sock" in shown


async def test_a_killed_emulator_is_reported_with_its_reason(
    rig: Rig, libvirtd: tuple[str, Path, object]
) -> None:
    instance = await rig.running()
    events = rig.hypervisor.events()
    _kill_emulator(libvirtd[0], instance)
    event = await until(events, power_of(instance, Power.STOPPED))
    assert isinstance(event, Changed)
    assert event.domain.reason == "the emulator ended without being asked"
    assert (await rig.hypervisor.domain(instance)).reason == "the emulator ended without being asked"


async def test_machines_of_others_are_neither_seen_nor_counted(
    rig: Rig, libvirtd: tuple[str, Path, object]
) -> None:
    foreign = (
        "<domain type='qemu'><name>theirs</name><memory>16384</memory><os><type>hvm</type></os></domain>"
    )
    (rig.storage / "theirs.xml").write_text(foreign)
    virsh(libvirtd[0], "create", str(rig.storage / "theirs.xml"))
    try:
        assert await rig.hypervisor.domains() == []
        assert await rig.hypervisor.usage() == []
    finally:
        virsh(libvirtd[0], "destroy", "theirs")


async def test_a_daemon_that_restarts_is_found_again_and_its_guests_go_on() -> None:
    with private_libvirtd() as (uri, root, process), contextlib.ExitStack() as ending:
        settings = _settings((uri, root, process))
        async with LibvirtHypervisor(settings).opened() as driver:
            rig = Rig(driver, settings.storage, qcow2)
            instance = await rig.running()
            events = driver.events()
            restart = ending.enter_context(_killed(process))
            with pytest.raises(Unreachable):
                await driver.domains()
            restart()
            await until(events, lambda event: isinstance(event, Resync), 30)
            assert [each.power for each in await driver.domains()] == [Power.RUNNING]
            await driver.stop(instance, StopMode.FORCE, 0)
            await until(events, power_of(instance, Power.STOPPED))


async def test_an_emulator_that_died_with_its_daemon_is_found_out() -> None:
    with private_libvirtd() as (uri, root, process), contextlib.ExitStack() as ending:
        settings = replace(_settings((uri, root, process)), settle_s=2.0)
        async with LibvirtHypervisor(settings).opened() as driver:
            rig = Rig(driver, settings.storage, qcow2)
            instance = await rig.running()
            events = driver.events()
            restart = ending.enter_context(_killed(process))
            _kill_emulator(uri, instance)
            restart()
            for _ in ("back", "settled"):
                await until(events, lambda event: isinstance(event, Resync), 30)
            assert [each.power for each in await driver.domains()] == [Power.STOPPED]


@contextlib.contextmanager
def _killed(libvirtd: "subprocess.Popen[bytes]") -> Iterator[Callable[[], None]]:
    """libvirtd is gone at once. Its namespaces are kept, so that a second one finds its guests in them."""
    kept = [os.open(f"/proc/{libvirtd.pid}/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "net")]
    enter = ["nsenter", f"--mount=/proc/self/fd/{kept[0]}", f"--net=/proc/self/fd/{kept[1]}"]
    command = [*enter, "libvirtd", "--config", "/etc/libvirt/libvirtd.conf"]
    second: list[subprocess.Popen[bytes]] = []
    try:
        libvirtd.kill()
        libvirtd.wait()
        yield lambda: second.append(subprocess.Popen(command, pass_fds=kept))
    finally:
        for descriptor in kept:
            os.close(descriptor)
        for process in second:
            process.terminate()
            process.wait()


def _kill_emulator(uri: str, instance: InstanceId) -> None:
    run = uri.partition("socket=")[2].removesuffix("/libvirt-sock")
    os.kill(int(next(Path(run, "qemu").glob(f"{instance}.pid")).read_text()), signal.SIGKILL)


async def test_without_a_daemon_opening_says_where_it_looked(tmp_path: Path) -> None:
    nowhere = f"qemu+unix:///system?socket={tmp_path}/none"
    settings = LibvirtSettings(
        nowhere, BRIDGE, VirtChoice.QEMU, storage=tmp_path, consoles=tmp_path, start_patience_s=0
    )
    with pytest.raises(Unreachable, match=str(tmp_path)):
        async with LibvirtHypervisor(settings).opened():
            pass
