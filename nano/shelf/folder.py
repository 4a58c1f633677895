"""A shelf's folder: read at start, cut where the power failed, written in an order that survives anything.

Plain blocking calls on a `Disk`; `shelf.py` decides when, and runs them off the loop. The order of the calls
is what `tests/simulation/test_power_cut.py` proves.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from nano import codec
from nano.model.errors import Corrupt, Unsupported
from nano.shelf import journal, snapshots
from nano.shelf.book import Book, Damaged
from nano.shelf.files import Disk, File, is_full
from nano.shelf.journal import Damage, Entry, Head, Recovery, Segment
from nano.shelf.snapshots import BEING_WRITTEN, CURRENT, PREVIOUS, Page, Snapshot, Stamp

B = TypeVar("B", bound=Book[Any])

RESERVE_BYTES = 2**20
"""Blocks taken ahead of the journal's end, so that a full disk is noticed before a change is made."""

_WRITE_BYTES = 2**18


@dataclass(frozen=True)
class Contents:
    """Everything that counts in a folder, as read; `passed_over` are snapshot files that are not whole."""

    base: Snapshot | None
    segments: tuple[Segment, ...]
    recovery: Recovery | Damage
    passed_over: tuple[Page, ...]
    leftovers: tuple[str, ...]


@dataclass(frozen=True)
class Loaded(Generic[B]):
    """A book as it was, and the commits since its snapshot for those who follow it."""

    book: B
    contents: Contents
    recovery: Recovery
    recent: tuple[tuple[int, tuple[Any, ...], int], ...]
    """Revision, changes and size in bytes of each commit that was replayed."""


def new_incarnation() -> str:
    """A name for a history, new with every cut."""
    return secrets.token_hex(8)


def new_head(incarnation: str, revision: int, schema: int) -> Head:
    return Head(secrets.token_hex(4), incarnation, revision, schema)


def read(disk: Disk, folder: Path, kinds: Iterable[str] = ()) -> Contents:
    """What the folder holds and what a restart may do with it.

    A file that is no snapshot counts only when it is named for one of `kinds`: others may live here too.
    """
    names = disk.names(folder)
    pages, base = _read_pages(disk, folder, names, frozenset(kinds))
    revision = base.stamp.revision if base else 0
    bases = sorted(at for name in names if (at := journal.segment_base(name)) is not None)
    first = max((at for at in bases if at <= revision), default=0)
    segments = [_read_segment(disk, folder, at) for at in bases if at >= first]
    before = max((at for at in bases if at < first), default=None)
    if before is not None and segments[-1].torn_at_birth:
        # The power failed while the file was made: the one before it is the one to go on with.
        segments.append(_read_segment(disk, folder, before))
    return Contents(
        base,
        tuple(segments),
        journal.recover(segments, base=revision, shown=snapshots.highest_shown(pages)),
        tuple(page for page in pages if page.stamp is None),
        tuple(name for name in names if name.endswith((BEING_WRITTEN, journal.BEING_WRITTEN))),
    )


def _read_segment(disk: Disk, folder: Path, base: int) -> Segment:
    name = journal.segment_name(base)
    return journal.read_segment(name, disk.read(folder / name))


def _read_pages(
    disk: Disk, folder: Path, names: Sequence[str], kinds: frozenset[str]
) -> tuple[list[Page], Snapshot | None]:
    """All pages that matter: the generation before is read only when the current one is not whole."""
    pages: list[Page] = []
    for previous in (False, True):
        for name in names:
            kind = snapshots.kind_of(name)
            if kind is None or name.endswith(PREVIOUS) != previous:
                continue
            page = snapshots.read_page(name, disk.read(folder / name))
            if page.stamp or kind in kinds:
                pages.append(page)
        base = snapshots.newest_whole(pages)
        if base and all(page.stamp == base.stamp for page in pages):
            break
    return pages, base


def load(disk: Disk, folder: Path, book_type: type[B]) -> Loaded[B]:
    """The book as the folder tells it; changes nothing.

    `Damaged`, `Corrupt` or `Unsupported` when it cannot be told.
    """
    contents = read(disk, folder, book_type.kinds)
    recovery = contents.recovery
    if isinstance(recovery, Damage):
        hint = "".join(f" ({page.name}: {page.why})" for page in contents.passed_over)
        raise Damaged(folder, recovery, hint)
    for segment in contents.segments:
        if segment.head:
            _refuse_newer(folder / segment.name, segment.head, book_type.schema)
    book = book_type.restore(_nouns(folder, contents.base, book_type))
    recent = []
    for segment, entry in recovery.entries:
        changes = _changes(folder, segment, entry, book_type)
        for change in changes:
            book.apply(change)
        recent.append((entry.revision, changes, len(entry.changes)))
    return Loaded(book, contents, recovery, tuple(recent))


