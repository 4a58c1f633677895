"""Which bytes of a file a `Range` header asks for (RFC 9110, section 14)."""

import re
from dataclasses import dataclass

from nano.model.errors import NanoError

_ONE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)


class Unsatisfiable(NanoError):
    """The range lies outside of the file: 416."""

    code = "unsatisfiable"


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


def asked(header: str, size_bytes: int) -> Span | None:
    """The span of a file of that size; None stands for all of it.

    A header that is malformed, of another unit, or asks for several ranges is as if it were not there, which
    the standard allows. Unsatisfiable when nothing of the file is asked for.
    """
    found = _ONE.fullmatch(header.strip())
    if found is None or found["first"] == found["last"] == "":
        return None
    if not found["first"]:
        start, end = max(0, size_bytes - int(found["last"])), size_bytes
    else:
        start = int(found["first"])
        end = min(size_bytes, int(found["last"]) + 1) if found["last"] else size_bytes
        if found["last"] and int(found["last"]) < start:
            return None
    if start >= end:
        raise Unsatisfiable(f"the file has {size_bytes} bytes, none of which {header!r:.60} asks for")
    return Span(start, end)
