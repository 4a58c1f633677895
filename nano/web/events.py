"""The gateway's stream of events as its clients read it (server-sent events: WHATWG HTML, section 9.2)."""

from typing import Any, NamedTuple

import msgspec


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
        body = msgspec.json.decode(data)
        named = body.get("id") or body.get("subject", "")
        return Event(self._cursor, kind, named, bool(body.get("gone")), body.get("document") or {})
