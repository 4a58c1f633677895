"""The journal as bytes, and what a restart makes of it. No I/O: files come in as bytes, a decision goes out.

A journal is a row of *segments*, files named for the revision that they start after. Each line is JSON and
begins with its own length and checksum, both of fixed width:

    {"length":     256,"sum":"9c0e…","at":0,"format":1,"segment":"4be1…","incarnation":"…","revision":120,…}
    {"length":     187,"sum":"51aa…","at":256,"durable":256,"revision":121,"changes":[{…},{…}]}

`at` is the line's own offset in its file, `durable` the offset up to which the file had been synced when the
line was written. The first line is the *head*, padded so that it always ends at `HEAD_BYTES`; it is synced
before anything follows it. Every other line is one commit: its revision and its changes.

The checksum is BLAKE3 cut to 64 bits. A torn write leaves any mixture of sectors behind, many times over the
life of an installation, and the line in question decides whether acknowledged state is dropped: the chance of
one in 2^32 that a CRC leaves is not small enough, and BLAKE3 is here anyhow. It is taken over the segment's
random id as well, and for the head over the file's name, so that no line of another file, left in a block
that the disk uses again, can pass for one of this file.

Damage at or beyond the highest durable offset that a good line names is what a power cut leaves: nothing from
there on was ever acknowledged, and it is cut off, with the good lines behind it. Damage before it is a loud
error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3

from nano import codec

FORMAT = 1
HEAD_BYTES = 256
"""Length of a segment's first line: fixed, so that a file beyond it proves that the head had been synced."""

LINE_OVERHEAD_BYTES = 160
"""The most that a line adds to its changes: prefix, three numbers of up to 20 digits, member names."""

BEING_WRITTEN = ".new"
"""What the name of a segment that is about to replace another ends in."""

_SUM_DIGITS = 16
_PREFIX_BYTES = len('{"length":12345678,"sum":"",') + _SUM_DIGITS
_NAME = re.compile(r"journal-(\d{12})\.jsonl")


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    length: int
    sum: str
    at: int
    format: int
    segment: str
    incarnation: str
    revision: int
    schema: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    length: int
    sum: str
    at: int
    durable: int
    revision: int
    changes: msgspec.Raw


@dataclass(frozen=True)
class Head:
    """The first line of a segment.

    `incarnation` names the history that the lines continue, `revision` is the one that they start after,
    `schema` the version of the book's shapes, `segment` the random id that seeds the checksums.
    """

    segment: str
    incarnation: str
    revision: int
    schema: int
    format: int = FORMAT


@dataclass(frozen=True)
class Entry:
    """One commit: its revision and the JSON array of its changes."""

    revision: int
    changes: bytes


@dataclass(frozen=True)
class Damage:
    """Bytes that are not what was written: file, line (from 1), from which byte on, and what is wrong."""

    file: str
    line: int
    offset: int
    why: str


@dataclass(frozen=True)
class Segment:
    """A journal file as it was read: good lines up to the first bad one, and what is known of the rest."""

    name: str
    size_bytes: int
    head: Head | None
    entries: tuple[Entry, ...]
    lines: tuple[int, ...]
    """The line number of each entry, for messages."""
    end: int
    """Where the good lines end."""
    durable: int
    """The highest offset that a good line, before or behind the damage, says had been synced."""
    damage: Damage | None

    @property
    def base(self) -> int:
        """The revision that the file's name says it starts after."""
        return segment_base(self.name) or 0

    @property
    def torn_at_birth(self) -> bool:
        """Whether the power failed before the head was synced: then no line was ever written behind it."""
        return self.head is None and self.size_bytes <= HEAD_BYTES


@dataclass(frozen=True)
class Recovery:
    """What a restart may do: lines to replay, the file to go on with (none: a new shelf), what to cut."""

    revision: int
    entries: tuple[tuple[Segment, Entry], ...]
    tail: Segment | None
    dropped: tuple[str, ...]

    @property
    def cut_bytes(self) -> int:
        """How much of the last file a power cut left unusable."""
        return self.tail.size_bytes - self.tail.end if self.tail else 0


def segment_name(base: int) -> str:
    """The name of the file whose lines come after revision `base`."""
    return f"journal-{base:012d}.jsonl"


