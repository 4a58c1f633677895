"""Sealing and opening batches of packets: AEAD and header protection of short headers (RFC 9001, 5).

One call makes as many packets as there is data for, or opens a whole train of them; what follows per packet
in Python is little. `PureKeys` does it on `cryptography`. `_sealing.c` does the same, several times as fast,
and is used when it was built (`./dev` does, where it can) unless NANO_PURE=1 is in the environment.

Only the AES suites, which is what two peers of ours agree on; a connection of another suite goes aioquic's
way.
"""

import os
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Opened = tuple[int, int, int, int, int, bool, bytes]
"""First byte, packet number, count, stream id, offset, whether the stream ends, data.

Count 0: the datagram could not be opened this way, `data` is all of it. Stream id -1: `data` is the payload
of one packet. Else: `count` packets in a row carried `data` of that stream from `offset` on, and nothing
else.
"""

TAG_BYTES = 16
NUMBER_BYTES = 2
"""Length of packet numbers as we send them, which is aioquic's."""

_SAMPLE_BYTES = 16
_ID_LIMIT = 20
_DATAGRAM_LIMIT = 16_383
_NONCE_BYTES = 12

_FORM, _FIXED, _RESERVED, _PHASE, _NUMBER_LENGTH, _PROTECTED = 0x80, 0x40, 0x18, 0x04, 0x03, 0x1F
_HALF = 0x8000
_STREAM, _STREAM_LAST, _HAS_OFFSET, _HAS_LENGTH, _FIN = 0x08, 0x0F, 4, 2, 1


class Keys(Protocol):
    """The keys of one direction and one key phase."""

    def seal(  # noqa: PLR0917 - called once for many packets, with what a packet consists of
        self,
        first_byte: int,
        connection_id: bytes,
        number: int,
        stream_id: int,
        offset: int,
        data: bytes | bytearray,
        start: int,
        stop: int,
        fin: bool,
        datagram_bytes: int,
        limit: int,
        /,
    ) -> list[tuple[bytes, int]]:
        """At most `limit` packets of `datagram_bytes` with `data[start:stop]`, which begins at `offset` of
        its stream; each with the offset behind what it carries. `fin`: the stream ends with that data."""
        ...

    def open(  # noqa: PLR0917
        self,
        train: bytes | memoryview,
        segment_bytes: int,
        connection_id: bytes,
        expected: int,
        largest: int,
        phase: int,
        /,
    ) -> list[Opened]:
        """What the datagrams in `train` carry, each `segment_bytes` long but for the last.

        Opened are packets to `connection_id` in this key `phase` that are newer than `largest`: no
        duplicates.
        """
        ...


MakeKeys = Callable[[bytes, bytes, bytes], Keys]
"""Of the packets' key, its iv, and the key of header protection."""


