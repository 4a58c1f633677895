"""A sign of life that a busy process can give: a short packet outside of QUIC, proven by a shared secret.

While its event loop is held up, a process can seal no packet of QUIC. So each end of a link tells the other,
on the link, an id and a key in a datagram of kind busy (`datagrams.py`). What it sends from a thread while
the loop is held up (`heart.py`) is

    0x21 | id, 8 bytes | count, 4 bytes, most significant first | proof, 16 bytes

where the proof is the first half of HMAC-SHA-256 with that key over all that stands before it. The first byte
tells it from every packet of QUIC, whose second bit is set (RFC 9000, 17). A count is good once, so nobody
who overheard one can keep a dead peer alive.
"""

import hashlib
import hmac
import os
import struct

FIRST_BYTE = b"\x21"
ID_BYTES = 8
KEY_BYTES = 16

_HEAD = struct.Struct(">c8sI")
_PROOF_BYTES = 16


class Busy:
    """What one end of a link needs to say that it is busy. Used by one thread at a time."""

    def __init__(self) -> None:
        self.secret = os.urandom(ID_BYTES + KEY_BYTES)
        """Id and key, as the other end has to know them."""
        self._count = 0

    def sign(self) -> bytes:
        """The next sign."""
        self._count += 1
        head = _HEAD.pack(FIRST_BYTE, self.secret[:ID_BYTES], self._count)
        return head + _proof(self.secret[ID_BYTES:], head)


class BusyPeer:
    """What the other end has told, to know its signs by."""

    def __init__(self, secret: bytes) -> None:
        self.id = secret[:ID_BYTES]
        self._key = secret[ID_BYTES:]
        self._count = 0

    def proves(self, sign: bytes) -> bool:
        """Whether `sign` is a new one of this peer."""
        if len(sign) != _HEAD.size + _PROOF_BYTES:
            return False
        head = sign[: _HEAD.size]
        first, own_id, count = _HEAD.unpack(head)
        if first != FIRST_BYTE or own_id != self.id or count <= self._count:
            return False
        if not hmac.compare_digest(_proof(self._key, head), sign[_HEAD.size :]):
            return False
        self._count = count
        return True


def id_of(sign: bytes) -> bytes:
    """Whose sign this is, if it is one."""
    return sign[1 : 1 + ID_BYTES]


def _proof(key: bytes, head: bytes) -> bytes:
    return hmac.digest(key, head, hashlib.sha256)[:_PROOF_BYTES]
