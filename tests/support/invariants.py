"""What must hold in every world (design, section 14), each check named for its invariant.

A check looks at a world and yields what is wrong, in words. Those in `ALWAYS` hold after every step, those in
`SETTLED` once every task has ended and all is quiet; `acked_is_durable`, `whole_or_nothing`, `events_ordered`
and `said` are called at the moment that they are about: a restart, a task's end, a message.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from betterproto2.grpclib.grpclib_server import ServiceBase

from nano import codec, wire
from nano.contracts.nano import v1
from nano.model.action import Outcome, StopMode
from nano.model.errors import NanoError
from nano.model.ids import CellId, InstanceId, TaskId
from nano.model.instance import Power, Wanted
from nano.model.peers import Peer, Role
from nano.model.task import TaskState
from nano.saga.callees import split_key
from nano.saga.record import StepMarked, TaskEnded, TaskOpened, TaskTurned
from services.addresspool import ledger
from services.gateway.cursor import Book
from services.imagestore import catalog
from services.scheduler import inventory
from services.scheduler.placement import Load
from tests.support.sim_fabric import Said, SimCall

if TYPE_CHECKING:
    from tests.support.sim_process import Process
    from tests.support.world import World

Flaws = Iterator[str]


@dataclass
class Stream:
    """How far one watcher has come in one book."""

    incarnation: str = ""
    revision: int = -1
    is_filled: bool = False


@dataclass
class Memory:
    """What has been seen, for those invariants that speak of more than one moment."""

    opened: dict[TaskId, TaskOpened] = field(default_factory=dict)
    epochs: dict[tuple[str, InstanceId], int] = field(default_factory=dict)
    streams: dict[SimCall, Stream] = field(default_factory=dict)
    promised: dict[TaskId, str] = field(default_factory=dict)
    """The tasks that a client was told of, and what they work on."""


# ------------------------------------------------------------------ at every step


def never_twice(world: "World") -> Flaws:
    """At no moment do two hosts run one instance."""
    running = Counter(
        instance
        for cell in world.hosts
        for instance, machine in world.machines(cell).items()
        if machine.power is not Power.STOPPED
    )
    for instance, copies in running.items():
        if copies > 1:
            yield f"never-twice: instance {instance} runs {copies} times"


def no_double_address(world: "World") -> Flaws:
    """No address is held by two owners; and none that a host still serves is anybody else's, or nobody's."""
    process = world.processes["addresspool"]
    leases = world.ledger.leases if process.shelf else {}
    for address, holders in Counter(lease.address for lease in leases.values()).items():
        if holders > 1:
            yield f"no-double-address: {address} is leased to {holders} owners"
    served = Counter[Any]()
    for cell, host in world.hosts.items():
        for mac, entry in host.responder.served.items():
            binding = entry.binding
            served[binding.address] += 1
            held = leases.get(binding.owner)
            if process.is_up and (held is None or held.address != binding.address):
                yield f"no-double-address: {cell} serves {binding.address} to {mac}, which does not hold it"
    for address, servers in served.items():
        if servers > 1:
            yield f"no-double-address: {address} is served to {servers} interfaces"


def reservation_bounded(world: "World") -> Flaws:
    """Reserved room never exceeds capacity times over-commit, and is what the records add up to."""
    if not world.processes["scheduler"].is_up:
        return
    book = world.inventory
    for cell in book.cells.values():
        load = Load()
        for instance in book.on_cell(cell.id):
            load = load.plus(instance.spec)
        if load != book.load(cell.id):
            yield f"reservation-bounded: {cell.id} is said to hold {book.load(cell.id)}, and holds {load}"
        if cell.capabilities is None or cell.pool is None:
            continue
        policy, has = book.pools[cell.pool].policy, cell.capabilities
        for what, taken, bound in (
            ("instances", load.instances, has.max_instances),
            ("cores", load.cores, has.cores * policy.cores_overcommit),
            ("bytes of memory", load.memory_bytes, has.memory_bytes * policy.memory_overcommit),
            ("bytes of disk", load.disk_bytes, has.disk_bytes * policy.disk_overcommit),
        ):
            if taken > bound:
                yield f"reservation-bounded: {taken} {what} are reserved on {cell.id}, which has {bound:.0f}"


def epoch_grows(world: "World") -> Flaws:
    """An instance's epoch never falls, wherever it is kept. What was never durable was never an epoch."""
    for name, process in world.processes.items():
        if process.book_type is None or not process.is_up:
            continue
        for instance in getattr(process.book, "instances", {}).values():
            yield from _epoch(world.memory, name, instance, is_durable=_all_durable(process))
    for cell in world.hosts:
        for machine in world.machines(cell).values():
            seen = world.memory.epochs.get((f"host of {cell}", machine.instance), 0)
            world.memory.epochs[f"host of {cell}", machine.instance] = max(seen, machine.epoch)
            if machine.epoch < seen:
                yield f"epoch-grows: the machine of {machine.instance} fell from {seen} to {machine.epoch}"


