"""What strangers send who have no key: first packets, proper ones and noise that looks like some, and the
close of a connection that is not theirs."""

import os

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder

from nano.fabric.packets.quic import header_of

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


def forged_close(first: bytes, answer: bytes, alert: int) -> bytes:
    """As from the server: what TLS failed by, in a packet that whoever saw these two datagrams can seal."""
    asked, answered = header_of(first), header_of(answer)
    assert asked is not None
    assert answered is not None
    crypto = CryptoPair()
    crypto.setup_initial(asked.destination_cid, is_client=False, version=QuicProtocolVersion.VERSION_1)
    builder = QuicPacketBuilder(
        host_cid=answered.source_cid,
        peer_cid=asked.source_cid,
        version=QuicProtocolVersion.VERSION_1,
        is_client=False,
        max_datagram_size=1200,
        packet_number=50,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=64)
    for number in (0x100 + alert, QuicFrameType.CRYPTO, 0):
        frame.push_uint_var(number)
    (datagram,), _ = builder.flush()
    return datagram


def _noise() -> bytes:
    ids = b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    size = (0x4000 | _NOISE_BYTES).to_bytes(2, "big")
    return b"\xc3\x00\x00\x00\x01" + ids + b"\x00" + size + os.urandom(_NOISE_BYTES)
