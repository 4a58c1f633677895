"""What both ends of a body agree on.

A body that ends early is an error at whoever reads it: its length is announced and counted, and a source that
fails resets the stream.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from nano.fabric.calls.status import Detail
from nano.fabric.http3.stream import Headers
from nano.fabric.packets.quic import MIB
from nano.model import errors
from nano.model.errors import Corrupt, Invalid, NanoError
from nano.model.peers import Role

ERROR_HEADER = "nano-error"
"""On an answer that is no success: the error's fields as JSON; the body is its message."""

CONTENT = ("content-type", "application/octet-stream")

SEND_MARK_BYTES = 2 * MIB
"""Unsent bytes of a body at which its source waits. A turn of the loop sends what a far path takes in 10
ms."""

BulkRoles = Mapping[tuple[str, str], frozenset[Role]]
"""Who may do what: by method and beginning of the path, `("GET", "/chunks/")` say; the longest counts."""

_RANGE = re.compile(r"bytes=(\d{1,18})-", re.ASCII)
_SIZE = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """What is asked for. `offset` is where a GET begins; `size_bytes` how much a PUT brings, if it says."""

    path: str
    offset: int = 0
    size_bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BulkInfo:
    """What is said of a resource: its whole size, if known, and headers of the handler's own."""

    size_bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BulkBody:
    """A resource from the asked offset on."""

    info: BulkInfo
    chunks: AsyncIterator[bytes]


class BulkHandler(Protocol):
    """What a service offers. Errors of the model reach the client as they are."""

    async def head(self, request: BulkRequest) -> BulkInfo:
        """Size and headers of what `get` would send from the beginning."""
        ...

    async def get(self, request: BulkRequest) -> BulkBody:
        """The bytes from `request.offset` on."""
        ...

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> Mapping[str, str]:
        """Take the bytes; gives headers for the answer. `chunks` raises when the sender breaks off."""
        ...


def roles_for(table: BulkRoles, method: str, path: str) -> frozenset[Role]:
    """Who may do `method` to `path`; nobody, unless a row says so."""
    rows = [prefix for found, prefix in table if found == method and path.startswith(prefix)]
    return table[method, max(rows, key=len)] if rows else frozenset()


def size_in(value: str | None) -> int | None:
    """A content length; None when it is absent or no number."""
    return int(value) if value is not None and _SIZE.fullmatch(value) else None


def offset_in(value: str | None) -> int:
    """Where a `Range` begins. Only "from here to the end" is spoken; anything else is `Invalid`."""
    if value is None:
        return 0
    found = _RANGE.fullmatch(value)
    if found is None:
        raise Invalid("range", f"the range {value[:100]!r} is not understood: use bytes=<offset>-")
    return int(found[1])


def error_header(error: NanoError) -> str:
    detail = Detail(error.code, error.field[:200], error.subject[:200], error.retry_after_s)
    return json.dumps(msgspec.to_builtins(detail))  # in ASCII, as a header must be: msgspec writes UTF-8


def error_in(headers: Headers, message: str) -> NanoError:
    """The error that an unsuccessful answer stands for."""
    named = dict(headers)
    status = named.get(":status", "none")
    try:
        found = msgspec.json.decode(named.get(ERROR_HEADER, ""), type=Detail)
    except msgspec.DecodeError:
        return Corrupt(f"the peer answered with status {status} and no reason: {message[:200]}")
    return errors.from_code(
        found.code, message, field=found.field, subject=found.subject, retry_after_s=found.retry_after_s
    )