def _epoch(memory: Memory, where: str, instance: Any, *, is_durable: bool) -> Flaws:
    seen = memory.epochs.get((where, instance.id), 0)
    if instance.epoch < seen:
        yield f"epoch-grows: {where} lets instance {instance.id} fall from {seen} to {instance.epoch}"
    elif is_durable:
        memory.epochs[where, instance.id] = instance.epoch


def _all_durable(process: "Process") -> bool:
    return bool(process.shelf.durable_revision == process.shelf.revision)


# ------------------------------------------------------------------ at a restart, and at each message


def acked_is_durable(process: "Process", shelf: Any, shadow: Any) -> Flaws:
    """After a death: the book is what had been written, up to a point behind all that anybody was shown."""
    if shelf.revision < process.shown:
        yield (
            f"acked-is-durable: {process.name} showed revision {process.shown} "
            f"and came back with {shelf.revision}"
        )
    found, expected = _nouns(shelf.book.snapshot()), _nouns(shadow.snapshot())
    for kind in expected:
        if found[kind] != expected[kind]:
            yield f"acked-is-durable: {process.name} came back with other {kind} than it had written"


def promises_kept(world: "World") -> Flaws:
    """acked-is-durable, for those who asked: each task that they were told of is there."""
    for task, subject in world.memory.promised.items():
        if not world.inventory.tasks.knows(task) or world.task(task).subject != subject:
            yield f"acked-is-durable: a client was told of task {task}, and nobody knows it"


def _nouns(snapshot: Mapping[str, Any]) -> dict[str, list[bytes]]:
    return {kind: sorted(map(codec.encode, nouns)) for kind, nouns in snapshot.items()}


def said(world: "World", told: Said) -> Flaws:
    """Nothing that shows a revision leaves before that is durable (acked-is-durable, while it happens)."""
    for name, process in world.processes.items():
        if process.peer == told.sender and process.shelf is not None:
            for flaw in process.shows(_revision_shown(process, told)):
                yield f"acked-is-durable: {flaw} ({name} says {type(told.message).__name__})"


def _revision_shown(process: "Process", told: Said) -> int:
    """The lowest revision that a process must have on its disk to say this."""
    message = told.message
    if isinstance(message, NanoError):
        return 0
    if (cursor := getattr(message, "cursor", None)) is not None:
        return int(cursor.revision)
    if isinstance(message, v1.BeginRequest):
        return process.written[message.task, split_key(message.step)[0]]
    if isinstance(message, v1.Outcome) and message.step:
        return process.written.get(said_of(wire.outcome(message)), 0)
    return int(getattr(message, "revision", 0))


def said_of(outcome: Outcome) -> tuple[str, ...]:
    fault = outcome.fault.message if outcome.fault else ""
    return outcome.task, outcome.step, outcome.progress, fault


# ------------------------------------------------------------------ at a task's end


def whole_or_nothing(world: "World", task: TaskId, state: TaskState) -> Flaws:
    """An ended task is committed or undone completely."""
    opened = world.memory.opened[task]
    instance, notes = InstanceId(opened.subject), msgspec.json.decode(opened.notes)
    match opened.kind, state:
        case "create_instance", TaskState.DONE:
            flaws = _whole(world, instance)
        case ("create_instance", _) | ("delete_instance" | "forget_instance", TaskState.DONE):
            flaws = (f"{instance} is still {where}" for where in traces(world, instance))
        case "switch_off_forgotten", _:
            flaws = iter(())  # of what has no record: a machine that nobody speaks for
        case "delete_instance" | "forget_instance", _:
            flaws = iter(["it was given up"])
        case (kind, TaskState.DONE):
            flaws = _switched(world, instance, kind, notes)
        case _:
            flaws = _as_before(world, instance, notes)
    for flaw in flaws:
        yield f"whole-or-nothing: {opened.kind} {task} ended as {state}, but {flaw}"


