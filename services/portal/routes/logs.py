"""`/logs/`: the operation log (REST document, section 9.6). The server writes it; what clients add says
so."""

from datetime import datetime

import msgspec

from nano.model.errors import Invalid
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal import oplog
from services.portal.access import Menu
from services.portal.call import Call, Route, menus

MOST_REMOVED = 1000


class LogItem(msgspec.Struct):
    id: str
    time: str
    content: str


class LogPage(msgspec.Struct):
    logs: list[LogItem]
    total: int
    """Counted up to 1000."""


class NewLine(msgspec.Struct, kw_only=True):
    content: str
    format: str = ""
    """Documented, and of no use."""


class Removal(msgspec.Struct, kw_only=True):
    entries: list[str]


async def query(call: Call[None]) -> Answer:
    asked, now = call.query, datetime.now().astimezone().replace(tzinfo=None)
    found = await call.portal.log.answer(
        oplog.question(
            after=asked.text("after"),
            before=asked.text("before"),
            start=asked.number("start", 0),
            limit=asked.number("limit", 0),
            now=max(now, call.portal.log.newest or now),
        )
    )
    return envelope.success(
        LogPage([LogItem(line.id, line.time, line.content) for line in found.lines], found.total)
    )


async def add(call: Call[NewLine]) -> Answer:
    """A note of a client's own. It cannot be taken for a line of ours: those begin with who did it."""
    if not call.body.content.strip():
        raise Invalid("content", "content is empty")
    await call.portal.log.write(f"{call.by.named} : noted: {call.body.content}")
    return envelope.success()


async def remove(call: Call[Removal]) -> Answer:
    """Needs the menu user, and is itself in the log before anything goes."""
    entries = call.body.entries
    if len(entries) > MOST_REMOVED:
        raise Invalid("entries", f"entries has {len(entries)} ids: give {MOST_REMOVED} at most")
    for index, entry in enumerate(entries):
        oplog.check_id(f"entries[{index}]", entry)
    await call.portal.log.remove(entries)
    return envelope.success()


ROUTES = (
    Route("GET", "/logs/", query, "Read the operation log", menus(Menu.LOG)),
    Route("POST", "/logs/", add, "Add a note to the operation log", body=NewLine),
    Route(
        "DELETE",
        "/logs/",
        remove,
        "Remove lines of the operation log",
        menus(Menu.USER),
        Removal,
        lambda call: (
            f"remove {len(call.body.entries)} lines of the operation log: {', '.join(call.body.entries[:20])}"
        ),
    ),
)
