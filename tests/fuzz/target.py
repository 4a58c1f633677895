"""What is fuzzed: bytes in, and the promise that an answer comes out or an error that is documented.

A target raises only where that promise is broken. Its seeds are made by our own encoders, when they are asked
for; `found` are inputs that once broke it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

_SIZE = struct.Struct(">BH")


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    found: tuple[bytes, ...] = ()
    longest_bytes: int = 4096


def pieces(data: bytes) -> list[tuple[int, bytes]]:
    """Several pieces of one input, each with a byte that says what to do with it; the last may be short."""
    found = []
    while len(data) >= _SIZE.size:
        kind, size = _SIZE.unpack_from(data)
        found.append((kind, data[_SIZE.size : _SIZE.size + size]))
        data = data[_SIZE.size + size :]
    return found


def packed(*parts: tuple[int, bytes]) -> bytes:
    """The input that `pieces` reads as these."""
    return b"".join(_SIZE.pack(kind, len(part)) + part for kind, part in parts)