class PureKeys:
    """The twin in Python."""

    def __init__(self, key: bytes, iv: bytes, header_key: bytes) -> None:
        if len(iv) != _NONCE_BYTES or len(key) not in {16, 32} or len(key) != len(header_key):
            raise ValueError("keys of AES-GCM have 16 or 32 bytes, the same twice, and an iv of 12")
        aead = AESGCM(key)
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self._iv = int.from_bytes(iv, "big")
        # header protection is one block of AES for each packet (RFC 9001, 5.4.3), which is what ECB does
        self._mask = Cipher(algorithms.AES(header_key), modes.ECB()).encryptor().update  # noqa: S305

    def seal(  # noqa: PLR0917 - called once for many packets, with what a packet consists of
        self,
        first_byte: int,
        connection_id: bytes,
        number: int,
        stream_id: int,
        offset: int,
        data: bytes | bytearray,
        start: int,
        stop: int,
        fin: bool,
        datagram_bytes: int,
        limit: int,
        /,
    ) -> list[tuple[bytes, int]]:
        if (
            start < 0
            or stop > len(data)
            or datagram_bytes > _DATAGRAM_LIMIT
            or len(connection_id) > _ID_LIMIT
        ):
            raise ValueError("the data, the datagram or the connection id is out of bounds")
        iv, encrypt, mask_of = self._iv, self._encrypt, self._mask
        head = bytes((first_byte,)) + connection_id
        stream = varint(stream_id)
        room = datagram_bytes - len(head) - NUMBER_BYTES - TAG_BYTES - 3 - len(stream)
        packets: list[tuple[bytes, int]] = []
        with memoryview(data) as view:
            while start < stop and len(packets) < limit:
                place = varint(offset) if offset else b""
                size = min(room - len(place), stop - start)
                if size <= 0:
                    break
                kind = _STREAM | _HAS_LENGTH | (_HAS_OFFSET if place else 0)
                if fin and start + size == stop:
                    kind |= _FIN
                header = head + (number & 0xFFFF).to_bytes(NUMBER_BYTES, "big")
                sealed = encrypt(
                    (iv ^ number).to_bytes(_NONCE_BYTES, "big"),
                    b"".join(
                        (
                            bytes((kind,)),
                            stream,
                            place,
                            (size | 0x4000).to_bytes(2, "big"),
                            view[start : start + size],
                        )
                    ),
                    header,
                )
                mask = mask_of(sealed[2:18])
                covered = bytes((header[-2] ^ mask[1], header[-1] ^ mask[2]))
                start += size
                offset += size
                number += 1
                packet = b"".join(
                    (bytes((first_byte ^ (mask[0] & _PROTECTED),)), connection_id, covered, sealed)
                )
                packets.append((packet, offset))
        return packets

    def open(  # noqa: PLR0917
        self,
        train: bytes | memoryview,
        segment_bytes: int,
        connection_id: bytes,
        expected: int,
        largest: int,
        phase: int,
        /,
    ) -> list[Opened]:
        if segment_bytes < 1 or len(connection_id) > _ID_LIMIT:
            raise ValueError("the segment or the connection id is out of bounds")
        opened: list[Opened] = []
        run: list[bytes] = []
        run_first = run_number = run_stream = run_offset = run_end = 0
        run_fin = False

        def finish() -> None:
            if run:
                found = (run_first, run_number, len(run), run_stream, run_offset, run_fin, b"".join(run))
                opened.append(found)
                run.clear()

        for at in range(0, len(train), segment_bytes):
            packet = bytes(train[at : at + segment_bytes])
            plain = self._open_one(packet, connection_id, phase, expected, largest)
            if plain is None:
                finish()
                opened.append((0, 0, 0, -1, 0, False, packet))
                continue
            first, number, payload = plain
            largest = number
            if number > expected:
                expected = number + 1
            frame = only_stream(payload)
            if frame is None:
                finish()
                opened.append((first, number, 1, -1, 0, False, payload))
                continue
            stream_id, offset, begin = frame
            follows = run and stream_id == run_stream and offset == run_end and not run_fin
            if not follows or number != run_number + len(run):
                finish()
                run_number, run_stream, run_offset, run_end = number, stream_id, offset, offset
            data = payload[begin:]
            run.append(data)
            run_end += len(data)
            run_fin = bool(payload[0] & _FIN)
            run_first = first
        finish()
        return opened

    def _open_one(
        self, packet: bytes, connection_id: bytes, phase: int, expected: int, largest: int
    ) -> tuple[int, int, bytes] | None:
        """First byte, number and payload of a packet; None when it is not for this way."""
        at = 1 + len(connection_id)
        begin = at + NUMBER_BYTES
        if len(packet) < at + 4 + _SAMPLE_BYTES or len(packet) <= begin + TAG_BYTES:
            return None
        if packet[0] & (_FORM | _FIXED) != _FIXED or packet[1:at] != connection_id:
            return None
        mask = self._mask(packet[at + 4 : at + 4 + _SAMPLE_BYTES])
        first = packet[0] ^ (mask[0] & _PROTECTED)
        if (
            first & _RESERVED
            or bool(first & _PHASE) != bool(phase)
            or first & _NUMBER_LENGTH != NUMBER_BYTES - 1
        ):
            return None
        high, low = packet[at] ^ mask[1], packet[at + 1] ^ mask[2]
        number = nearest(high << 8 | low, expected)
        if number <= largest:
            return None
        header = bytes((first,)) + connection_id + bytes((high, low))
        nonce = (self._iv ^ number).to_bytes(_NONCE_BYTES, "big")
        try:
            return first, number, self._decrypt(nonce, packet[begin:], header)
        except InvalidTag:
            return None


def nearest(truncated: int, expected: int) -> int:
    """The packet number that ends in these two bytes and is nearest to the expected one (RFC 9000, A.3)."""
    number = expected & ~0xFFFF | truncated
    if number <= expected - _HALF:
        return number + 2 * _HALF
    if number > expected + _HALF and number >= 2 * _HALF:
        return number - 2 * _HALF
    return number


def only_stream(payload: bytes) -> tuple[int, int, int] | None:
    """Stream id, offset, and where data begins, of a payload that is one STREAM frame with a length and some
    data, and nothing behind it; None for any other."""
    kind = payload[0]
    if not _STREAM <= kind <= _STREAM_LAST or not kind & _HAS_LENGTH:
        return None
    try:
        stream_id, at = take_varint(payload, 1)
        offset, at = take_varint(payload, at) if kind & _HAS_OFFSET else (0, at)
        size, at = take_varint(payload, at)
    except IndexError:
        return None
    return (stream_id, offset, at) if size and size == len(payload) - at else None


def varint(value: int) -> bytes:
    """RFC 9000, 16."""
    if value < 1 << 6:
        return bytes((value,))
    if value < 1 << 14:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 1 << 30:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def varint_bytes(value: int) -> int:
    """How long `varint` makes it."""
    return 1 if value < 1 << 6 else 2 if value < 1 << 14 else 4 if value < 1 << 30 else 8


def take_varint(data: bytes, at: int) -> tuple[int, int]:
    """The value at `at` and where it ends; IndexError when that is behind the data."""
    head = data[at]
    size = 1 << (head >> 6)
    if size == 1:
        return head, at + 1
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def _choose() -> MakeKeys:
    if os.environ.get("NANO_PURE") != "1":
        try:
            from nano.fabric.packets import _sealing  # noqa: PLC0415 - it may not have been built
        except ImportError:
            return PureKeys
        return _sealing.Keys
    return PureKeys


make_keys: MakeKeys = _choose()
"""What connections of this process use."""
