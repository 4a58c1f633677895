"""Whether KVM really works here. libvirt's capabilities and the device's existence both lie on some machines.

A paravirtualised host may offer `/dev/kvm` without hardware behind it, and its guests die in the kernel's
first instructions (hypervisor-facts.md, section 1). So: the flag in /proc/cpuinfo, and a device that opens.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from nano.model.errors import Unsupported
from nano.model.pool import VirtType


class VirtChoice(StrEnum):
    """What the configuration asks for."""

    AUTO = "auto"
    KVM = "kvm"
    QEMU = "qemu"


def virt_type(choice: VirtChoice, *, cpuinfo: str, device_opens: bool) -> VirtType:
    """What to run guests with; `Unsupported` when KVM was demanded and is not there.

    `cpuinfo` is the text of /proc/cpuinfo.
    """
    if choice is VirtChoice.QEMU:
        return VirtType.QEMU
    lacking = _lacking(cpuinfo, device_opens=device_opens)
    if not lacking:
        return VirtType.KVM
    if choice is VirtChoice.KVM:
        raise Unsupported(
            f"virt_type is set to kvm, but {lacking}: switch virtualisation on in the firmware, "
            "or set virt_type to auto or qemu",
            field="virt_type",
        )
    return VirtType.QEMU


class KvmFacts(TypedDict):
    """What this host shows of KVM."""

    cpuinfo: str
    device_opens: bool


def kvm_facts() -> KvmFacts:
    """Read from this host; opening the device is harmless."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        opens = True
    except OSError:
        opens = False
    return KvmFacts(cpuinfo=Path("/proc/cpuinfo").read_text(), device_opens=opens)


def _lacking(cpuinfo: str, *, device_opens: bool) -> str:
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    if "vmx" not in flags and "svm" not in flags:
        return "the processor shows neither vmx nor svm"
    return "" if device_opens else "/dev/kvm cannot be opened"
