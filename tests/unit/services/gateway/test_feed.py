"""A view is fed by its books' streams, and what they tell is checked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nano import usage_rows, wire
from nano.bell import Bell
from nano.contracts.nano import v1
from nano.model.errors import Invalid, NanoError, Stale, Unreachable
from nano.model.ids import PoolName
from nano.model.pool import Pool
from services.gateway.cursor import Book
from services.gateway.feed import MEMBERS, Feed, change_of
from services.gateway.view import IDS, View

POOL = wire.outgoing(Pool(PoolName("a")))


class Stream:
    """A watch that tells some messages and then breaks off; remembers where it was asked to begin."""

    def __init__(self, *messages: v1.SchedulerChange, end: NanoError | None = None) -> None:
        self._messages = messages
        self._end = end
        self.since: v1.Cursor | None = None

    async def watch(self, request: v1.WatchRequest) -> AsyncIterator[Any]:
        self.since = request.since
        for message in self._messages:
            yield message
        if self._end is not None:
            raise self._end


def change(revision: int, *, life: str = "one", whole: bool = False, **more: Any) -> v1.SchedulerChange:
    return v1.SchedulerChange(cursor=v1.Cursor(incarnation=life, revision=revision), whole=whole, **more)


def feeding() -> tuple[Feed, View]:
    view = View()
    return Feed(view, Bell(), lambda: 50.0), view


def test_every_kind_of_every_book_is_read_from_its_message() -> None:
    messages = {
        Book.SCHEDULER: v1.SchedulerChange(),
        Book.IMAGESTORE: v1.ImageChange(),
        Book.ADDRESSPOOL: v1.AddressPoolChange(),
    }
    for book, members in MEMBERS.items():
        assert {kind for _, kind, _ in members} == set(IDS[book])
        nouns = {name for name in vars(messages[book]) if not name.startswith("_")}
        assert {member for member, _, _ in members} == nouns - {"cursor", "whole", "gone"}


async def test_a_stream_fills_the_view_and_its_end_makes_it_age() -> None:
    feed, view = feeding()
    stream = Stream(change(3, whole=True, pools=[POOL]), change(4, gone=[v1.Gone(kind="pool", id="a")]))
    await feed.follow(Book.SCHEDULER, stream.watch)
    assert stream.since is None
    assert view.pools == {}
    assert view.shows(Book.SCHEDULER, 4)
    assert view.replicas[Book.SCHEDULER].age_s(57.0) == 7.0


async def test_a_silent_service_makes_its_replica_age_until_it_is_heard_again() -> None:
    feed, view = feeding()
    replica = view.replicas[Book.SCHEDULER]

    async def watch(_request: v1.WatchRequest) -> AsyncIterator[Any]:
        yield change(3, whole=True)
        feed.silent(Book.SCHEDULER)
        assert replica.age_s(51.0) == 1.0
        feed.heard(Book.SCHEDULER)
        assert replica.age_s(51.0) == 0.0

    await feed.follow(Book.SCHEDULER, watch)
    feed.heard(Book.SCHEDULER)  # the stream has ended: what is heard says nothing of the book
    assert replica.age_s(51.0) == 1.0


async def test_the_next_stream_goes_on_where_the_last_one_ended() -> None:
    feed, view = feeding()
    with pytest.raises(Unreachable):
        await feed.follow(Book.SCHEDULER, Stream(change(3, whole=True), end=Unreachable("gone")).watch)
    stream = Stream(change(4, pools=[POOL]))
    await feed.follow(Book.SCHEDULER, stream.watch)
    assert stream.since == v1.Cursor(incarnation="one", revision=3)
    assert set(view.pools) == {"a"}


async def test_a_stream_that_does_not_fit_is_left_and_the_next_one_begins_with_the_whole() -> None:
    feed, view = feeding()
    await feed.follow(Book.SCHEDULER, Stream(change(3, whole=True, pools=[POOL])).watch)
    with pytest.raises(Stale):
        await feed.follow(Book.SCHEDULER, Stream(change(9, life="two")).watch)
    stream = Stream(change(1, life="two", whole=True))
    await feed.follow(Book.SCHEDULER, stream.watch)
    assert stream.since is None
    assert view.pools == {}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (v1.SchedulerChange(), "cursor"),
        (change(1, gone=[v1.Gone(kind="lease", id="a")]), "gone"),
        (change(1, pools=[v1.Pool()]), "pools[0].name"),
        (change(1, statuses=[v1.InstanceStatus(instance="a", power="warp")]), "statuses[0].power"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(message: v1.SchedulerChange, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        change_of(Book.SCHEDULER, message)
    assert refused.value.field == field


async def test_samples_are_taken_as_they_come_and_ring_a_bell_of_their_own() -> None:
    view, changed, sampled = View(), Bell(), Bell()
    feed = Feed(view, changed, lambda: 50.0, sampled=sampled)

    async def samples() -> AsyncIterator[v1.Usages]:
        yield v1.Usages(at_ms=5, subjects=["c"], rows=usage_rows.pack([(2.5, *([1] * 8))]))

    async with asyncio.TaskGroup() as jobs:
        heard, unheard = jobs.create_task(sampled.heard()), jobs.create_task(changed.heard())
        await asyncio.sleep(0)  # both listen
        await feed.sample(samples())
        await heard
        assert not unheard.done()
        unheard.cancel()
    found = view.usage("c")
    assert found is not None
    assert (found.at_ms, found.cpu_percent) == (5, 2.5)
