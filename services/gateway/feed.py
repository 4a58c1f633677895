"""Feeds the replicas: a watch of each book, and the samples of usage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import betterproto2

from nano import wire
from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.calls.channel import Channel
from nano.fabric.fabric import Fabric
from nano.fabric.peers.roster_events import News
from nano.fabric.presence import while_present
from nano.model.address import AddressPool, Lease
from nano.model.errors import Invalid, Stale
from nano.model.image import Image
from nano.model.instance import Instance, InstanceStatus
from nano.model.membership import Applicant, AuthorityState, Member, Removal, ShownToken
from nano.model.peers import Peer, Role
from nano.model.pool import Cell, Pool
from nano.model.task import Task
from nano.model.template import Template
from services.gateway.cursor import Book
from services.gateway.view import IDS, Change, View


class BookChange(Protocol):
    """What the three watches have in common."""

    cursor: v1.Cursor | None
    whole: bool
    gone: list[v1.Gone]


MEMBERS: dict[Book, tuple[tuple[str, str, type], ...]] = {
    Book.SCHEDULER: (
        ("pools", "pool", Pool),
        ("cells", "cell", Cell),
        ("templates", "template", Template),
        ("instances", "instance", Instance),
        ("statuses", "status", InstanceStatus),
        ("tasks", "task", Task),
        ("members", "member", Member),
        ("applicants", "applicant", Applicant),
        ("join_tokens", "join_token", ShownToken),
        ("removals", "removal", Removal),
        ("authorities", "authority", AuthorityState),
    ),
    Book.IMAGESTORE: (("images", "image", Image),),
    Book.ADDRESSPOOL: (("pools", "address_pool", AddressPool), ("leases", "lease", Lease)),
}
"""Of each book's message: the member, the kind that it holds, and its noun."""


def change_of(book: Book, message: BookChange) -> Change:
    """A watch's message in our words; Invalid when it cannot be meant."""
    if message.cursor is None:
        raise Invalid("cursor", f"the {book} told a change without its cursor")
    nouns: list[tuple[str, object]] = []
    for member, kind, noun in MEMBERS[book]:
        told: list[betterproto2.Message] = getattr(message, member)
        nouns += [(kind, wire.incoming(one, noun, f"{member}[{index}].")) for index, one in enumerate(told)]
    for gone in message.gone:
        if gone.kind not in IDS[book]:
            raise Invalid("gone", f"the {book} told the end of an unknown kind: {gone.kind!r:.40}")
    return Change(
        message.cursor.incarnation,
        message.cursor.revision,
        message.whole,
        tuple(nouns),
        tuple((gone.kind, gone.id) for gone in message.gone),
    )


class Feed:
    """Keeps a view up to date for as long as its streams stand."""

    def __init__(
        self, view: View, bell: Bell, monotonic_s: Callable[[], float], *, sampled: Bell | None = None
    ) -> None:
        """`bell` rings when the view has changed, `sampled` when samples have come."""
        self._view = view
        self._bell = bell
        self._sampled = sampled or Bell()
        self._monotonic_s = monotonic_s
        self._void: set[Book] = set()
        """Books whose next stream must begin with the whole."""
        self._open: set[Book] = set()
        """Books whose stream stands."""

    async def follow(self, book: Book, watch: Callable[[v1.WatchRequest], AsyncIterator[BookChange]]) -> None:
        """Takes one stream to its end. To be called when the link stands, and again after each end."""
        since = self._since(book)
        self._open.add(book)
        if since is not None:
            self._view.fed(book)  # it goes on where it was: until something changes nothing more is told
        try:
            async for message in watch(v1.WatchRequest(since=since)):
                self._view.apply(book, change_of(book, message))
                self._void.discard(book)
                self._view.fed(book)
                self._bell.ring()
        except (Stale, Invalid):
            self._void.add(book)
            raise
        finally:
            self._open.discard(book)
            self._view.lost(book, self._monotonic_s())

    def silent(self, book: Book) -> None:
        """Its service has not been heard for a while; what is shown may be old by now."""
        self._view.lost(book, self._monotonic_s())

    def heard(self, book: Book) -> None:
        """It is heard again, on the link that its stream stands on."""
        if book in self._open and self._view.replicas[book].position is not None:
            self._view.fed(book)

    def _since(self, book: Book) -> v1.Cursor | None:
        position = self._view.replicas[book].position
        if position is None or book in self._void:
            return None
        return v1.Cursor(incarnation=position.incarnation, revision=position.revision)

    async def sample(self, samples: AsyncIterator[v1.Usages]) -> None:
        """Takes what is measured."""
        async for message in samples:
            self._view.sample(wire.usages(message))
            self._sampled.ring()


BOOKS = {
    Role.SCHEDULER: Book.SCHEDULER,
    Role.IMAGESTORE: Book.IMAGESTORE,
    Role.ADDRESSPOOL: Book.ADDRESSPOOL,
}


async def feed_from(fabric: Fabric, feed: Feed) -> None:
    """Follows every book for as long as its service is there; never returns by itself."""

    async def watch(peer: Peer) -> None:
        channel = fabric.channel(peer.role, peer.id)
        await channel.__connect__()  # a replica counts as fed while its stream stands, not while we dial
        book = BOOKS[peer.role]
        stub = _STUBS[book](channel)
        await feed.follow(book, stub.watch)

    async def usage(peer: Peer) -> None:
        stub = v1.SchedulerStub(fabric.channel(peer.role, peer.id))
        await feed.sample(stub.watch_usage(v1.WatchUsageRequest()))

    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(while_present(fabric, frozenset(BOOKS), watch), name="books")
        jobs.create_task(while_present(fabric, frozenset({Role.SCHEDULER}), usage), name="usage")
        jobs.create_task(_hear(fabric, feed), name="presence")


_STUBS: dict[Book, Callable[[Channel], Any]] = {
    Book.SCHEDULER: v1.SchedulerStub,
    Book.IMAGESTORE: v1.ImageStoreStub,
    Book.ADDRESSPOOL: v1.AddressPoolsStub,
}


async def _hear(fabric: Fabric, feed: Feed) -> None:
    """Silence shows at once, long before a link is given up."""
    async for event in fabric.events():
        book = BOOKS.get(event.peer.role)
        if book is not None and event.news is News.SUSPECT:
            feed.silent(book)
        elif book is not None and event.news is News.JOINED:
            feed.heard(book)
