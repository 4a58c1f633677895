"""Nouns to think with: one whole example of each, for tests to vary."""

from ipaddress import IPv4Address

from nano.model.address import Binding, Provider
from nano.model.ids import CellId, ImageId, InstanceId, PoolName, TemplateId
from nano.model.image import Content, Image, ImageKind
from nano.model.instance import Instance, InstanceSpec
from nano.model.pool import Capabilities, Cell, Presence, VirtType
from nano.model.template import Devices

GIB = 2**30

SPEC = InstanceSpec(
    name="vm",
    owner="admin",
    group="admin",
    pool=PoolName("default"),
    cores=2,
    memory_bytes=GIB,
    disks_bytes=(10 * GIB,),
    template=TemplateId("0123456789abcdefghij"),
    devices=Devices(),
)
INSTANCE = Instance(
    InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7"),
    SPEC,
    CellId("Cell_00163e000001"),
    1,
    "00:16:3e:00:00:01",
    1_700_000_000_000,
    created=True,
)
BINDING = Binding(
    owner=f"{INSTANCE.id}/0",
    address=IPv4Address("10.57.0.9"),
    netmask=IPv4Address("255.255.255.0"),
    gateway=IPv4Address("10.57.0.1"),
    dns=(IPv4Address("10.57.0.1"), IPv4Address("10.57.0.2")),
    provider=Provider.DHCP,
)
CELL = Cell(
    CellId("Cell_00163e000001"),
    PoolName("default"),
    presence=Presence.ONLINE,
    confirmed=True,
    capabilities=Capabilities(VirtType.KVM, cores=8, memory_bytes=16 * GIB, disk_bytes=500 * GIB),
)
IMAGE = Image(
    id=ImageId("0f8fad5b-d9cb-469f-a165-70867728950e"),
    kind=ImageKind.DISK,
    name="debian",
    owner="admin",
    group="admin",
    description="",
    tags=("linux",),
    created_ms=1,
    modified_ms=2,
    content=Content(1, 34 * 2**20, "b" * 64, "5" * 40, "qcow2", 160 * 2**20),
)
