"""A snapshot as bytes: one readable JSON file per kind of resource, and which files belong together.

Each file names the revision, the incarnation and the whole set of kinds that it was written with; files that
agree in these are one consistent cut of the book. The current generation is `<kind>.json`, the one before it
`<kind>.previous.json`. No I/O here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3

from nano import codec

CURRENT = ".json"
PREVIOUS = ".previous.json"
BEING_WRITTEN = ".json.new"

_NAME = re.compile(r"([a-z][a-z0-9_]*)(\.json|\.previous\.json)")
_SUM_DIGITS = 32
_SEAL = b'\n  "checksum": "%b"\n}\n'
_SEAL_BYTES = len(_SEAL % (b"0" * _SUM_DIGITS))
_MARGIN = b"\n    "


class _File(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    schema: int
    incarnation: str
    revision: int
    set: list[str]
    nouns: msgspec.Raw
    checksum: str


@dataclass(frozen=True)
class Stamp:
    """What all files of one snapshot have in common."""

    revision: int
    incarnation: str
    schema: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """One snapshot file as it was read: `nouns` is a JSON array; without a stamp the file is not whole."""

    name: str
    kind: str
    stamp: Stamp | None
    nouns: bytes = b"[]"
    why: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A whole set: one page of each kind, all of the same stamp."""

    stamp: Stamp
    pages: Mapping[str, Page]


def kind_of(name: str) -> str | None:
    """The kind whose snapshot a file of this name would hold, of either generation."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def encode_page(kind: str, stamp: Stamp, nouns: Iterable[object]) -> Iterator[bytes]:
    """The file of one kind, noun by noun: a large book is never held twice and never holds up the loop."""
    head = msgspec.json.encode(
        {
            "kind": kind,
            "schema": stamp.schema,
            "incarnation": stamp.incarnation,
            "revision": stamp.revision,
            "set": list(stamp.kinds),
        }
    )
    seal = blake3()
    for part in _body(msgspec.json.format(head, indent=2), nouns):
        seal.update(part)
        yield part
    yield _SEAL % seal.hexdigest(length=_SUM_DIGITS // 2).encode()


def _body(head: bytes, nouns: Iterable[object]) -> Iterator[bytes]:
    yield head.removesuffix(b"\n}") + b',\n  "nouns": ['
    margin = _MARGIN
    for noun in nouns:
        yield margin + msgspec.json.format(codec.encode(noun), indent=2).replace(b"\n", _MARGIN)
        margin = b"," + _MARGIN
    yield b"]," if margin == _MARGIN else b"\n  ],"


def read_page(name: str, data: bytes) -> Page:
    """Whatever `data` holds, as a page; never raises."""
    kind = kind_of(name) or ""
    body = data[:-_SEAL_BYTES]
    if data[-_SEAL_BYTES:] != _SEAL % blake3(body).hexdigest(length=_SUM_DIGITS // 2).encode():
        return Page(name, kind, None, why="the checksum does not fit")
    try:
        found = codec.decode(data, _File)
    except msgspec.DecodeError as error:
        return Page(name, kind, None, why=f"the file cannot be read: {error}")
    if found.kind != kind:
        return Page(name, kind, None, why=f"it holds {found.kind}")
    return Page(
        name,
        kind,
        Stamp(found.revision, found.incarnation, found.schema, tuple(found.set)),
        bytes(found.nouns),
    )


def newest_whole(pages: Sequence[Page]) -> Snapshot | None:
    """The newest set of which every page is there and whole."""
    found: dict[Stamp, dict[str, Page]] = {}
    for page in pages:
        if page.stamp and page.kind in page.stamp.kinds:
            found.setdefault(page.stamp, {})[page.kind] = page
    whole = [
        Snapshot(stamp, of_stamp) for stamp, of_stamp in found.items() if len(of_stamp) == len(stamp.kinds)
    ]
    return max(whole, key=lambda snapshot: snapshot.stamp.revision, default=None)


def highest_shown(pages: Iterable[Page]) -> int:
    """The highest revision that any whole file carries, be its set whole or not."""
    return max((page.stamp.revision for page in pages if page.stamp), default=0)


def nouns_of(page: Page, kind: Any) -> list[Any]:
    """The nouns of a page, decoded; `msgspec.DecodeError` when they are not of that kind."""
    return list(codec.decode(page.nouns, list[kind]))