def _whole(world: "World", instance: InstanceId) -> Flaws:
    record = world.inventory.instances.get(instance)
    if record is None or not record.created or record.task is not None:
        yield f"its record is {record}"
        return
    name, process = next(
        (name, each) for name, each in world.processes.items() if each.peer.id == record.cell
    )
    held, machine = process.book.instances.get(instance), world.machines(name).get(instance)
    if held is None or not held.built or held.epoch != record.epoch:
        yield f"{name} holds {held}"
    if machine is None or machine.epoch != record.epoch:
        yield f"{name} has the machine {machine}"
    if str(instance) not in world.volumes(name):
        yield f"{name} has no volumes of it"
    if record.binding is not None:
        lease = world.ledger.leases.get(record.binding.owner)
        if lease is None or lease.address != record.binding.address:
            yield f"the lease of its address is {lease}"
        if record.mac not in world.hosts[name].responder.served:
            yield f"{name} does not serve its address"


def traces(world: "World", instance: InstanceId) -> Flaws:
    """Where anything of an instance is. What was given up with its cell stays there, known by its name."""
    if instance in world.inventory.instances:
        yield "recorded by the scheduler"
    if instance in world.inventory.statuses:
        yield "shown with a status"
    if any(lease.instance == instance for lease in world.ledger.leases.values()):
        yield "holding an address"
    if instance in world.inventory.given_up.known:
        return
    for name in world.hosts:
        if instance in world.processes[name].book.instances:
            yield f"held by {name}"
        if instance in world.machines(name):
            yield f"a machine of {name}"
        if any(each.startswith(instance) for each in world.volumes(name)):
            yield f"on the disk of {name}"
        entries = world.hosts[name].responder.served.values()
        if any(entry.binding.owner.startswith(instance) for entry in entries):
            yield f"served an address by {name}"


def _switched(world: "World", instance: InstanceId, kind: str, notes: dict[str, Any]) -> Flaws:
    if notes.get("mode") in {StopMode.REBOOT, StopMode.RESET}:
        return
    wanted = Wanted.RUNNING if kind == "start_instance" else Wanted.STOPPED
    record = world.inventory.instances[instance]
    name = next(name for name, each in world.processes.items() if each.peer.id == record.cell)
    if record.wanted is not wanted:
        yield f"the scheduler has it wanted {record.wanted}"
    if world.processes[name].book.instances[instance].wanted is not wanted:
        yield f"{name} has it wanted otherwise"
    machine = world.machines(name)[instance]
    if kind == "stop_instance" and machine.power is not Power.STOPPED:
        yield f"{name} has it {machine.power}"


def _as_before(world: "World", instance: InstanceId, notes: dict[str, Any]) -> Flaws:
    record = world.inventory.instances[instance]
    if record.wanted != notes["wanted_before"]:
        yield f"it is wanted {record.wanted} and was {notes['wanted_before']} before"


# ------------------------------------------------------------------ in each watch


_SHOWN: dict[str, tuple[type, ...]] = {
    "Scheduler": (
        inventory.PoolPut,
        inventory.PoolGone,
        inventory.CellPut,
        inventory.TemplatePut,
        inventory.InstancePut,
        inventory.InstanceGone,
        inventory.StatusPut,
        TaskOpened,
        StepMarked,
        TaskTurned,
        TaskEnded,
    ),
    "AddressPools": (ledger.PoolPut, ledger.PoolGone, ledger.LeasePut, ledger.LeaseGone),
    "ImageStore": (catalog.ImagePut, catalog.ImageGone),
}
"""The changes that a watcher of each book is told."""


def events_ordered(world: "World", told: Said) -> Flaws:
    """A watcher sees each change once, in order, or is told to begin anew. Each message is one step of it."""
    call, message = told.call, told.message
    service, _, method = told.route.rpartition("/")
    if method != "Watch" or call is None or Role.GATEWAY not in {told.sender.role, told.receiver.role}:
        return
    service = service.rpartition(".")[2]
    if isinstance(message, v1.WatchRequest):
        since = message.since
        world.memory.streams[call] = Stream(since.incarnation, since.revision, True) if since else Stream()
    elif (cursor := getattr(message, "cursor", None)) is not None:
        stream = world.memory.streams[call]
        if not message.whole:
            yield from _continues(world, service, stream, cursor, told.sender)
        stream.incarnation, stream.revision, stream.is_filled = cursor.incarnation, cursor.revision, True


def _continues(world: "World", service: str, stream: Stream, cursor: v1.Cursor, sender: Peer) -> Flaws:
    if not stream.is_filled or stream.incarnation != cursor.incarnation:
        yield f"events-ordered: {service} tells changes to a watcher that was never told the whole"
        return
    process = next(each for each in world.processes.values() if each.peer == sender)
    following = (
        revision
        for revision in sorted(process.history)
        if revision > stream.revision and _any_of(process.history[revision], _SHOWN[service])
    )
    due = next(following, None)
    if cursor.revision != due:
        yield f"events-ordered: after {stream.revision} {service} tells {cursor.revision}, and {due} was due"