def _refuse_newer(path: Path, head: Head | Stamp, schema: int) -> None:
    written_by = getattr(head, "format", journal.FORMAT)
    if head.schema > schema or written_by > journal.FORMAT:
        raise Unsupported(
            f"{path} was written by a newer Nano (schema {head.schema}, format {written_by}; this one "
            f"knows {schema} and {journal.FORMAT}): start that version, or restore an older backup",
            subject=str(path),
        )


def _nouns(folder: Path, base: Snapshot | None, book_type: type[Book[Any]]) -> Mapping[str, Sequence[Any]]:
    if base is None:
        return {kind: [] for kind in book_type.kinds}
    for page in base.pages.values():
        _refuse_newer(folder / page.name, base.stamp, book_type.schema)
    pages = dict(base.pages)
    if base.stamp.schema < book_type.schema:
        upgrade = _hook(book_type, "upgrade", base.stamp.schema, folder)
        plain = {kind: snapshots.nouns_of(page, Any) for kind, page in pages.items()}
        upgraded = upgrade(plain, base.stamp.schema)
        pages = {
            kind: Page(folder.name, kind, base.stamp, codec.encode(nouns)) for kind, nouns in upgraded.items()
        }
    if unknown := pages.keys() - book_type.kinds.keys():
        raise Corrupt(
            f"{folder} holds {', '.join(sorted(unknown))}, which its book does not know", subject=str(folder)
        )
    nouns: dict[str, Sequence[Any]] = {kind: [] for kind in book_type.kinds}
    for kind, page in pages.items():
        try:
            nouns[kind] = snapshots.nouns_of(page, book_type.kinds[kind])
        except msgspec.DecodeError as error:
            raise Corrupt(
                f"{folder / page.name} is not what its book expects: {error}", subject=str(folder)
            ) from error
    return nouns


def _changes(folder: Path, segment: Segment, entry: Entry, book_type: type[Book[Any]]) -> tuple[Any, ...]:
    schema = segment.head.schema if segment.head else book_type.schema
    try:
        if schema < book_type.schema:
            upgrade = _hook(book_type, "upgrade_change", schema, folder)
            plain = [new for old in journal.changes_of(entry, Any) for new in upgrade(old, schema)]
            entry = replace(entry, changes=codec.encode(plain))
        return tuple(journal.changes_of(entry, book_type.changes))
    except msgspec.DecodeError as error:
        line = journal.line_of(segment, entry)
        raise Corrupt(
            f"{folder / segment.name}, line {line}: not a change that the book knows: {error}",
            subject=str(folder),
        ) from error


def _hook(book_type: type[Book[Any]], name: str, schema: int, folder: Path) -> Callable[..., Any]:
    hook: Callable[..., Any] | None = getattr(book_type, name, None)
    if hook is None:
        raise Unsupported(
            f"{folder} has schema {schema}, and {book_type.__name__} cannot upgrade it to "
            f"{book_type.schema}: it has no {name}(). Start the version that wrote it "
            "and stop it cleanly, or restore a backup",
            subject=str(folder),
        )
    return hook


