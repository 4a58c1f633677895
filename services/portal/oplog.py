"""The operation log: what its lines look like, and which of them a question means. Pure.

As documented (section 9.6): a file for each day, `log/YYYYMM/YYYYMMDD.log`, a line for each operation,
`id,unix nanoseconds,content`, and ids of 17 digits, the local time and a number of three digits. Here no id
is ever given twice, and a line ends only where it was meant to: line feeds in a content are escaped.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath

from nano.model.errors import Invalid

DEFAULT_LIMIT = 20
MOST_LIMIT = 100
MOST_COUNTED = 1000
"""REST document, section 9.6: a page, and how far the total is counted."""
WINDOW = timedelta(hours=24)
LONGEST_CONTENT = 4096
_ID = re.compile(r"[0-9]{17}")
_LINE = re.compile(r"(?P<id>\d{17}),(?P<at_ns>\d{1,20}),(?P<content>.*)", re.DOTALL | re.ASCII)
_STAMP = "%Y%m%d%H%M%S"
_SHOWN = "%Y-%m-%d %H:%M:%S"
_FIRST_YEAR = 1970
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


@dataclass(frozen=True, slots=True)
class Line:
    id: str
    at_ns: int
    """Nanoseconds since 1970 UTC."""
    content: str

    @property
    def time(self) -> str:
        """The local time, as answers show it."""
        return datetime.strptime(self.id[:14], _STAMP).strftime(_SHOWN)  # noqa: DTZ007 - the id is local time

    @property
    def file(self) -> PurePath:
        return file_of(self.id)


@dataclass(frozen=True, slots=True)
class Question:
    """Lines of a window of local time, the newest first."""

    after: datetime
    before: datetime
    start: int
    limit: int

    @property
    def days(self) -> Iterator[datetime]:
        """From the last day of the window to its first."""
        day = self.before
        while day.date() >= self.after.date():
            yield day
            day -= timedelta(days=1)

    def means(self, line: Line) -> bool:
        return self.after.strftime(_STAMP) <= line.id[:14] <= self.before.strftime(_STAMP)


@dataclass(frozen=True, slots=True)
class Answer:
    lines: list[Line]
    total: int
    """Counted up to `MOST_COUNTED`."""


def line_of(content: str, at_ns: int, last_id: str) -> Line:
    """The line behind `last_id`: of the same second with the next number, else of the moment itself.

    A clock that was set back, or a second with a thousand lines, borrows from the seconds to come.
    """
    stamp = datetime.fromtimestamp(at_ns / 1e9).astimezone().strftime(_STAMP)
    if last_id[:14] >= stamp:
        stamp, number = last_id[:14], int(last_id[14:]) + 1
        if number > 999:  # noqa: PLR2004 - three digits
            later = datetime.strptime(stamp, _STAMP) + timedelta(seconds=1)  # noqa: DTZ007 - local time
            stamp, number = later.strftime(_STAMP), 1
    else:
        number = 1
    return Line(f"{stamp}{number:03d}", at_ns, _shown(content[:LONGEST_CONTENT]))


def _shown(content: str) -> str:
    """Without what a terminal obeys instead of showing it: controls, and marks that turn text around."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in content)


def written(line: Line) -> bytes:
    text = line.content
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return f"{line.id},{line.at_ns},{text}\n".encode()


def read(text: str) -> Line | None:
    """A line of a file, without its end; None for what is none."""
    found = _LINE.fullmatch(text)
    if found is None or moment_of(found["id"]) is None:
        return None
    content = re.sub(r"\\(.)", lambda pair: {"n": "\n", "r": "\r"}.get(pair[1], pair[1]), found["content"])
    return Line(found["id"], int(found["at_ns"]), content)


def file_of(line_id: str) -> PurePath:
    """Where a line is kept, below `log/`."""
    return PurePath(line_id[:6], f"{line_id[:8]}.log")


def check_id(field: str, line_id: str) -> str:
    if _ID.fullmatch(line_id) is None:
        raise Invalid(field, f"{field} {line_id!r:.40} is not an id of 17 digits")
    return line_id


def question(*, after: str, before: str, start: int, limit: int, now: datetime) -> Question:
    """What a query asks: at most 100 lines of the last 24 hours unless it says otherwise.

    `now` is local time without a zone, as all times of the document are.
    """
    until = _moment("before", before) if before else now
    since = _moment("after", after) if after else until - WINDOW
    if until < since:
        raise Invalid("before", f"before {until:{_SHOWN}} is earlier than after {since:{_SHOWN}}")
    if (until - since) > timedelta(days=3660):
        raise Invalid("after", "after lies more than ten years before before: ask for less")
    return Question(since, until, start, limit if 0 < limit <= MOST_LIMIT else DEFAULT_LIMIT)


def _moment(field: str, text: str) -> datetime:
    try:
        moment = datetime.strptime(text, _SHOWN)  # noqa: DTZ007 - documented without a zone
    except ValueError:
        raise Invalid(field, f"{field} {text!r:.40} is not a time such as 2026-01-31 23:59:59") from None
    if moment.year < _FIRST_YEAR:
        raise Invalid(field, f"{field} {text} lies before any log: give a time from {_FIRST_YEAR} on")
    return moment


def moment_of(line_id: str) -> datetime | None:
    """The local time in an id; None when it holds none."""
    try:
        return datetime.strptime(line_id[:14], _STAMP)  # noqa: DTZ007 - the id is local time
    except ValueError:
        return None


def answer(asked: Question, newest_first: Iterable[Line]) -> Answer:
    """The page of what is meant, and the count."""
    page: list[Line] = []
    total = 0
    for line in newest_first:
        if not asked.means(line):
            continue
        if asked.start <= total < asked.start + asked.limit:
            page.append(line)
        total += 1
        if total >= max(MOST_COUNTED, asked.start + asked.limit):
            break
    return Answer(page, min(total, MOST_COUNTED))
