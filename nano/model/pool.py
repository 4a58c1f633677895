"""Compute pools and their cells, as the scheduler records them."""

from dataclasses import dataclass, field
from enum import StrEnum

from nano.model.ids import AddressPoolName, CellId, PoolName


class Spread(StrEnum):
    """Which cell is preferred among those with room."""

    SPREAD = "spread"
    PACK = "pack"


@dataclass(frozen=True, slots=True)
class Policy:
    """How room is counted and cells are ranked; over-commit multiplies what a cell has."""

    spread: Spread = Spread.SPREAD
    cores_overcommit: float = 3.0
    memory_overcommit: float = 1.0
    """Memory is not over-committed by default: a guest that is killed for memory is data lost."""
    disk_overcommit: float = 3.0
    cores_weight: float = 2.0
    memory_weight: float = 1.5
    disk_weight: float = 0.5
    busy_percent: int = 80
    """A cell whose processors are busier than this is taken only when no calmer one has room."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Cells that share storage, addresses and policy."""

    name: PoolName
    enabled: bool = True
    address_pool: AddressPoolName | None = None
    policy: Policy = field(default_factory=Policy)


class VirtType(StrEnum):
    """What runs a guest's instructions."""

    KVM = "kvm"
    QEMU = "qemu"
    """TCG: every instruction is translated."""
    SIMULATED = "simulated"
    """Nothing runs; the cell pretends."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a host can do, probed when its cell starts."""

    virt_type: VirtType
    cores: int
    memory_bytes: int
    disk_bytes: int
    """Of the file system that holds the volumes."""
    machine: str = ""
    """The newest versioned machine type, such as `pc-q35-7.2`."""
    hypervisor_version: str = ""
    library_version: str = ""
    max_instances: int = 100


class Presence(StrEnum):
    """Whether a cell speaks to us; what it holds stays known in every case."""

    ONLINE = "online"
    LOST = "lost"
    """Silent for longer than the fabric allows."""
    LEFT = "left"
    """It said goodbye."""
    REMOVED = "removed"
    """It was shut out of the zone; what it held is still on record."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One server that hosts instances."""

    id: CellId
    pool: PoolName | None
    """None: found, not yet in a pool."""
    enabled: bool = True
    presence: Presence = Presence.LEFT
    confirmed: bool = False
    """It has given its full account since either side's start; before that it is no candidate."""
    capabilities: Capabilities | None = None
    address: str = ""
    """Where it was last heard: for people to read, never dialled."""
    seen_ms: int = 0
    """When its account came last; of one that is not there: since when nothing was heard of it."""
    incarnation: str = ""
    """The life of the cell's own book: status numbers only grow within one."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample of what a host or an instance uses; may be late or lost."""

    subject: str
    """A cell's or an instance's id."""
    at_ms: int
    cpu_percent: float
    """Of all the cores that it has, 0 to 100."""
    memory_used_bytes: int
    memory_total_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int
    read_bytes: int
    """Counters of this life of the machine, not rates."""
    written_bytes: int
    received_bytes: int
    sent_bytes: int
