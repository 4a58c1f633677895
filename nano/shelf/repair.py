"""Cutting a damaged shelf back to what is whole: the one place where acknowledged history is given up, and
only when an administrator asks for it. Everything is copied first, and the history goes on under a new
incarnation, so that nobody who saw what was cut takes the new lines for its continuation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nano.model.errors import Corrupt
from nano.shelf import folder as on_disk
from nano.shelf import journal, snapshots
from nano.shelf.files import Disk
from nano.shelf.folder import Contents
from nano.shelf.journal import Damage, Entry, Head

LOCK = "shelf.lock"


@dataclass(frozen=True)
class Repaired:
    """History now ends at `revision`, right before `damage`; `kept` is the prefix of the copies."""

    revision: int
    damage: Damage
    kept: str


@dataclass(frozen=True)
class _Plan:
    """The segment to end with, byte for byte, and the revision that it reaches."""

    name: str
    data: bytes
    revision: int


def repair(disk: Disk, folder: Path) -> Repaired | None:
    """Keep what comes before the damage and set the rest aside; nothing when there is no damage.

    Safe to interrupt: until the last step a start still refuses, and `repair` can be run again. `Corrupt`
    when nothing whole is left to go on from.
    """
    lock = disk.lock(folder / LOCK)
    try:
        contents = on_disk.read(disk, folder)
        if not isinstance(contents.recovery, Damage):
            return None
        plan = _plan(folder, contents, contents.recovery)
        kept = _copy(disk, folder)
        _cut(disk, folder, plan)
        return Repaired(plan.revision, contents.recovery, kept)
    finally:
        lock.close()


def _plan(folder: Path, contents: Contents, damage: Damage) -> _Plan:
    """Go on from the last good line; where even the snapshot is ahead of that, from the snapshot."""
    stamp = contents.base.stamp if contents.base else None
    base = stamp.revision if stamp else 0
    for segment in sorted(contents.segments, key=lambda part: part.base, reverse=True):
        whole_so_far = segment.name < damage.file or (segment.name == damage.file and damage.line > 1)
        reached = segment.base + len(segment.entries)
        if segment.head and whole_so_far and reached >= base:
            head = on_disk.new_head(on_disk.new_incarnation(), segment.base, segment.head.schema)
            return _Plan(segment.name, _written_again(head, segment.entries), reached)
    if stamp is None and damage.file != journal.segment_name(0):
        raise Corrupt(
            f"{folder} holds nothing whole from before the damage: restore a backup", subject=str(folder)
        )
    head = on_disk.new_head(on_disk.new_incarnation(), base, stamp.schema if stamp else 0)
    return _Plan(journal.segment_name(base), journal.head_line(head), base)


def _written_again(head: Head, entries: Sequence[Entry]) -> bytes:
    """The same commits in a segment of a new id: no line of the damaged file must ever count in this one."""
    data = journal.head_line(head)
    for entry in entries:
        data += journal.entry_line(head.segment, entry, at=len(data), durable=len(data))
    return data


def _copy(disk: Disk, folder: Path) -> str:
    """All files of the shelf as they are now, beside them, under a common prefix that no file has yet."""
    names = disk.names(folder)
    number = 1
    while any(name.startswith(f"damaged-{number}-") for name in names):
        number += 1
    for name in names:
        if snapshots.kind_of(name) or journal.segment_base(name) is not None:
            on_disk.write_file(disk, folder / f"damaged-{number}-{name}", disk.read(folder / name))
    disk.sync_folder(folder)
    return f"damaged-{number}-"


def _cut(disk: Disk, folder: Path, plan: _Plan) -> None:
    on_disk.replace_segment(disk, folder, plan.name, plan.data)
    for name in disk.names(folder):
        if journal.segment_base(name) is not None and name > plan.name:
            disk.unlink(folder / name)
    disk.sync_folder(folder)
    for name in disk.names(folder):
        page = snapshots.read_page(name, disk.read(folder / name)) if snapshots.kind_of(name) else None
        if page and page.stamp and page.stamp.revision > plan.revision:
            disk.unlink(folder / name)
    disk.sync_folder(folder)