def _any_of(changes: tuple[Any, ...], kinds: tuple[type, ...]) -> bool:
    return any(isinstance(change, kinds) for change in changes)


def replicas_true(world: "World") -> Flaws:
    """events-ordered, once caught up: each replica equals its book."""
    tables = {book: replica.tables for book, replica in world.view.replicas.items()}
    book = world.inventory
    pairs: tuple[tuple[str, dict[Any, Any], Mapping[Any, Any]], ...] = (
        ("pools", tables[Book.SCHEDULER]["pool"], book.pools),
        ("cells", tables[Book.SCHEDULER]["cell"], book.cells),
        ("templates", tables[Book.SCHEDULER]["template"], book.templates),
        ("instances", tables[Book.SCHEDULER]["instance"], book.instances),
        ("statuses", tables[Book.SCHEDULER]["status"], book.statuses),
        (
            "tasks",
            tables[Book.SCHEDULER]["task"],
            {task.id: task for task in book.tasks.page(limit=len(book.tasks))},
        ),
        ("images", tables[Book.IMAGESTORE]["image"], world.catalog.images),
        ("address pools", tables[Book.ADDRESSPOOL]["address_pool"], world.ledger.pools),
        ("leases", tables[Book.ADDRESSPOOL]["lease"], world.ledger.leases),
    )
    for what, replica, truth in pairs:
        if replica != truth:
            wrong = {key for key in replica.keys() | truth.keys() if replica.get(key) != truth.get(key)}
            yield f"events-ordered: the gateway's {what} are not the book's: {sorted(wrong)}"


# ------------------------------------------------------------------ once all is quiet


def unrest(world: "World") -> Flaws:
    """What still goes on."""
    down = [name for name, process in world.processes.items() if not process.is_up]
    if down:
        yield f"{', '.join(down)} are down"
        return
    tasks = world.inventory.tasks
    for record in tasks.open.values():
        yield f"task {record.id} is open: {record.kind}, {record.step} {record.mark}"
    for at, owed in tasks.debts.items():
        yield f"{at} is to forget {len(owed)} tasks"
    for name in world.hosts:
        for held in world.processes[name].book.due():
            yield f"{name} is to start {held.id}"
    for cell in world.inventory.cells.values():
        if not cell.confirmed:
            yield f"{cell.id} is not confirmed"
    for process in world.processes.values():
        if process.shelf is not None and not _all_durable(process):
            yield f"{process.name} writes"
    yield from _behind(world)
    if world.network.under_way:
        yield f"{world.network.under_way} messages are under way"


def _behind(world: "World") -> Flaws:
    """Replicas that have not come to the last change that they are told."""
    for book, service, name in (
        (Book.SCHEDULER, "Scheduler", "scheduler"),
        (Book.ADDRESSPOOL, "AddressPools", "addresspool"),
        (Book.IMAGESTORE, "ImageStore", "imagestore"),
    ):
        replica, history = world.view.replicas[book], world.processes[name].history
        last = max((each for each in history if _any_of(history[each], _SHOWN[service])), default=0)
        if replica.position is None or replica.lost_at_s is not None or replica.position.revision < last:
            yield f"the gateway's replica of the {book} is behind"
    for name in world.hosts:
        for status in world.processes[name].book.statuses:
            known = world.inventory.statuses.get(status.instance)
            if known is not None and known.number < status.number:
                yield f"the scheduler has not heard of status {status.number} of {name}"


def no_orphan(world: "World") -> Flaws:
    """No volume, domain, lease, pin, claim, outcome or binding without an owner that knows it."""
    for flaw in _orphans(world):
        yield f"no-orphan: {flaw}"


def _orphans(world: "World") -> Flaws:
    book = world.inventory
    for instance in book.instances.values():
        if not instance.created or instance.deleting or instance.task is not None:
            yield f"instance {instance.id} has no task any more and is no instance yet"
    if len(book.tasks.claims):
        yield f"{len(book.tasks.claims)} claims are held by nobody"
    if book.statuses.keys() - book.instances.keys():
        yield "the scheduler has a status of an instance that it does not know"
    bound = {one.binding.owner for one in book.instances.values() if one.binding is not None}
    yield from _differ("addresses are leased", world.ledger.leases.keys(), bound)
    if world.catalog._pins:
        yield f"images are pinned for {sorted(world.catalog._pins)}"
    yield from _differ("image files lie there", _image_files(world), _kept_images(world))
    for name in ("addresspool", "imagestore", *world.hosts):
        for outcome in world.processes[name].book.outcomes:
            yield f"{name} keeps {outcome.step} of task {outcome.task}, {outcome.progress}"
    for cell, process in world.cells.items():
        yield from _orphans_on(world, process.name, cell)


