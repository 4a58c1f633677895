"""`/instances/`: power, and what a running guest uses."""

import msgspec

from nano.contracts.nano import v1
from nano.model.action import StopMode
from nano.model.errors import Unsupported
from nano.model.instance import InstanceStatus, Power
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.routes.guests import AddressSet, QoS, shown
from services.gateway.view import View


class Runtime(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Live status and counters of a guest; counters are those of this life of the machine."""

    name: str
    id: str
    created: bool
    progress: int
    running: bool
    owner: str
    group: str
    cores: int
    memory: int
    total_disk: int
    disks: list[int]
    auto_start: bool
    ethernet_address: str
    internal: AddressSet
    external: AddressSet
    create_time: str
    qos: QoS
    media_attached: bool
    media_source: str
    cpu_usage: float
    memory_available: int
    disk_available: int
    bytes_read: int
    bytes_written: int
    bytes_received: int
    bytes_sent: int
    status: str
    agent: bool
    addresses: list[str]
    reason: str = ""
    simulated: bool = False


class Start(msgspec.Struct):
    from_media: bool = False
    from_network: bool = False
    source: str = ""


class Stop(msgspec.Struct):
    reboot: bool = False
    force: bool = False


def runtime(instance_id: str, view: View) -> Runtime:
    """The address that our DHCP gives is not in it, as documented; zeros where nothing runs."""
    instance = view.instance(instance_id)
    guest = shown(instance, view)
    status = view.statuses.get(instance.id) or InstanceStatus(instance.id, instance.epoch, 0)
    usage = view.usage(instance.id) if status.power is not Power.STOPPED else None
    return Runtime(
        name=guest.name,
        id=guest.id,
        created=guest.created,
        progress=guest.progress,
        running=guest.running,
        owner=guest.owner,
        group=guest.group,
        cores=guest.cores,
        memory=guest.memory,
        total_disk=guest.total_disk,
        disks=guest.disks,
        auto_start=guest.auto_start,
        ethernet_address=guest.ethernet_address,
        internal=AddressSet(network_address=guest.internal.network_address),
        external=guest.external,
        create_time=guest.create_time,
        qos=guest.qos,
        media_attached=False,
        media_source="",
        cpu_usage=round(usage.cpu_percent, 2) if usage else 0.0,
        memory_available=max(0, usage.memory_total_bytes - usage.memory_used_bytes) if usage else 0,
        disk_available=0,
        bytes_read=usage.read_bytes if usage else 0,
        bytes_written=usage.written_bytes if usage else 0,
        bytes_received=usage.received_bytes if usage else 0,
        bytes_sent=usage.sent_bytes if usage else 0,
        status=guest.status,
        agent=guest.agent,
        addresses=guest.addresses,
        reason=guest.reason,
        simulated=guest.simulated,
    )


async def read(call: Call[None]) -> Answer:
    return envelope.success(runtime(call.params["id"], call.view))


async def start(call: Call[Start]) -> Answer:
    if call.body.from_media:
        raise Unsupported(
            "instances are not started from media yet: leave from_media out", field="from_media"
        )
    if call.body.from_network:
        raise Unsupported("instances are not started from the network", field="from_network")
    message = v1.InstanceRequest(instance=call.params["id"], requester=writes.requester(call))
    ref = await call.services.scheduler.start_instance(message, timeout=writes.RPC_S)
    return await writes.ended(call.gateway, ref)


async def stop(call: Call[Stop]) -> Answer:
    """What asks the guest is answered once it is durable, what forces it when it is done."""
    mode = _MODES[call.body.reboot, call.body.force]
    message = v1.StopInstanceRequest(instance=call.params["id"], mode=mode, requester=writes.requester(call))
    ref = await call.services.scheduler.stop_instance(message, timeout=writes.RPC_S)
    if call.body.force:
        return await writes.ended(call.gateway, ref)
    return envelope.success(headers=await writes.started(call.gateway, ref))


_MODES = {
    (False, False): StopMode.GRACEFUL,
    (False, True): StopMode.FORCE,
    (True, False): StopMode.REBOOT,
    (True, True): StopMode.RESET,
}
"""By (reboot, force): REST document, section 7, Power."""

_ONE = "/instances/{id}"

ROUTES = (
    Route(
        "GET",
        _ONE,
        read,
        "Live status and counters of a guest",
        answer=Runtime,
        reads=(Book.SCHEDULER,),
    ),
    Route("POST", _ONE, start, "Power on", Start),
    Route("DELETE", _ONE, stop, "Shut down, power off, reboot or reset", Stop),
)
