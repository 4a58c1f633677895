"""Frames of HTTP/3 that begin and end in what came (RFC 9114, 7.1): the ordinary case, read in one pass.

aioquic's parser is made for frames that come in pieces, and keeps its state for each stream. Nearly all calls
need none of it: their request, and their answer, is a few whole frames in one piece.
"""

from aioquic.buffer import encode_uint_var

Frame = tuple[int, bytes]
"""Type and payload."""

DATA, HEADERS = 0, 1


def whole_frames(data: bytes) -> list[Frame] | None:
    """The frames of `data`; None if the last is cut, or one is neither DATA nor HEADERS."""
    frames = []
    at, size = 0, len(data)
    while at < size:
        kind = data[at]
        if kind > HEADERS or at + 1 >= size:
            return None
        length, start = data[at + 1], at + 2
        if length >= 1 << 6:  # a variable-length integer (RFC 9000, 16): its size is in the first two bits
            start = at + 1 + (1 << (length >> 6))
            bits = 8 * (start - at - 1) - 2
            length = int.from_bytes(data[at + 1 : start], "big") & ((1 << bits) - 1)
        at = start + length
        if at > size:
            return None
        frames.append((kind, data[start:at]))
    return frames


def data_frame_head(size_bytes: int) -> bytes:
    """What stands before the payload of a DATA frame of `size_bytes` (RFC 9114, 7.2.1)."""
    return b"\x00" + encode_uint_var(size_bytes)
