"""What people may set of a cell, and the name it goes by."""

import re
from enum import StrEnum

import msgspec
from blake3 import blake3

from nano.model.errors import Invalid
from nano.model.ids import CellId
from nano.service import FabricSettings, Paths
from services.cell.kvm import VirtChoice

_ID = re.compile(r"Cell_[0-9a-f]{12}")
_NO_MAC = "00:00:00:00:00:00"


class Driver(StrEnum):
    """What runs the instances."""

    LIBVIRT = "libvirt"
    SIMULATED = "simulated"
    """Nothing runs: for simulations, and for laptops without QEMU."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/cell.toml`; an empty file starts a sane service on a host with libvirt and a bridge br0."""

    id: str = ""
    """`Cell_` and twelve hex digits; empty: those of the bridge's MAC."""
    hypervisor: Driver = Driver.LIBVIRT
    libvirt_uri: str = "qemu:///system"
    virt_type: VirtChoice = VirtChoice.AUTO
    bridge: str = "br0"
    """Where the instances' cards are plugged in. Give it a MAC of its own: it names the cell."""
    responder: str = "/run/nano/dhcp.sock"
    """The socket of this host's DHCP responder; empty on a pretended host, where nobody asks for a lease."""
    responder_user: str = ""
    """Who listens there, where that is neither root nor the cell's own user."""
    volumes_group: str = ""
    """The group of the cell's and QEMU's users that volumes are given to; empty: libvirt hands them over."""
    paths: Paths = Paths(data="/var/lib/nano/cell")
    fabric: FabricSettings = FabricSettings(port=5604)


def cell_id(config: Config, bridge_mac: str | None, host: str) -> CellId:
    """The configured name, else the bridge's, else on a pretended host one made of the host's own name.

    `Invalid` names the setting that is missing or wrong.
    """
    if config.id:
        if _ID.fullmatch(config.id) is None:
            raise Invalid("id", f"id is {config.id!r}: give Cell_ and twelve lower-case hex digits")
        return CellId(config.id)
    if bridge_mac is not None and bridge_mac != _NO_MAC:
        return CellId("Cell_" + bridge_mac.replace(":", "").lower())
    if config.hypervisor is Driver.SIMULATED:
        digest = blake3(f"{host} {config.paths.data}".encode()).hexdigest()
        return CellId("Cell_02" + digest[:10])  # 02: an address that is nobody's card
    raise Invalid(
        "bridge",
        f"the bridge {config.bridge!r} does not exist here: create it, set `bridge` to the one that the "
        "instances shall use, or set `id`",
    )
