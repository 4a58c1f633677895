"""First packets of strangers who will never answer: proper ones, and noise that looks like some."""

import os

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

_NOISE_BYTES = 1174


def first_packets(count: int) -> list[bytes]:
    """A sealed ClientHello of each."""
    packets: list[bytes] = []
    for _ in range(count):
        stranger = QuicConnection(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="scheduler")
        )
        stranger.connect(("127.0.0.1", 1), now=0.0)
        packets += [data for data, _ in stranger.datagrams_to_send(now=0.0)]
    return packets


def noise(count: int) -> list[bytes]:
    """The head of an Initial of QUIC 1 (RFC 9000, 17.2.2) with random ids, and random bytes behind it."""
    return [_noise() for _ in range(count)]


def _noise() -> bytes:
    ids = b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    size = (0x4000 | _NOISE_BYTES).to_bytes(2, "big")
    return b"\xc3\x00\x00\x00\x01" + ids + b"\x00" + size + os.urandom(_NOISE_BYTES)
