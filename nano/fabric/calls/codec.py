"""Messages of the contracts to bytes and back, for grpclib."""

import struct
from typing import Any

from grpclib.encoding.base import CodecBase

from nano import wire
from nano.model.errors import Corrupt

_UNREADABLE = (
    EOFError,
    ValueError,  # UnicodeDecodeError is one
    OverflowError,
    TypeError,
    LookupError,
    RecursionError,
    AttributeError,
    struct.error,
)
"""What betterproto2's decoder was seen to raise on bytes that are no message."""


class MessageCodec(CodecBase):
    """betterproto2 messages; what cannot be read is `Corrupt`, whoever sent it.

    A field that is not of its type is `Invalid`: the decoder lets it through (transport facts, section 8).
    """

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        if not isinstance(message, message_type):
            expected, found = message_type.__name__, type(message).__name__
            raise TypeError(f"the method sends {expected}, its handler gave {found}")
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        try:
            return wire.checked(message_type.parse(data))
        except _UNREADABLE as error:
            raise Corrupt(f"{len(data)} bytes are no {message_type.__name__}: {error}") from error
