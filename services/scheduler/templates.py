"""The templates of a fresh zone: the documented five, and one for guests that know virtio."""

import base64
import hashlib

from nano.model.ids import TemplateId
from nano.model.template import Devices, DiskBus, Display, NetworkModel, OperatingSystem, Tablet, Template
from nano.model.template import UsbController as Usb

_ROWS = (
    # Debian's cloud kernel has neither AHCI nor e1000 nor rtl8139 (hypervisor facts, 0.1)
    ("Linux (virtio)", "root", Devices()),
    # REST document, section 7, Default templates
    ("CentOS 7", "root", Devices()),
    ("CentOS 6", "root", Devices(disk=DiskBus.SATA)),
    (
        "Windows Server 2012",
        "Administrator",
        Devices(OperatingSystem.WINDOWS, disk=DiskBus.SATA, network=NetworkModel.E1000),
    ),
    ("General", "root", Devices(disk=DiskBus.SATA, network=NetworkModel.RTL8139, usb=Usb.NONE)),
    (
        "Legacy",
        "root",
        Devices(
            disk=DiskBus.IDE,
            network=NetworkModel.RTL8139,
            display=Display.CIRRUS,
            usb=Usb.NONE,
            tablet=Tablet.NONE,
        ),
    ),
)


def defaults(now_ms: int) -> list[Template]:
    """The templates of a fresh zone; their ids are the same in every zone, so that scripts can name them."""
    return [
        Template(template_id(name), name, admin, devices, now_ms, now_ms) for name, admin, devices in _ROWS
    ]


def template_id(name: str) -> TemplateId:
    """Twenty characters of base32hex, as long as the reference's ids, derived from the name."""
    digest = hashlib.sha256(name.encode()).digest()
    return TemplateId(base64.b32hexencode(digest).decode().lower()[:20])
