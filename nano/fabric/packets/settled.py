"""What a connection lets go of once its handshake is confirmed: more than half of what an idle link weighs.

aioquic keeps for the life of a connection what only its first milliseconds need: three buffers of 16 KiB
for TLS messages, the key exchange, keys and packet numbers of two epochs that may never be used again. A
packet of theirs that comes late finds keys that open nothing, as before.
"""

import functools

import aioquic.quic.connection
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace

CONNECTION_IDS = 4
"""Ids that a peer may give us for itself: one in use, the others for its moves to another address."""

_ONE_RTT = tls.Epoch.ONE_RTT
_SPENT = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE)

_NO_KEYS = CryptoPair()
_NO_SPACE = QuicPacketSpace()
_NO_SPACE.discarded = True

_TICKETS_BYTES = 64
"""Nothing is written into it: what TLS says after the handshake, session tickets, we do not offer."""

# The same few sets for every connection, where aioquic makes thirty for each.
aioquic.quic.connection.EPOCHS = functools.cache(aioquic.quic.connection.EPOCHS)


def settle(connection: QuicConnection) -> None:
    """The handshake of `connection` is confirmed, and what the peer showed in it was looked at."""
    for epoch in (*_SPENT, tls.Epoch.ZERO_RTT):
        connection._cryptos[epoch] = _NO_KEYS
    for version in connection._cryptos_initial:
        connection._cryptos_initial[version] = _NO_KEYS
    for epoch in _SPENT:
        connection._spaces[epoch] = _NO_SPACE
    connection._loss.spaces = [connection._spaces[_ONE_RTT]]
    connection._crypto_streams = {_ONE_RTT: connection._crypto_streams[_ONE_RTT]}
    connection._crypto_buffers = {_ONE_RTT: Buffer(capacity=_TICKETS_BYTES)}
    _settle_tls(connection.tls)


def _settle_tls(context: tls.Context) -> None:
    context.key_schedule = None
    context._key_schedule_proxy = None
    context._ec_private_keys = []
    context._x25519_private_key = None
    context._x448_private_key = None
    context._peer_certificate_chain = []
    context.received_extensions = None
    context.handshake_extensions = []