class Log:
    """The segment that is being written. `end` is durable whenever no call is under way."""

    def __init__(self, file: File, name: str, head: Head, end: int) -> None:
        self._file = file
        self.name, self.head, self.end = name, head, end
        self.reserved = end

    def reserve(self, end: int) -> None:
        """Make sure of room for all bytes before `end`, and some more; `OSError` when the disk has none."""
        self._file.reserve(end + RESERVE_BYTES)
        self.reserved = end + RESERVE_BYTES

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the commits and return when they are on the disk: the one sync that they share."""
        durable, lines = self.end, bytearray()
        for entry in entries:
            lines += journal.entry_line(self.head.segment, entry, at=durable + len(lines), durable=durable)
        self._file.write_at(durable, bytes(lines))
        self._file.sync()
        self.end = durable + len(lines)

    def close(self) -> None:
        self._file.close()


def settle(disk: Disk, folder: Path, loaded: Loaded[Any], schema: int) -> Log:
    """Make what was read durable, cut what the power left behind, and open the journal to go on."""
    tail = loaded.recovery.tail
    for name in (*loaded.contents.leftovers, *loaded.recovery.dropped):
        disk.unlink(folder / name)
    if tail is None or tail.head is None:
        disk.sync_folder(folder)  # the name of a torn file must be gone before it is given again
        return start_segment(disk, folder, new_head(new_incarnation(), 0, schema))
    file = disk.open(folder / tail.name)
    if tail.size_bytes > tail.end:
        file.truncate(tail.end)
    # These bytes were read back, but perhaps from a cache whose sync failed: such pages count as clean and a
    # second sync would skip them. Writing them again makes the sync a true one.
    proven = min(tail.durable, tail.end)
    file.write_at(proven, disk.read(folder / tail.name)[proven : tail.end])
    file.sync()
    disk.sync_folder(folder)
    log = Log(file, tail.name, tail.head, tail.end)
    return (
        log
        if tail.head.schema == schema
        else _start_schema(disk, folder, log, loaded.recovery.revision, schema)
    )


def _start_schema(disk: Disk, folder: Path, log: Log, revision: int, schema: int) -> Log:
    """Lines of another schema go to a segment of their own, whose head says so."""
    log.close()
    head = new_head(log.head.incarnation, revision, schema)
    if revision > log.head.revision:
        return start_segment(disk, folder, head)
    replace_segment(disk, folder, log.name, journal.head_line(head))
    return Log(disk.open(folder / log.name), log.name, head, journal.HEAD_BYTES)


def start_segment(disk: Disk, folder: Path, head: Head) -> Log:
    """A new file for the lines after `head.revision`; a full disk leaves no trace of it.

    The file before it is synced whole: that a next one exists is the proof of it.
    """
    name = journal.segment_name(head.revision)
    file = disk.create(folder / name)
    log = Log(file, name, head, journal.HEAD_BYTES)
    try:
        file.write_at(0, journal.head_line(head))
        file.sync()
    except OSError as error:
        if is_full(error):
            discard_segment(disk, folder, log)
        raise
    disk.sync_folder(folder)
    return log


def discard_segment(disk: Disk, folder: Path, log: Log) -> None:
    """Take back a segment without lines, durably: the file before it goes on as the last one."""
    log.close()
    disk.unlink(folder / log.name)
    disk.sync_folder(folder)


def replace_segment(disk: Disk, folder: Path, name: str, data: bytes) -> None:
    """Put `data` in the place of a segment in one step."""
    temporary = folder / (name + journal.BEING_WRITTEN)
    with suppress(FileNotFoundError):
        disk.unlink(temporary)
    write_file(disk, temporary, data)
    disk.rename(temporary, folder / name)
    disk.sync_folder(folder)


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """A new file with these bytes, synced; its name is not, yet."""
    file = disk.create(path)
    try:
        file.write_at(0, data)
        file.sync()
    finally:
        file.close()


class Generations:
    """The two snapshots that are kept, and how a third takes the place of the older.

    At every moment one whole set is in place, whatever part of the renames a power cut lets through: the set
    that counts (`base`) is moved to `<kind>.previous.json` and the folder synced before anything takes its
    old names.
    """

    def __init__(self, disk: Disk, folder: Path, base: Snapshot | None) -> None:
        self._disk, self._folder = disk, folder
        self._stamp = base.stamp if base else None
        self._where = {kind: page.name for kind, page in base.pages.items()} if base else {}

    @property
    def revision(self) -> int:
        """The revision of the newest snapshot that is in place."""
        return self._stamp.revision if self._stamp else 0

    def write(self, kind: str, stamp: Stamp, nouns: Iterable[object]) -> int:
        """Write and sync the page of one kind beside the ones in place; returns its size in bytes."""
        file = self._disk.create(self._folder / (kind + BEING_WRITTEN))
        size, pending = 0, bytearray()
        try:
            for part in snapshots.encode_page(kind, stamp, nouns):
                pending += part
                if len(pending) >= _WRITE_BYTES:
                    file.write_at(size, bytes(pending))
                    size += len(pending)
                    pending.clear()
            file.write_at(size, bytes(pending))
            file.sync()
        finally:
            file.close()
        return size + len(pending)

    def exchange(self, stamp: Stamp) -> None:
        """Put the written pages in place; then drop the journal that only the oldest generation needed."""
        needed_from = self.revision
        for kind, name in self._where.items():
            if name.endswith(PREVIOUS):
                continue
            self._disk.rename(self._folder / name, self._folder / (kind + PREVIOUS))
            self._where[kind] = kind + PREVIOUS
        self._disk.sync_folder(self._folder)
        for kind in stamp.kinds:
            self._disk.rename(self._folder / (kind + BEING_WRITTEN), self._folder / (kind + CURRENT))
        self._disk.sync_folder(
            self._folder
        )  # the next exchange must find them so, whatever is synced between
        self._stamp, self._where = stamp, {kind: kind + CURRENT for kind in stamp.kinds}
        self._retire(needed_from)

    def _retire(self, needed_from: int) -> None:
        found = (journal.segment_base(name) for name in self._disk.names(self._folder))
        bases = sorted(base for base in found if base is not None)
        for base, following in pairwise(bases):
            if following <= needed_from:
                self._disk.unlink(self._folder / journal.segment_name(base))

    def give_up(self, kinds: Iterable[str]) -> None:
        """Take back pages that were written but not put in place."""
        for kind in kinds:
            with suppress(FileNotFoundError):
                self._disk.unlink(self._folder / (kind + BEING_WRITTEN))
