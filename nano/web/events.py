"""The gateway's stream of events as its clients read it (server-sent events: WHATWG HTML, section 9.2)."""

from typing import Any, NamedTuple

import msgspec

from nano.model.errors import Corrupt


class Event(NamedTuple):
    cursor: str
    """Where the reader stands once it has this event; empty where the stream gives none."""
    kind: str
    id: str
    """What changed; of a sample: what was measured."""
    gone: bool
    document: dict[str, Any]


class Parser:
    """Takes lines without their ends, gives an event at the blank line behind it. Comments are passed
    over."""

    def __init__(self) -> None:
        self._cursor, self._kind, self._data = "", "message", ""
        self._begun = b""

    def piece(self, piece: bytes) -> list[Event]:
        """The events that end in this piece of the stream, wherever it was cut.

        A line ends at a line feed and nowhere else: what `str.splitlines` takes for an end, such as U+2028,
        may stand in any text of a document.
        """
        *lines, self._begun = (self._begun + piece).split(b"\n")
        events = (self.line(line.removesuffix(b"\r").decode(errors="replace")) for line in lines)
        return [event for event in events if event is not None]

    def line(self, line: str) -> Event | None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                return self._ended()
            case "id":
                self._cursor = value
            case "event":
                self._kind = value
            case "data":
                self._data += value
        return None

    def _ended(self) -> Event | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "message", ""
        if not data:
            return None
        try:
            body = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the stream of events says what is no JSON ({error}): {data[:120]!r}") from None
        named = body.get("id") or body.get("subject", "")
        return Event(self._cursor, kind, named, bool(body.get("gone")), body.get("document") or {})
