"""What a QUIC datagram of a link holds: one byte that says of which kind it is, then its content.

    0  sample: whatever the service makes of it
    1  pace: milliseconds, 4 bytes, most significant first. The side that dialled will ask each so often; the
       datagram is the asking itself, since it has to be acknowledged

A datagram of another kind is ignored: a later version may send some.
"""

import struct

from nano.model.errors import Corrupt

SAMPLE = b"\x00"
PACE = b"\x01"

_PACE = struct.Struct(">cI")


def pace(interval_s: float) -> bytes:
    """The datagram that asks, and tells how often it will."""
    return _PACE.pack(PACE, round(interval_s * 1000))


def interval_s(datagram: bytes) -> float:
    """What a datagram of kind pace tells, in seconds; `Corrupt` when it is not of that form."""
    try:
        _, milliseconds = _PACE.unpack(datagram)
    except struct.error as error:
        raise Corrupt(f"a pace of {len(datagram)} bytes: it has {_PACE.size}") from error
    return float(milliseconds) / 1000
