"""Keeps the book true: hears the hypervisor, asks guests for their addresses, commits what is news."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from nano.model.errors import Exhausted, NanoError, NotFound, Unreachable
from nano.model.ids import InstanceId
from nano.model.instance import InstanceStatus
from nano.shelf import Shelf
from services.cell.host import Held, Host, HostChange
from services.cell.hypervisor import Changed, Domain, Event, Gone, Hypervisor, Resync
from services.cell.statuses import StatusPut

ASK_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""An agent is often there before its guest has an address; the last wait repeats until one is seen."""

_log = structlog.get_logger()


class Observer:
    """Between the hypervisor and the book: the one who commits what is seen."""

    def __init__(self, shelf: Shelf[Host], hypervisor: Hypervisor, now_ms: Callable[[], int]) -> None:
        self._shelf = shelf
        self._hypervisor = hypervisor
        self._now_ms = now_ms
        self._expected: set[InstanceId] = set()
        self._unasked: set[InstanceId] = set()
        """Their agents have connected since an address was last seen."""
        self._address_wanted = asyncio.Event()

    @property
    def _book(self) -> Host:
        return self._shelf.book

    # What orders need

    async def look(self, held: Held) -> tuple[list[HostChange], InstanceStatus]:
        """The instance as the hypervisor shows it now: what that changes in the book, and its status then.

        Commit the changes in the same breath: the next status takes the same number otherwise.
        """
        try:
            domain: Domain | None = await self._hypervisor.domain(held.id)
        except NotFound:
            domain = None
        changes = self._seen(held, domain)
        for change in changes:
            if isinstance(change, StatusPut):
                return changes, change.status
        status = self._book.statuses.of(held.id)
        assert status is not None  # noqa: S101 - no change means that it is known already
        return changes, status

    @contextmanager
    def expecting_off(self, instance: InstanceId) -> Iterator[None]:
        """While entered its stop is nobody's surprise, and needs no reason."""
        self._expected.add(instance)
        try:
            yield
        finally:
            self._expected.discard(instance)

    # The work

    async def run(self) -> None:
        """Until cancelled. Call `read_all` once before, so that the book is true when it is shown."""
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._hear(self._hypervisor.events()), name="hypervisor events")
            jobs.create_task(self._ask_addresses(), name="guest addresses")

    async def read_all(self, otherwise: str = "") -> list[Domain]:
        """Every machine anew, whatever events did not say; `otherwise` is why those are off that are."""
        domains = await self._hypervisor.domains()
        found = {domain.instance: domain for domain in domains}
        built = {held.id: held for held in self._book.instances.values() if held.built}
        for held in built.values():
            self._commit(self._seen(held, found.get(held.id), otherwise))
        for instance in self._book.statuses.strangers(built.keys() | self._book.concerned()):
            self._commit(self._book.statuses.gone(instance))
        return domains

    async def _hear(self, events: AsyncIterator[Event]) -> None:
        await self._read_again()  # what happened between the first account and this subscription
        async for event in events:
            match event:
                case Changed(domain):
                    self._heard(domain.instance, domain)
                case Gone(instance):
                    self._heard(instance, None)
                case Resync():
                    await self._read_again()

    async def _read_again(self) -> None:
        """A daemon that is gone while we ask is followed by its own Resync when it is back."""
        try:
            await self.read_all()
        except Unreachable as error:
            _log.warning("cell.not_read", error=error.message)

    def _heard(self, instance: InstanceId, domain: Domain | None) -> None:
        held = self._book.instances.get(instance)
        if held is not None and held.built:
            self._commit(self._seen(held, domain))

    def _seen(self, held: Held, domain: Domain | None, otherwise: str = "") -> list[HostChange]:
        before = self._book.statuses.of(held.id)
        if domain and domain.agent and not (before and before.agent and before.addresses):
            self._unasked.add(held.id)
            self._address_wanted.set()
        return self._book.seen(
            held, domain, now_ms=self._now_ms(), asked_off=held.id in self._expected, otherwise=otherwise
        )

    def _commit(self, changes: Sequence[HostChange]) -> None:
        """What a full disk refuses is seen again with the next event or the next start."""
        try:
            self._shelf.commit(*changes)
        except Exhausted as error:
            _log.error("cell.status_not_kept", error=error.message)

    async def _ask_addresses(self) -> None:
        """Sleeps until an agent connects; asks again, ever more slowly, until its guest has an address."""
        while True:
            await self._address_wanted.wait()
            for wait_s in itertools.chain((0.0,), ASK_AGAIN_S, itertools.repeat(ASK_AGAIN_S[-1])):
                self._address_wanted.clear()
                await self._news_or(wait_s)
                async with asyncio.TaskGroup() as asking:
                    for instance in sorted(self._unasked):
                        asking.create_task(self._ask(instance), name=f"addresses of {instance}")
                if not self._unasked:
                    break

    async def _news_or(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._address_wanted.wait()
        except TimeoutError:
            return

    async def _ask(self, instance: InstanceId) -> None:
        status = self._book.statuses.of(instance)
        if status is None or not status.agent:
            self._unasked.discard(instance)
            return
        try:
            addresses = await self._hypervisor.guest_addresses(instance)
        except NanoError as error:
            _log.debug("guest.no_answer", instance=instance, error=error.message)
            return
        if addresses:
            self._unasked.discard(instance)
        self._commit(self._book.statuses.addressed(instance, addresses))
