"""Header blocks (QPACK, RFC 9204), written and read once for the calls that repeat.

Neither end uses a dynamic table, so a block means the same whenever it comes: what was encoded once, or
decoded and found proper once, is looked up the next time. What differs from call to call, the time that is
left, stands at the end of our blocks as a line of its own: all that is before it can be looked up still.

No I/O and no state of a connection. A block that is not proper is no error here: the caller hands it to
aioquic, which says what is wrong with it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pylsqpack
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    MessageError,
    ProtocolError,
    encode_frame,
    validate_request_headers,
    validate_response_headers,
    validate_trailers,
)

Headers = list[tuple[str, str]]
Fields = list[tuple[bytes, bytes]]
"""The same as they come."""

HEADERS_LIMIT_BYTES = 64 * 1024
"""Largest header block, as it comes and as it is read (RFC 9114, 4.2.2, counts 32 bytes more for each field).

aioquic gathers a block before it decodes it, and would gather for ever.
"""

_FIELD_OVERHEAD_BYTES = 32

_KNOWN = 256
"""Blocks that are remembered each way: a few for each method that a process calls or answers."""

_BLOCK_LIMIT_BYTES = 1024
"""Longer blocks are decoded each time: nobody may fill the memory with what is remembered."""

_NO_TABLE = b"\x00\x00"
"""The head of a block that refers to no dynamic table (RFC 9204, 4.5.1)."""

_TIMEOUT = "grpc-timeout"
_TIMEOUT_LINE = b"\x27\x05grpc-timeout"
"""The line of that name: literal name of 12 bytes, not compressed (RFC 9204, 4.5.6)."""

_SHORT = 127
"""A value shorter than this has its length in one byte."""


class TooLarge(ProtocolError):
    """The fields of a message are more than we read."""

    error_code = ErrorCode.H3_EXCESSIVE_LOAD


def headers_frame(headers: Headers) -> bytes:
    """A HEADERS frame (RFC 9114, 7.2.2)."""
    for place, (name, value) in enumerate(headers):
        if name == _TIMEOUT and len(value) < _SHORT:
            lines = _block((*headers[:place], *headers[place + 1 :]))
            timeout = _TIMEOUT_LINE + bytes((len(value),)) + value.encode("latin-1")
            return encode_frame(FrameType.HEADERS, lines + timeout)
    return _frame(tuple(headers))


@lru_cache(_KNOWN)
def _frame(headers: tuple[tuple[str, str], ...]) -> bytes:
    return encode_frame(FrameType.HEADERS, _block(headers))


@lru_cache(_KNOWN)
def _block(headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    _, block = pylsqpack.Encoder().encode(0, lines)
    return bytes(block)


def text(headers: Fields) -> Headers:
    """As grpclib has them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def check_size(headers: Fields) -> None:
    if sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in headers) > HEADERS_LIMIT_BYTES:
        raise TooLarge(f"the fields of a message are above {HEADERS_LIMIT_BYTES} bytes")


def check_request(headers: Fields) -> None:
    """What RFC 9114, 4.3.1 asks of a request, and aioquic does not look at."""
    found = dict(headers)
    if b":protocol" in found:
        raise MessageError("no protocol is offered that CONNECT could name")
    if found[b":method"] == b"CONNECT":
        if b":scheme" in found or b":path" in found:
            raise MessageError("a CONNECT has no scheme and no path")
    elif not found.get(b":scheme") or not found.get(b":path"):
        raise MessageError("a request needs a scheme and a path")
    if found.get(b"host", found[b":authority"]) != found[b":authority"]:
        raise MessageError("the request names two hosts")


def request_headers(block: bytes) -> Headers | None:
    """The head of a request; None if it is none, or not for us to judge."""
    return _read(block, _request)


def response_headers(block: bytes) -> Headers | None:
    """The head of an answer; None if it is none, or an interim one (RFC 9110, 15.2)."""
    return _read(block, _response)


def trailers(block: bytes) -> Headers | None:
    return _read(block, _trailers)


def _read(block: bytes, lookup: Callable[[bytes], tuple[tuple[str, str], ...]]) -> Headers | None:
    if len(block) > _BLOCK_LIMIT_BYTES or block[:2] != _NO_TABLE:
        return None
    timeout = block.rfind(_TIMEOUT_LINE)
    value = timeout + len(_TIMEOUT_LINE) + 1
    try:
        if timeout < 0 or len(block) - value != block[value - 1] or block[value - 1] >= _SHORT:
            return list(lookup(block))
        # What is before the line decodes by itself, so the line is one, and not the inside of another value.
        return [*lookup(block[:timeout]), (_TIMEOUT, _digits(block[value:]))]
    except (ValueError, IndexError, pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked, ProtocolError):
        return None


def _digits(value: bytes) -> str:
    """A time as gRPC writes it; anything else is aioquic's to look at."""
    if not value.isalnum():
        raise ValueError
    return value.decode("ascii")


def _decoded(block: bytes, validate: Callable[..., Any]) -> tuple[tuple[str, str], ...]:
    _, found = pylsqpack.Decoder(0, 0).feed_header(0, block)
    check_size(found)
    validate(found)
    return tuple(text(found))


@lru_cache(_KNOWN)
def _request(block: bytes) -> tuple[tuple[str, str], ...]:
    return _decoded(block, _validate_request)


def _validate_request(headers: Fields) -> None:
    validate_request_headers(headers)
    check_request(headers)


@lru_cache(_KNOWN)
def _response(block: bytes) -> tuple[tuple[str, str], ...]:
    found = _decoded(block, validate_response_headers)
    if dict(found)[":status"].startswith("1"):
        raise ValueError
    return found


@lru_cache(_KNOWN)
def _trailers(block: bytes) -> tuple[tuple[str, str], ...]:
    return _decoded(block, validate_trailers)
