"""What a book must offer to be kept on a shelf, and what can go wrong with keeping it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from nano.model.errors import Corrupt, NanoError, StorageFull, Unreachable
from nano.shelf.journal import Damage

C_contra = TypeVar("C_contra", contravariant=True)


class Book(Protocol[C_contra]):
    """State that changes only by `apply`, synchronously and without I/O.

    `apply` must not fail: whether a change is possible was decided before it was committed. `snapshot` gives
    the nouns of each kind in sequences of their own (the nouns themselves are frozen), since they are written
    while the book goes on changing. `restore` gets every kind of `kinds`, an empty list where there is none.

    For decoding, `changes` is the tagged union of all changes and `kinds` the type of noun of each kind;
    `schema` is the version of all these shapes. A book whose schema has grown offers two class methods more:
    `upgrade(snapshot, from_schema)` turns `{kind: [noun as plain JSON values]}` of an older schema into that
    of this one; `upgrade_change(change, from_schema)` turns one change, as plain JSON values, into a list.
    """

    changes: ClassVar[Any]
    kinds: ClassVar[Mapping[str, Any]]
    schema: ClassVar[int]

    def apply(self, change: C_contra, /) -> None: ...

    def snapshot(self) -> Mapping[str, Sequence[Any]]: ...

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]], /) -> Self: ...


@dataclass(frozen=True)
class Cursor:
    """A place in a book's history. A history that was cut has a new `incarnation`: no cursor carries over."""

    incarnation: str
    revision: int


class Damaged(Corrupt):
    """A shelf's durable part is not what was written; nothing has been changed."""

    def __init__(self, folder: Path, damage: Damage, hint: str = "") -> None:
        super().__init__(
            f"{folder / damage.file}, line {damage.line} (byte {damage.offset}): {damage.why}{hint}. "
            f"Nothing was changed. Restore a backup, or keep what comes before and set the rest aside with: "
            f"python -m nano.shelf repair {shlex.quote(str(folder))}",
            subject=str(folder),
        )
        self.damage = damage


class JournalLost(Unreachable):
    """A write or a sync failed: what the disk holds is unknown, so the process must end and read it again.

    To a caller it is a peer that is gone: what it asked for may have happened, and is asked again.
    """


def storage_full(folder: Path) -> NanoError:
    return StorageFull(
        f"the disk of {folder} has no room for another change: free some, then ask again", subject=str(folder)
    )
