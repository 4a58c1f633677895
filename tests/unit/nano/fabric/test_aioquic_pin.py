"""What we override or call of aioquic's private parts is still what the files in `TOUCHING` were written for.

A failure names the functions that changed: read their differences, adapt the files, then write the new
digests here.
"""

import hashlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import aioquic._crypto
import aioquic.h3.connection
import aioquic.quic.congestion.base
import aioquic.quic.connection
import aioquic.quic.crypto
import aioquic.quic.packet
import aioquic.quic.packet_builder
import aioquic.quic.rangeset
import aioquic.quic.recovery
import aioquic.quic.stream
import aioquic.tls
import pytest

import nano.fabric
from nano.fabric.packets.quic import AIOQUIC_VERSION

CONNECTION = aioquic.quic.connection.QuicConnection
H3 = aioquic.h3.connection.H3Connection
SENDER = aioquic.quic.stream.QuicStreamSender
RECEIVER = aioquic.quic.stream.QuicStreamReceiver
BUILDER = aioquic.quic.packet_builder.QuicPacketBuilder

OWNERS = {
    "QuicConnection": CONNECTION,
    "H3Connection": H3,
    "H3Stream": aioquic.h3.connection.H3Stream,
    "QuicStreamSender": SENDER,
    "QuicStreamReceiver": RECEIVER,
    "QuicPacketBuilder": BUILDER,
    "Context": aioquic.tls.Context,
    "QuicPacketPacer": aioquic.quic.recovery.QuicPacketPacer,
    "QuicPacketRecovery": aioquic.quic.recovery.QuicPacketRecovery,
    "QuicPacketSpace": aioquic.quic.recovery.QuicPacketSpace,
    "QuicPacketNumberWindow": aioquic.quic.recovery.QuicPacketNumberWindow,
    "QuicCongestionControl": aioquic.quic.congestion.base.QuicCongestionControl,
    "CryptoContext": aioquic.quic.crypto.CryptoContext,
    "CryptoPair": aioquic.quic.crypto.CryptoPair,
    "HeaderProtection": aioquic._crypto.HeaderProtection,
    "RangeSet": aioquic.quic.rangeset.RangeSet,
    "crypto": aioquic.quic.crypto,
    "packet": aioquic.quic.packet,
}

TOUCHING = {"fast_path.py", "h3.py", "quic.py", "recovery.py", "settled.py"}

