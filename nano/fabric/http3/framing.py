"""gRPC's frame around a message: one byte of flag, four of length (gRPC, PROTOCOL-HTTP2; gRFC G2)."""

import struct

from grpclib.const import Status
from grpclib.exceptions import GRPCError

PREFIX_BYTES = 5

MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024
"""Largest message: what other implementations of gRPC allow. Image bytes travel as bulk, not as messages."""

_PREFIX = struct.Struct(">BI")


def framed(message: bytes) -> bytes:
    """`message` with its prefix."""
    return _PREFIX.pack(0, len(message)) + message


def message_size(prefix: bytes) -> int:
    """The length that a prefix announces; a `GRPCError` where it must not be followed.

    The statuses are those of gRPC's own tables: a compressed message without an agreed encoding is INTERNAL,
    one that is too large RESOURCE_EXHAUSTED.
    """
    if len(prefix) != PREFIX_BYTES:
        raise GRPCError(Status.INTERNAL, f"the head of a message is {len(prefix)} bytes, not {PREFIX_BYTES}")
    flag, size = _PREFIX.unpack(prefix)
    if flag:
        raise GRPCError(
            Status.INTERNAL, f"the message is marked {flag}: compressed messages were not agreed on"
        )
    if size > MESSAGE_LIMIT_BYTES:
        raise GRPCError(
            Status.RESOURCE_EXHAUSTED,
            f"a message of {size} bytes is above the limit of {MESSAGE_LIMIT_BYTES}: send it in parts",
        )
    return int(size)