def segment_base(name: str) -> int | None:
    """The revision that a file of this name starts after; nothing for a name that is no journal's."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def head_line(head: Head) -> bytes:
    """The first line of a segment, exactly `HEAD_BYTES` long."""
    members = (
        f'"at":0,"format":{head.format},"segment":"{head.segment}","incarnation":"{head.incarnation}",'
        f'"revision":{head.revision},"schema":{head.schema}'
    ).encode()
    return _seal(segment_name(head.revision).encode(), members.ljust(HEAD_BYTES - _PREFIX_BYTES - 2) + b"}\n")


def entry_line(segment: str, entry: Entry, *, at: int, durable: int) -> bytes:
    """One commit as a line of the segment with that id, to be written at offset `at`."""
    members = b'"at":%d,"durable":%d,"revision":%d,"changes":' % (at, durable, entry.revision)
    return _seal(segment.encode(), members + entry.changes + b"}\n")


def _seal(seed: bytes, body: bytes) -> bytes:
    length = b"%8d" % (_PREFIX_BYTES + len(body))
    return b'{"length":%b,"sum":"%b",%b' % (length, _sum(seed, length, body), body)


def _sum(seed: bytes, length: bytes, body: bytes) -> bytes:
    return blake3(seed + length + body).hexdigest(length=_SUM_DIGITS // 2).encode()


def _flaw(seed: bytes, line: bytes) -> str:
    """What keeps `line` from being what was written; empty when nothing does."""
    if not line.endswith(b"\n"):
        return "the line has no end"
    if line != _seal(seed, line[_PREFIX_BYTES:]):
        return "length or checksum do not fit"
    return ""


def _read_head(name: str, data: bytes) -> tuple[Head | None, str]:
    line = data[:HEAD_BYTES]
    if flaw := _flaw(name.encode(), line):
        return None, flaw
    try:
        found = codec.decode(line, _Head)
    except msgspec.DecodeError as error:
        return None, f"the head cannot be read: {error}"
    return Head(found.segment, found.incarnation, found.revision, found.schema, found.format), ""


def read_segment(name: str, data: bytes) -> Segment:
    """Whatever `data` holds, as lines; never raises."""
    head, flaw = _read_head(name, data)
    if head is None:
        # Lines are checked against the head's id, so none behind it can speak for itself. Their mere presence
        # does: they were written after the head had been synced.
        durable = HEAD_BYTES if len(data) > HEAD_BYTES else 0
        return Segment(name, len(data), None, (), (), 0, durable, Damage(name, 1, 0, flaw))
    seed = head.segment.encode()
    entries: list[Entry] = []
    lines: list[int] = []
    damage: Damage | None = None
    at, end, number, durable = HEAD_BYTES, HEAD_BYTES, 1, 0
    while at < len(data):
        number += 1
        stop = data.find(b"\n", at) + 1 or len(data)
        line = data[at:stop]
        entry, named, flaw = _read_entry(
            seed, line, at, head.revision + len(entries) + 1, follows=damage is None
        )
        durable = max(durable, named)
        if entry is None:
            damage = damage or Damage(name, number, at, flaw)
        elif damage is None:
            entries.append(entry)
            lines.append(number)
            end = stop
        at = stop
    return Segment(name, len(data), head, tuple(entries), tuple(lines), end, durable, damage)


def _read_entry(
    seed: bytes, line: bytes, at: int, expected: int, *, follows: bool
) -> tuple[Entry | None, int, str]:
    """The commit in a line, the durable offset that it names, and what is wrong with it.

    A line behind damage (`follows` is false) cannot continue the count, nor can one whose place has moved, as
    happens when somebody adds or removes bytes before it. Both are still witnesses of what was durable when
    they were written.
    """
    if flaw := _flaw(seed, line):
        return None, 0, flaw
    try:
        found = codec.decode(line, _Line)
    except msgspec.DecodeError as error:
        return None, 0, f"the line cannot be read: {error}"
    if found.at != at:
        return None, found.durable, "the line belongs to another place"
    if follows and found.revision != expected:
        return None, found.durable, f"revision {found.revision} stands where {expected} belongs"
    return Entry(found.revision, bytes(found.changes)), found.durable, ""


def recover(segments: Sequence[Segment], *, base: int, shown: int) -> Recovery | Damage:
    """What to replay on top of a snapshot of revision `base`, or the damage that forbids it.

    `shown` is the highest revision that any whole snapshot file carries: a snapshot is put in place only when
    the journal is durable up to it, so a journal that ends before it has lost something. Which snapshot
    counts is decided in `snapshots.py`. Segments may be given in any order, those older than needed may be
    missing.
    """
    kept = sorted(segments, key=lambda segment: segment.base)
    dropped: tuple[str, ...] = ()
    if kept and kept[-1].torn_at_birth:
        dropped = (kept.pop().name,)
    needed = kept[max((i for i, segment in enumerate(kept) if segment.base <= base), default=0) :]
    if not needed:
        if base or shown or any(segment_base(name) for name in dropped):
            return Damage(
                segment_name(base), 1, 0, f"the file is missing, and revision {max(base, shown)} was reached"
            )
        return Recovery(0, (), None, dropped)
    if needed[0].base > base:
        return Damage(
            needed[0].name,
            1,
            0,
            f"the journal starts after revision {needed[0].base}, snapshots end at {base}",
        )
    reached = needed[0].base
    for segment in needed:
        # A file is synced whole before the next one is made, so only the last can end in a power cut.
        proven = segment is not needed[-1] or bool(dropped)
        if flaw := _segment_flaw(segment, reached, proven=proven):
            return flaw
        reached += len(segment.entries)
    last = needed[-1]
    if reached < max(base, shown):
        return Damage(
            last.name,
            len(last.entries) + 2,
            last.end,
            f"the journal ends at {reached}, a snapshot shows {max(base, shown)}",
        )
    entries = tuple(
        (segment, entry) for segment in needed for entry in segment.entries if entry.revision > base
    )
    return Recovery(reached, entries, last, dropped)


def _segment_flaw(segment: Segment, reached: int, *, proven: bool) -> Damage | None:
    if segment.damage and (proven or segment.head is None or segment.damage.offset < segment.durable):
        return segment.damage
    if segment.base != reached or (segment.head and segment.head.revision != segment.base):
        return Damage(
            segment.name, 1, 0, f"the file starts after {segment.base}, those before it end at {reached}"
        )
    return None


def line_of(segment: Segment, entry: Entry) -> int:
    """The number of the line that holds `entry`."""
    return segment.lines[entry.revision - segment.base - 1]


def changes_of(entry: Entry, kind: Any) -> list[Any]:
    """The changes of a commit, decoded; `msgspec.DecodeError` when they are not of that kind."""
    return list(codec.decode(entry.changes, list[kind]))
