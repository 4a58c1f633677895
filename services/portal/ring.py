"""The last events of the gateway, for every browser that is connected or was a moment ago. Pure.

The gateway's cursors are taken over as they are. A reader stands at a number of the ring and holds no events
of its own; one that resumes from a cursor that is here no more is told to read everything again.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from nano.web.events import Event

EVENTS = 5_000
REREAD = "reread"


class Message(msgspec.Struct):
    """What a browser is sent, as JSON in a text frame."""

    kind: str
    id: str
    gone: bool
    document: Any
    cursor: str


@dataclass(frozen=True, slots=True)
class Told:
    number: int
    event: Event
    text: str
    """The message, written once for all readers."""


class Ring:
    """Events by number, and the numbers of their cursors."""

    def __init__(self, limit: int = EVENTS) -> None:
        self._limit = limit
        self._events: deque[Told] = deque()
        self._numbers: dict[str, int] = {}
        self.next_number = 0
        self.cursor = ""
        """Where the newest event stands."""

    def stands_at(self, cursor: str) -> None:
        """The stream has been opened here: behind it nothing is known, and nothing was missed either."""
        self._events.clear()
        self._numbers = {cursor: self.next_number}
        self.cursor = cursor

    def publish(self, event: Event) -> None:
        text = written(Message(event.kind, event.id, event.gone, event.document or None, event.cursor))
        self._events.append(Told(self.next_number, event, text))
        self.next_number += 1
        if event.cursor:
            self.cursor = event.cursor
            self._numbers[event.cursor] = self.next_number
        if len(self._events) > self._limit:
            gone = self._events.popleft()
            self._numbers.pop(gone.event.cursor, None)

    def number_behind(self, cursor: str) -> int | None:
        """From where a reader goes on that has seen everything up to `cursor`; None when that is not
        known."""
        number = self._numbers.get(cursor)
        return number if number is not None and number >= self._oldest else None

    def since(self, number: int, limit: int) -> Iterator[Told] | None:
        """The next events from this number on, or None when some of them are here no more."""
        behind = number - self._oldest
        if behind < 0:
            return None
        return islice(self._events, behind, behind + limit)

    @property
    def _oldest(self) -> int:
        return self._events[0].number if self._events else self.next_number


def written(message: Message) -> str:
    return msgspec.json.encode(message).decode()