def _orphans_on(world: "World", name: str, cell: CellId) -> Flaws:
    recorded = {instance.id: instance for instance in world.inventory.on_cell(cell)}
    host = world.processes[name].book
    yield from _differ(f"instances are held by {name}", host.instances.keys(), recorded.keys())
    yield from _differ(f"machines are on {name}", world.machines(name).keys(), recorded.keys())
    yield from _differ(f"volumes are on {name}", world.volumes(name), recorded.keys())
    yield from _differ(
        f"statuses are kept by {name}", {each.instance for each in host.statuses}, recorded.keys()
    )
    bound = {one.mac for one in recorded.values() if one.binding is not None}
    yield from _differ(f"addresses are served by {name}", world.hosts[name].responder.served.keys(), bound)
    if len(host._claims):
        yield f"{name} has claims that nobody holds"
    for status in host.statuses:
        if world.inventory.statuses.get(status.instance) != status:
            yield f"{name} says {status}, the scheduler {world.inventory.statuses.get(status.instance)}"


def agreed(world: "World") -> Flaws:
    """whole-or-nothing, once all is quiet: the scheduler and the cell say the same of each instance."""
    for cell, process in world.cells.items():
        for record in world.inventory.on_cell(cell):
            held = process.book.instances.get(record.id)
            if held is None:
                continue  # which is an orphan
            for what in ("wanted", "epoch", "mac", "binding", "spec"):
                ours, theirs = getattr(record, what), getattr(held, what)
                if ours != theirs:
                    yield f"whole-or-nothing: {what} of {record.id} is {ours}, for {process.name} {theirs}"


def _differ(what: str, found: Any, expected: Any) -> Flaws:
    found, expected = set(map(str, found)), set(map(str, expected))
    if found - expected:
        yield f"{what} that nobody knows: {sorted(found - expected)}"
    if expected - found:
        yield f"{what}, but not these: {sorted(expected - found)}"


def _image_files(world: "World") -> set[str]:
    return {each.stem for each in (world.processes["imagestore"].files / "images").iterdir()}


def _kept_images(world: "World") -> set[str]:
    return {f"{image}_v{version}" for image, version in world.catalog.kept()}


# ------------------------------------------------------------------ whoever serves


def nobody_unnamed(handlers: list[Any], roles: Mapping[str, frozenset[Role]]) -> Flaws:
    """Each method that is served names who may call it, and steps are for the scheduler alone."""
    served = {name for handler in handlers for name in handler.__mapping__()}
    for name in sorted(served):
        if not roles.get(name):
            yield f"nobody-unnamed: nobody is named who may call {name}"
    for name in sorted(roles.keys() - served):
        yield f"nobody-unnamed: a row names {name}, which is not served"
    for name, allowed in roles.items():
        if name.startswith("/nano.v1.Steps/") and allowed != frozenset({Role.SCHEDULER}):
            yield f"nobody-unnamed: {name} is open to {sorted(allowed)}"


OF_KEYS = frozenset({v1.DoorBase, v1.MemberBase})
"""Services of the real fabric alone, since no peer of the simulated one has a key: they are looked at by
`tests/unit/test_roles.py` and called in `tests/integration/test_stolen_cell.py`."""


def contract_methods() -> set[str]:
    """Every method of every generated service that a simulated world can have."""
    bases: list[Any] = [
        each
        for _, each in inspect.getmembers(v1, inspect.isclass)
        if issubclass(each, ServiceBase) and each is not ServiceBase and each not in OF_KEYS
    ]
    return {name for base in bases for name in base().__mapping__()}


def everybody_named(world: "World") -> Flaws:
    """nobody-unnamed, of all processes as they are wired."""
    for process in world.processes.values():
        yield from nobody_unnamed([*process.fabric.served.values()], process.fabric.roles)


ALWAYS: dict[str, Callable[["World"], Flaws]] = {
    "never-twice": never_twice,
    "no-double-address": no_double_address,
    "reservation-bounded": reservation_bounded,
    "epoch-grows": epoch_grows,
}
SETTLED: dict[str, Callable[["World"], Flaws]] = {
    "no-orphan": no_orphan,
    "whole-or-nothing": agreed,
    "acked-is-durable": promises_kept,
    "events-ordered": replicas_true,
    "nobody-unnamed": everybody_named,
}