DIGESTS = {
    "Context.__init__": "bb8bb2f67ef5",
    "Context._client_handle_certificate_verify": "9e49d3f18f0b",
    "Context._client_handle_new_session_ticket": "af226f5dd1bd",
    "Context._server_handle_certificate": "8300245453e1",
    "Context._server_handle_hello": "ce53cc7baafe",
    "Context._set_peer_certificate": "beec9ba2af2e",
    "CryptoContext.__init__": "6d8315edce66",
    "CryptoContext.decrypt_packet": "fe94c52f762d",
    "CryptoContext.setup": "dbb765bc7c0b",
    "CryptoPair._update_key": "4dddcfabc635",
    "CryptoPair.decrypt_packet": "2d2c3a3bf129",
    "CryptoPair.encrypt_packet": "f244294823e4",
    "CryptoPair.key_phase": "e7a3f87d62e7",
    "H3Connection.__init__": "dd6af01c0d75",
    "H3Connection._check_content_length": "17ae3ef636c2",
    "H3Connection._check_control_frame_type": "0911d1bcb387",
    "H3Connection._check_request_or_push_frame_type": "c5c333619fec",
    "H3Connection._get_local_settings": "6d1ff1ffc258",
    "H3Connection._get_or_create_stream": "50d703ddbae7",
    "H3Connection._handle_control_frame": "2a362270311d",
    "H3Connection._handle_request_or_push_end": "3596ff550d8a",
    "H3Connection._handle_request_or_push_frame": "8cce022eb354",
    "H3Connection._init_connection": "5dbdb7d87fbc",
    "H3Connection._receive_request_or_push_data": "9d6a7ba4950b",
    "H3Connection._receive_stream_data_uni": "48efcd723438",
    "H3Connection._receive_stream_reset": "916dddd6b857",
    "H3Connection.handle_event": "244473969c52",
    "H3Stream.__init__": "29c9c865fae1",
    "HeaderProtection.__init__": "e48281f3a231",
    "HeaderProtection._mask": "3f222c114661",
    "QuicCongestionControl.__init__": "eb0f875dbf89",
    "QuicConnection.__init__": "81aea715e344",
    "QuicConnection._close_begin": "d8cdcfd45139",
    "QuicConnection._close_end": "7e32d95840a6",
    "QuicConnection._confirm_handshake": "ffec907008d1",
    "QuicConnection._discard_epoch": "124889133f0c",
    "QuicConnection._flush_builder": "ac4bd66d7c38",
    "QuicConnection._get_or_create_stream": "aee09c84cd0d",
    "QuicConnection._get_or_create_stream_for_send": "b68479a29862",
    "QuicConnection._handle_ack_frame": "a9cf2707aa0f",
    "QuicConnection._handle_connection_close_frame": "66f05d8258d1",
    "QuicConnection._handle_crypto_frame": "e77f8695d9ac",
    "QuicConnection._handle_datagram_frame": "38fb0c3c9f00",
    "QuicConnection._handle_new_connection_id_frame": "8a802ee5e62d",
    "QuicConnection._handle_reset_stream_frame": "0a1801842064",
    "QuicConnection._handle_stream_frame": "8c79348a854e",
    "QuicConnection._handshake_data_stranded": "691675aa1708",
    "QuicConnection._idle_timeout": "8549f45b0941",
    "QuicConnection._initialize": "6a41681e541c",
    "QuicConnection._on_max_stream_data_delivery": "76e906ea95ee",
    "QuicConnection._parse_transport_parameters": "0da95a03bd5b",
    "QuicConnection._payload_received": "612b67759a96",
    "QuicConnection._push_crypto_data": "9e47f4101032",
    "QuicConnection._replenish_connection_ids": "73b127efb89c",
    "QuicConnection._stream_is_discarded": "d4812b696802",
    "QuicConnection._stream_limit": "32d840c7ec07",
    "QuicConnection._write_ack_frame": "dc0bde63adda",
    "QuicConnection._write_application": "c37bf64378f7",
    "QuicConnection._write_connection_limits": "02c42c5455ae",
    "QuicConnection._write_datagram_frame": "ec62fd6f1ce2",
    "QuicConnection._write_reset_stream_frame": "72c28abb1c9b",
    "QuicConnection._write_stop_sending_frame": "057f50750f9f",
    "QuicConnection._write_stream_frame": "9bc0be962394",
    "QuicConnection._write_stream_limits": "398d4a898f7c",
    "QuicConnection.close": "f24ea1b2912e",
    "QuicConnection.datagrams_to_send": "f4eb22c8add2",
    "QuicConnection.get_timer": "07184a05f894",
    "QuicConnection.handle_timer": "8ebd76a179bf",
    "QuicConnection.receive_datagram": "3c7f29826050",
    "QuicConnection.request_key_update": "5f5b28385489",
    "QuicConnection.reset_stream": "f5a5e1ff5935",
    "QuicConnection.send_stream_data": "d10cbdd766b5",
    "QuicConnection.stop_stream": "c48810656a6b",
    "QuicPacketBuilder.__init__": "b321fb4eb8ac",
    "QuicPacketBuilder._end_packet": "585948d03825",
    "QuicPacketBuilder._flush_current_datagram": "e310004f68f5",
    "QuicPacketBuilder.flush": "b09066e03f93",
    "QuicPacketBuilder.start_frame": "53af20167bc2",
    "QuicPacketBuilder.start_packet": "63a59deba361",
    "QuicPacketNumberWindow.__init__": "9f22203cefc4",
    "QuicPacketNumberWindow.add": "214572547bed",
    "QuicPacketPacer.next_send_time": "292b9964362e",
    "QuicPacketPacer.update_after_send": "45868b0afc09",
    "QuicPacketPacer.update_bucket": "a0ddbc96c1e5",
    "QuicPacketPacer.update_rate": "ec763995d360",
    "QuicPacketRecovery.__init__": "11dd9eddeac7",
    "QuicPacketRecovery._detect_loss": "56e5a246bb22",
    "QuicPacketRecovery._in_persistent_congestion": "6c04346ace9e",
    "QuicPacketRecovery._on_packets_lost": "77a0ba759513",
    "QuicPacketRecovery.discard_space": "764ad1d17869",
    "QuicPacketRecovery.get_loss_detection_time": "de155cb9bef9",
    "QuicPacketRecovery.get_probe_timeout": "782ca5036a10",
    "QuicPacketRecovery.on_ack_received": "1a7c69347908",
    "QuicPacketRecovery.on_loss_detection_timeout": "50d7fd652fe6",
    "QuicPacketRecovery.on_packet_sent": "a83baa6e0570",
    "QuicPacketRecovery.reschedule_data": "a012ca1263fb",
    "QuicPacketSpace.__init__": "e6fb34bdf2d5",
    "QuicStreamReceiver.__init__": "d7dd149186a6",
    "QuicStreamReceiver.handle_frame": "c54bce9f11e6",
    "QuicStreamReceiver.handle_reset": "3a2b7a53512a",
    "QuicStreamReceiver.starting_offset": "5499cbac7273",
    "QuicStreamSender.__init__": "a049a2be2f28",
    "QuicStreamSender.get_frame": "c9d68a424b94",
    "QuicStreamSender.next_offset": "234a09ac8562",
    "QuicStreamSender.on_data_delivery": "675e1c2812ea",
    "QuicStreamSender.reset": "76d86e366e8e",
    "QuicStreamSender.write": "77d188425093",
    "RangeSet.add": "409fdd202a29",
    "RangeSet.subtract": "790c2afeb0cb",
    "crypto.apply_key_phase": "f0cdd78e573a",
    "crypto.derive_key_iv_hp": "5fab01217299",
    "crypto.next_key_phase": "92c61aab180e",
    "packet.decode_packet_number": "4cfc0ae8620a",
}


def _digest(function: object) -> str:
    source = inspect.getsource(function)  # type: ignore[arg-type]
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aioquic") == AIOQUIC_VERSION


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_a_function_that_we_lean_on_has_not_changed(name: str) -> None:
    kind, _, method = name.partition(".")
    owner = OWNERS[kind]
    found = getattr(owner, method)
    function = found.fget if isinstance(found, property) else found
    assert _digest(function) == DIGESTS[name], f"aioquic changed {name}"


def test_private_parts_of_aioquic_are_touched_in_five_files_only() -> None:
    """Everywhere else a leading underscore after a dot belongs to `self`, or to grpclib's classes."""
    folder = Path(nano.fabric.__path__[0])
    private = re.compile(r"(?:quic|connection|_http|stream|endpoint|packet|tls)\._[a-z]\w*")
    found = {
        path.name: hits
        for path in folder.rglob("*.py")
        if path.name not in TOUCHING and (hits := private.findall(path.read_text()))
    }
    assert found == {}
