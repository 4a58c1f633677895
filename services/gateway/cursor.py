"""Where a reader stands in the history of the books: one text, opaque to whoever carries it.

For each book it names the life of the book (its incarnation), the last revision that was seen, and how many
of that revision's changes. It is what `Nano-Revision` and the ids of events hold.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nano.model.errors import Invalid


class Book(StrEnum):
    """Whose books the gateway has replicas of."""

    SCHEDULER = "scheduler"
    IMAGESTORE = "imagestore"
    ADDRESSPOOL = "addresspool"


WHOLE = 2**31
"""The index that stands for every change of a revision."""

_PARTS = 4
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of one life of a book."""

    incarnation: str
    revision: int
    index: int = WHOLE

    def has_seen(self, other: "Position") -> bool:
        """Whether `other` lies at or before this point of the same life."""
        return self.incarnation == other.incarnation and (other.revision, other.index) <= (
            self.revision,
            self.index,
        )


Cursor = Mapping[Book, Position]
"""Books that are not in it were never seen."""


def written(cursor: Cursor) -> str:
    """The text that stands for a cursor."""
    plain = ",".join(
        f"{book}:{cursor[book].incarnation}:{cursor[book].revision}:{cursor[book].index}"
        for book in Book
        if book in cursor
    )
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def read(text: str, field: str) -> Cursor:
    """The cursor behind a text that we wrote; Invalid names the header for any other."""
    try:
        if not text.isascii() or len(text) > _LONGEST:
            raise ValueError  # noqa: TRY301 - all that is no cursor is refused in one place
        padded = text + "=" * (-len(text) % 4)
        plain = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        return dict(map(_entry, filter(None, plain.split(","))))
    except (ValueError, binascii.Error):
        raise Invalid(field, f"{field} {text!r:.80} is no cursor of ours: read everything again") from None


def _entry(text: str) -> tuple[Book, Position]:
    parts = text.split(":")
    if len(parts) != _PARTS or not (parts[2].isdecimal() and parts[3].isdecimal()):
        raise ValueError(text)
    return Book(parts[0]), Position(parts[1], int(parts[2]), int(parts[3]))
