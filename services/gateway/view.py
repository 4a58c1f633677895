"""Replicas of the three books, in memory: what every read is answered from. No clock, no I/O.

Each book feeds its replica through one watch: at first the whole book, then each change. Their changes are
also the public stream of events (`ring.py`).
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nano.model.address import AddressPool, Lease
from nano.model.errors import NotFound, Stale, Unreachable
from nano.model.ids import AddressPoolName, CellId, ImageId, InstanceId, PoolName, TaskId, TemplateId
from nano.model.image import Image
from nano.model.instance import Instance, InstanceStatus
from nano.model.membership import Applicant, AuthorityState, Member, Removal, ShownToken
from nano.model.pool import Cell, Pool, Usage
from nano.model.task import Task
from nano.model.template import Template
from services.gateway.cursor import Book, Cursor, Position
from services.gateway.ring import REREAD, RING_EVENTS, Ring

K = TypeVar("K")
V = TypeVar("V")

IDS: dict[Book, dict[str, Callable[[Any], str]]] = {
    Book.SCHEDULER: {
        "pool": lambda pool: pool.name,
        "cell": lambda cell: cell.id,
        "template": lambda template: template.id,
        "instance": lambda instance: instance.id,
        "status": lambda status: status.instance,
        "task": lambda task: task.id,
        "member": lambda member: str(member.peer),
        "applicant": lambda applicant: applicant.fingerprint,
        "join_token": lambda token: token.id,
        "removal": lambda removal: removal.fingerprint,
        "authority": lambda authority: authority.id,
    },
    Book.IMAGESTORE: {"image": lambda image: image.id},
    Book.ADDRESSPOOL: {"address_pool": lambda pool: pool.name, "lease": lambda lease: lease.owner},
}
"""The kinds of nouns in each book, and what names one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One message of a watch, in our words."""

    incarnation: str
    revision: int
    whole: bool = False
    """Everything known of this book before is void."""
    nouns: tuple[tuple[str, Any], ...] = ()
    """Kind and noun, in the order of the message."""
    gone: tuple[tuple[str, str], ...] = ()
    """Kind and id."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second, measured between two samples."""

    read_bytes_s: int = 0
    written_bytes_s: int = 0
    received_bytes_s: int = 0
    sent_bytes_s: int = 0


