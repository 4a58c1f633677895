"""Addresses: pools, ranges, leases, and what a host's DHCP responder needs of them."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from nano.model.ids import AddressPoolName, InstanceId


class Provider(StrEnum):
    """How the address reaches the guest."""

    DHCP = "dhcp"
    CLOUD_INIT = "cloudinit"


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """A span of addresses in one subnet, both ends included."""

    start: IPv4Address
    end: IPv4Address
    netmask: IPv4Address

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(f"{self.start}/{self.netmask}", strict=False)

    @property
    def capacity(self) -> int:
        return int(self.end) - int(self.start) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.start <= address <= self.end


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Addresses that instances of a compute pool get; ranges are sorted by start and never overlap."""

    name: AddressPoolName
    gateway: IPv4Address
    dns: tuple[IPv4Address, ...]
    provider: Provider
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """One address held by one owner: a network interface of an instance."""

    owner: str
    """`<instance id>/<interface index>`"""
    instance: InstanceId
    pool: AddressPoolName
    address: IPv4Address
    netmask: IPv4Address
    granted_ms: int


@dataclass(frozen=True, slots=True)
class Binding:
    """All that the responder of a host, or cloud-init, tells a guest's interface."""

    owner: str
    address: IPv4Address
    netmask: IPv4Address
    gateway: IPv4Address
    dns: tuple[IPv4Address, ...]
    provider: Provider
    lease_s: int = 43_200
    """Twelve hours, as the reference grants."""


def owner_of(instance: InstanceId, index: int = 0) -> str:
    """The name under which interface `index` of an instance holds its address."""
    return f"{instance}/{index}"
