"""The machine a user owns: what was asked (spec), and what is so (status)."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from nano.model.address import Binding
from nano.model.ids import CellId, ImageId, InstanceId, PoolName, TaskId, TemplateId
from nano.model.template import Devices


class CpuPriority(StrEnum):
    """Shares of a busy host's cores (REST document, section 3: 2000, 1000, 500)."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Quality:
    """Limits on what an instance may use; 0 is unlimited. Rates are bytes and operations a second."""

    cpu_priority: CpuPriority = CpuPriority.HIGH
    read_bytes_s: int = 0
    write_bytes_s: int = 0
    read_iops: int = 0
    write_iops: int = 0
    receive_bytes_s: int = 0
    send_bytes_s: int = 0


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What was asked for."""

    name: str
    """The short name; `<group>.<name>` is unique in its pool."""
    owner: str
    group: str
    pool: PoolName
    cores: int
    memory_bytes: int
    disks_bytes: tuple[int, ...]
    """The system disk first, then data disks."""
    template: TemplateId
    devices: Devices
    image: ImageId | None = None
    """The disk image that the system disk is cloned from; none gives a blank disk."""
    auto_start: bool = False
    """Start right after creation and whenever its host starts."""
    modules: tuple[str, ...] = ()
    """`qemu` (the guest agent is installed) and `cloud-init`, as documented."""
    quality: Quality = Quality()

    @property
    def full_name(self) -> str:
        return f"{self.group}.{self.name}"

    @property
    def disk_bytes(self) -> int:
        return sum(self.disks_bytes)


class Power(StrEnum):
    """What libvirt says of the machine, in our words."""

    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"
    """Its processors stand still: a full disk, an error of the emulator, or somebody's hand."""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What is so, as its cell last reported it."""

    instance: InstanceId
    epoch: int
    number: int
    """Grows with each change in one life of the cell's book; the lower one overwrites nothing."""
    power: Power = Power.STOPPED
    agent: bool = False
    """The guest agent is connected."""
    addresses: tuple[IPv4Address, ...] = ()
    """What the guest itself says it has, the loopback left out."""
    started_ms: int = 0
    """When it was last seen to start; 0 when stopped."""
    reason: str = ""
    """Why it is paused or stopped when nobody asked for it, in words."""


class Wanted(StrEnum):
    """The state that its owner asked for last."""

    STOPPED = "stopped"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Instance:
    """What the scheduler records of an instance: it survives any cell's silence."""

    id: InstanceId
    spec: InstanceSpec
    cell: CellId
    epoch: int
    mac: str
    """`00:16:3e:` and three octets, unique in the zone."""
    created_ms: int
    wanted: Wanted = Wanted.STOPPED
    created: bool = False
    """False while its creation has not passed the pivot: room is reserved, nothing may be done with it."""
    deleting: bool = False
    binding: Binding | None = None
    """Its address by our DHCP; none where the pool has no address pool."""
    task: TaskId | None = None
    """The task that creates it, as long as that runs."""
    simulated: bool = False
    """Its cell only pretends (`--simulated`)."""
