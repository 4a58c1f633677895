"""Which devices a kind of guest system gets."""

from dataclasses import dataclass
from enum import StrEnum

from nano.model.ids import TemplateId


class OperatingSystem(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"


class DiskBus(StrEnum):
    SCSI = "scsi"
    """virtio-scsi"""
    SATA = "sata"
    IDE = "ide"


class NetworkModel(StrEnum):
    VIRTIO = "virtio"
    E1000 = "e1000"
    RTL8139 = "rtl8139"


class Display(StrEnum):
    VGA = "vga"
    CIRRUS = "cirrus"
    QXL = "qxl"
    VIRTIO = "virtio"
    NONE = "none"


class RemoteControl(StrEnum):
    VNC = "vnc"
    SPICE = "spice"


class UsbController(StrEnum):
    NONE = ""
    NEC_XHCI = "nec-xhci"


class Tablet(StrEnum):
    NONE = ""
    USB = "usb"
    VIRTIO = "virtio"


@dataclass(frozen=True, slots=True)
class Devices:
    """What an instance is built with; copied at creation, so a later edit of the template leaves it alone."""

    operating_system: OperatingSystem = OperatingSystem.LINUX
    disk: DiskBus = DiskBus.SCSI
    network: NetworkModel = NetworkModel.VIRTIO
    display: Display = Display.VGA
    control: RemoteControl = RemoteControl.VNC
    usb: UsbController = UsbController.NEC_XHCI
    tablet: Tablet = Tablet.USB


@dataclass(frozen=True, slots=True)
class Template:
    """A named choice of devices."""

    id: TemplateId
    name: str
    admin: str
    """The administrator's account in such a guest: `root`, `Administrator`."""
    devices: Devices
    created_ms: int
    modified_ms: int
