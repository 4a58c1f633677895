"""The public stream of events: the last changes of all books, in one order.

Each reader stands somewhere in the ring and holds no events of its own, so a slow one costs nothing. One who
fell out of it, or resumes where it does not reach any more, is told to read everything again, never silently
skipped.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.gateway.cursor import Book, Cursor, Position

RING_EVENTS = 20_000
"""How many events are kept for readers that were away for a moment."""

REREAD = "reread"


@dataclass(frozen=True, slots=True)
class Event:
    """One noun that changed or went, or with kind `reread` the advice to read a book again."""

    number: int
    """Of this gateway's ring; never leaves the process."""
    book: Book | None
    """None: every book."""
    position: Position
    cursor: Cursor
    """Where the reader stands once it has this event."""
    kind: str
    id: str
    document: Any = None
    """None: it is gone."""


class Ring:
    """The last events, and for each book how far back they reach."""

    def __init__(self, limit: int = RING_EVENTS) -> None:
        self._events: deque[Event] = deque()
        self._limit = limit
        self._floors: dict[Book, Position] = {}
        """Events at or before these points are here no more."""
        self.next_number = 0

    def begin(self, book: Book, position: Position) -> None:
        """A book was told as a whole: what lies before is not known as events."""
        self._floors[book] = position

    def record(
        self, book: Book, position: Position, cursor: Cursor, named: tuple[str, str], document: Any = None
    ) -> None:
        """`named` is kind and id of what changed."""
        self._events.append(Event(self.next_number, book, position, cursor, *named, document))
        self.next_number += 1
        if len(self._events) > self._limit:
            self._drop(self._events.popleft())

    def _drop(self, event: Event) -> None:
        if event.book is None:
            return
        floor = self._floors[event.book]
        is_of_this_life = floor.incarnation == event.position.incarnation
        if is_of_this_life and not floor.has_seen(event.position):
            self._floors[event.book] = event.position

    @property
    def oldest_number(self) -> int:
        return self._events[0].number if self._events else self.next_number

    def since(self, number: int) -> Iterator[Event] | None:
        """The events from this number on, or None when some of them are here no more."""
        behind = number - self.oldest_number
        if behind < 0:
            return None
        return (self._events[index] for index in range(behind, len(self._events)))

    def can_resume(self, cursor: Cursor) -> bool:
        """Whether every change behind this cursor is here; of a book that was never told, none was missed."""
        return all(
            (seen := cursor.get(book)) is not None and seen.has_seen(floor)
            for book, floor in self._floors.items()
        )


class Reader:
    """One consumer's place in the ring."""

    def __init__(self, ring: Ring, since: Cursor | None = None) -> None:
        self._ring = ring
        self._seen: Cursor = {}
        self._is_lost = since is not None and not ring.can_resume(since)
        if since is None or self._is_lost:
            self._number = ring.next_number
        else:
            self._number, self._seen = ring.oldest_number, since

    @property
    def has_news(self) -> bool:
        return self._is_lost or self._number < self._ring.next_number

    def take(self, limit: int, now: Cursor) -> list[Event]:
        """The next events, at most `limit`; one of kind `reread` when this reader fell too far behind.

        `now` is where whoever reads everything again will stand.
        """
        events = None if self._is_lost else self._ring.since(self._number)
        if events is None:
            return [self._start_again(now)]
        taken: list[Event] = []
        for event in events:
            self._number = event.number + 1
            seen = None if event.book is None else self._seen.get(event.book)
            if seen is None or not seen.has_seen(event.position):
                taken.append(event)
            if len(taken) == limit:
                break
        return taken

    def _start_again(self, now: Cursor) -> Event:
        self._is_lost = False
        self._seen = {}
        self._number = self._ring.next_number
        return Event(self._number, None, Position("", 0), now, REREAD, "")