@dataclass(slots=True)
class Replica:
    """One book as it was last told."""

    book: Book
    position: Position | None = None
    """None: never filled."""
    lost_at_s: float | None = 0.0
    """Since when nobody feeds it, on the monotonic clock; None: it is fed."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def age_s(self, now_s: float) -> float:
        """How old its contents may be."""
        return 0.0 if self.lost_at_s is None else max(0.0, now_s - self.lost_at_s)


class View:
    """All replicas, the indexes that reads need, and the ring of events."""

    def __init__(self, ring: int = RING_EVENTS) -> None:
        self.replicas = {
            book: Replica(book, tables={kind: {} for kind in kinds}) for book, kinds in IDS.items()
        }
        self._usage: dict[str, Usage] = {}
        self.samples = 0
        """How many have been taken so far."""
        self._rates: dict[str, Rates] = {}
        self.ring = Ring(ring)
        self._order: list[tuple[str, InstanceId]] | None = None
        self._by_subject: dict[str, dict[TaskId, None]] = {}

    # -------------------------------------------------------------- what comes in

    def apply(self, book: Book, change: Change) -> None:
        """Takes one message of a watch; Stale when it does not continue what is known."""
        replica = self.replicas[book]
        if change.whole:
            self._start_over(replica, change)
            return
        known = replica.position
        if known is None or known.incarnation != change.incarnation:
            raise Stale(f"the {book} lives another life than the one we know")
        if change.revision < known.revision:
            return  # told twice
        index = known.index + 1 if change.revision == known.revision else 0
        for offset, (kind, key, noun) in enumerate(_moves(book, change)):
            self._put(replica, kind, key, noun)
            replica.position = Position(change.incarnation, change.revision, index + offset)
            self.ring.record(book, replica.position, self.cursor, (kind, key), noun)
        if replica.position != known:
            return
        replica.position = Position(change.incarnation, change.revision, index)

    def _start_over(self, replica: Replica, change: Change) -> None:
        first = replica.position is None
        for kind, table in replica.tables.items():
            for key in tuple(table):
                self._put(replica, kind, key, None)
        self._order = None
        for kind, key, noun in _moves(replica.book, change):
            self._put(replica, kind, key, noun)
        replica.position = Position(change.incarnation, change.revision)
        self.ring.begin(replica.book, replica.position)
        if not first:
            self.ring.record(replica.book, replica.position, self.cursor, (REREAD, replica.book))

    def _put(self, replica: Replica, kind: str, key: str, noun: Any) -> None:
        table = replica.tables[kind]
        old = table.get(key)
        if kind == "instance":
            self._index_name(old, noun)
        elif kind == "task":
            self._index_task(old, noun)
        if noun is None:
            table.pop(key, None)
            if kind == "instance":
                replica.tables["status"].pop(key, None)
        else:
            table[key] = noun

    def _index_name(self, old: Instance | None, new: Instance | None) -> None:
        if self._order is None or (old and new and old.spec.full_name == new.spec.full_name):
            return
        if old is not None:
            del self._order[bisect.bisect_left(self._order, (old.spec.full_name, old.id))]
        if new is not None:
            bisect.insort(self._order, (new.spec.full_name, new.id))

    def _index_task(self, old: Task | None, new: Task | None) -> None:
        if new is not None:
            self._by_subject.setdefault(new.subject, {})[new.id] = None
        elif old is not None:
            others = self._by_subject[old.subject]
            others.pop(old.id, None)
            if not others:
                del self._by_subject[old.subject]

    def sample(self, usages: Iterable[Usage]) -> None:
        """Takes what hosts and instances use; a sample that is not newer than the last one is left out."""
        for usage in usages:
            last = self._usage.get(usage.subject)
            if last is not None and usage.at_ms <= last.at_ms:
                continue
            self._usage[usage.subject] = usage
            self.samples += 1
            if last is not None:
                self._rates[usage.subject] = _rates(last, usage)

    def fed(self, book: Book) -> None:
        """A watch of this book stands."""
        self.replicas[book].lost_at_s = None

    def lost(self, book: Book, now_s: float) -> None:
        """It stands no more."""
        replica = self.replicas[book]
        if replica.lost_at_s is None:
            replica.lost_at_s = now_s

    # -------------------------------------------------------------- reading

    def need(self, book: Book) -> None:
        """Unreachable when this book was never seen: better than an empty list that is not true."""
        if self.replicas[book].position is None:
            raise Unreachable(
                f"the {book} has not been reached since this gateway started: try again in a moment",
                subject=book,
                retry_after_s=1.0,
            )

    def shows(self, book: Book, revision: int) -> bool:
        """Whether the replica has come to this revision of the book's present life."""
        position = self.replicas[book].position
        return position is not None and position.revision >= revision

    def has_seen(self, cursor: Cursor) -> bool:
        """Whether each replica has come as far as the cursor; of another life of a book nothing is asked."""
        for book, wanted in cursor.items():
            position = self.replicas[book].position
            if position is None or (
                position.incarnation == wanted.incarnation and position.revision < wanted.revision
            ):
                return False
        return True

    @property
    def cursor(self) -> Cursor:
        """Where the replicas stand."""
        return {
            book: replica.position for book, replica in self.replicas.items() if replica.position is not None
        }

    @property
    def pools(self) -> Mapping[PoolName, Pool]:
        return self._table(Book.SCHEDULER, "pool")

    @property
    def cells(self) -> Mapping[CellId, Cell]:
        return self._table(Book.SCHEDULER, "cell")

    @property
    def templates(self) -> Mapping[TemplateId, Template]:
        return self._table(Book.SCHEDULER, "template")

    @property
    def instances(self) -> Mapping[InstanceId, Instance]:
        return self._table(Book.SCHEDULER, "instance")

    @property
    def statuses(self) -> Mapping[InstanceId, InstanceStatus]:
        return self._table(Book.SCHEDULER, "status")

    @property
    def tasks(self) -> Mapping[TaskId, Task]:
        return self._table(Book.SCHEDULER, "task")

    @property
    def members(self) -> Mapping[str, Member]:
        """By `role/id`."""
        return self._table(Book.SCHEDULER, "member")

    @property
    def applicants(self) -> Mapping[str, Applicant]:
        """By fingerprint."""
        return self._table(Book.SCHEDULER, "applicant")

    @property
    def join_tokens(self) -> Mapping[str, ShownToken]:
        return self._table(Book.SCHEDULER, "join_token")

    @property
    def removals(self) -> Mapping[str, Removal]:
        """By fingerprint."""
        return self._table(Book.SCHEDULER, "removal")

    @property
    def authority(self) -> AuthorityState:
        table: Mapping[str, AuthorityState] = self._table(Book.SCHEDULER, "authority")
        return _found(table, "zone", "state of the authority", "authority")

    @property
    def images(self) -> Mapping[ImageId, Image]:
        return self._table(Book.IMAGESTORE, "image")

    @property
    def address_pools(self) -> Mapping[AddressPoolName, AddressPool]:
        return self._table(Book.ADDRESSPOOL, "address_pool")

    @property
    def leases(self) -> Mapping[str, Lease]:
        return self._table(Book.ADDRESSPOOL, "lease")

    def usage(self, subject: str) -> Usage | None:
        return self._usage.get(subject)

    def rates(self, subject: str) -> Rates:
        """Zeros until two samples were heard."""
        return self._rates.get(subject, Rates())

    def _table(self, book: Book, kind: str) -> dict[Any, Any]:
        return self.replicas[book].tables[kind]

    def pool(self, name: str) -> Pool:
        return _found(self.pools, PoolName(name), "compute pool", "pool")

    def cell_in(self, pool: str, cell: str) -> Cell:
        found = _found(self.cells, CellId(cell), "cell", "cell")
        if found.pool != self.pool(pool).name:
            raise NotFound(f"cell {cell} is not in compute pool {pool}", field="cell", subject=cell)
        return found

    def cells_of(self, pool: str | None) -> list[Cell]:
        """In order of their ids."""
        return sorted((cell for cell in self.cells.values() if cell.pool == pool), key=lambda cell: cell.id)

    def instance(self, instance: str) -> Instance:
        return _found(self.instances, InstanceId(instance), "instance", "id")

    def instances_in_order(self) -> Iterator[Instance]:
        """By full name."""
        if self._order is None:
            self._order = sorted((one.spec.full_name, one.id) for one in self.instances.values())
        return (self.instances[instance] for _, instance in self._order)

    def tasks_of(self, subject: str) -> list[Task]:
        """The tasks that work or worked on it, the oldest first."""
        found = (self.tasks[task] for task in self._by_subject.get(subject, ()))
        return sorted(found, key=lambda task: (task.created_ms, task.id))


def _moves(book: Book, change: Change) -> Iterator[tuple[str, str, Any]]:
    ids = IDS[book]
    for kind, noun in change.nouns:
        yield kind, ids[kind](noun), noun
    for kind, key in change.gone:
        yield kind, key, None


def _found(table: Mapping[K, V], key: K, what: str, name: str) -> V:
    found = table.get(key)
    if found is None:
        raise NotFound(f"there is no {what} {key!r:.200}", field=name, subject=str(key))
    return found


def _rates(last: Usage, now: Usage) -> Rates:
    """A counter that fell belongs to another life of the machine: it counts from zero."""
    seconds = (now.at_ms - last.at_ms) / 1000

    def rate(before: int, after: int) -> int:
        return round((after - before if after >= before else after) / seconds)

    return Rates(
        rate(last.read_bytes, now.read_bytes),
        rate(last.written_bytes, now.written_bytes),
        rate(last.received_bytes, now.received_bytes),
        rate(last.sent_bytes, now.sent_bytes),
    )
