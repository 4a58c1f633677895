"""What a peer may not do with QUIC (RFC 9000) and its datagrams (RFC 9221), to a server of ours."""

import os
from collections.abc import Callable

from aioquic import tls
from aioquic.quic.packet import QuicFrameType, encode_quic_retry, encode_quic_version_negotiation

from nano.fabric.identity.credentials import DATAGRAM_FRAME_LIMIT
from tests.conformance.row import IGNORED, Row, connection
from tests.conformance.scene import OURS, WINDOWS, Scene, varint

_V = varint
_FRAME = QuicFrameType
_STREAM, _FIN, _LEN, _OFF = 0x08, 1, 2, 4

OURS_ALONE = 3
"""A stream on which only the server sends: its control stream."""

THEIRS_ALONE = 2
"""A stream on which only the client sends."""

NOT_OPENED = 1
"""A stream that only the server may open, and has not."""


def data(stream_id: int, offset: int, body: bytes, *, end: bool = False) -> bytes:
    """A STREAM frame."""
    kind = _STREAM | _OFF | _LEN | (_FIN if end else 0)
    return bytes([kind]) + _V(stream_id) + _V(offset) + _V(len(body)) + body


def frame(kind: int, *numbers: int) -> bytes:
    """A frame of variable-length integers."""
    return _V(kind) + b"".join(map(_V, numbers))


def new_connection_id(number: int, before: int, connection_id: bytes) -> bytes:
    head = frame(_FRAME.NEW_CONNECTION_ID, number, before)
    return head + bytes([len(connection_id)]) + connection_id + bytes(16)


def _sends(*packets: bytes) -> Callable[[], Scene]:
    """Say these payloads after the handshake, a packet each."""

    def act() -> Scene:
        scene = Scene().connected()
        for payload in packets:
            scene.frames(payload)
        return scene

    return act


def _early(payload: bytes, epoch: tls.Epoch) -> Callable[[], Scene]:
    """Say `payload` in an Initial or Handshake packet, once the server has the keys for it."""

    def act() -> Scene:
        scene = Scene().begin()
        for packet, _ in scene.liar.datagrams_to_send(now=scene.now):
            scene.deliver(packet)
        if epoch == tls.Epoch.HANDSHAKE:
            back, scene.out = scene.out, []
            for packet, _ in back:
                scene.liar.take(packet, OURS, scene.now)
        scene.frames(payload, epoch)
        return scene

    return act


ONLY_LATER = {
    "RESET_STREAM": frame(_FRAME.RESET_STREAM, 0, 0, 0),
    "STOP_SENDING": frame(_FRAME.STOP_SENDING, 0, 0),
    "NEW_TOKEN": _V(_FRAME.NEW_TOKEN) + _V(1) + b"x",
    "STREAM": data(0, 0, b"x"),
    "MAX_DATA": frame(_FRAME.MAX_DATA, 1),
    "MAX_STREAM_DATA": frame(_FRAME.MAX_STREAM_DATA, 0, 1),
    "MAX_STREAMS": frame(_FRAME.MAX_STREAMS_BIDI, 1),
    "DATA_BLOCKED": frame(_FRAME.DATA_BLOCKED, 1),
    "STREAM_DATA_BLOCKED": frame(_FRAME.STREAM_DATA_BLOCKED, 0, 1),
    "STREAMS_BLOCKED": frame(_FRAME.STREAMS_BLOCKED_BIDI, 1),
    "NEW_CONNECTION_ID": new_connection_id(1, 0, b"12345678"),
    "RETIRE_CONNECTION_ID": frame(_FRAME.RETIRE_CONNECTION_ID, 0),
    "PATH_CHALLENGE": _V(_FRAME.PATH_CHALLENGE) + bytes(8),
    "PATH_RESPONSE": _V(_FRAME.PATH_RESPONSE) + bytes(8),
    "CONNECTION_CLOSE of an application": frame(_FRAME.APPLICATION_CLOSE, 0, 0),
    "HANDSHAKE_DONE": frame(_FRAME.HANDSHAKE_DONE),
    "DATAGRAM": _V(_FRAME.DATAGRAM_WITH_LENGTH) + _V(1) + b"x",
}
"""Frames that may not stand in Initial or Handshake packets (RFC 9000, table 3; RFC 9221, 4)."""


def _packet_types() -> list[Row]:
    rows = []
    for epoch, packet in ((tls.Epoch.INITIAL, "Initial"), (tls.Epoch.HANDSHAKE, "Handshake")):
        rows += [
            Row(
                "RFC 9221, 4" if name == "DATAGRAM" else "RFC 9000, 12.4",
                f"sends {name} in a packet of type {packet}",
                connection("PROTOCOL_VIOLATION"),
                _early(payload, epoch),
            )
            for name, payload in ONLY_LATER.items()
        ]
    return rows


CUT = {
    "ACK": frame(_FRAME.ACK, 1, 0),
    "ACK with ECN counts": frame(_FRAME.ACK_ECN, 0, 0, 0, 0, 1),
    "RESET_STREAM": frame(_FRAME.RESET_STREAM, 0, 0),
    "STOP_SENDING": frame(_FRAME.STOP_SENDING, 0),
    "CRYPTO": frame(_FRAME.CRYPTO, 0, 9) + b"abc",
    "NEW_TOKEN": frame(_FRAME.NEW_TOKEN, 9) + b"abc",
    "STREAM": bytes([_STREAM | _LEN]) + _V(0) + _V(9) + b"abc",
    "MAX_DATA": frame(_FRAME.MAX_DATA),
    "MAX_STREAM_DATA": frame(_FRAME.MAX_STREAM_DATA, 0),
    "MAX_STREAMS": frame(_FRAME.MAX_STREAMS_UNI),
    "DATA_BLOCKED": frame(_FRAME.DATA_BLOCKED),
    "STREAM_DATA_BLOCKED": frame(_FRAME.STREAM_DATA_BLOCKED, 0),
    "STREAMS_BLOCKED": frame(_FRAME.STREAMS_BLOCKED_UNI),
    "NEW_CONNECTION_ID": new_connection_id(1, 0, b"12345678")[:-1],
    "RETIRE_CONNECTION_ID": frame(_FRAME.RETIRE_CONNECTION_ID),
    "PATH_CHALLENGE": _V(_FRAME.PATH_CHALLENGE) + bytes(7),
    "PATH_RESPONSE": _V(_FRAME.PATH_RESPONSE) + bytes(7),
    "CONNECTION_CLOSE": frame(_FRAME.TRANSPORT_CLOSE, 0, 0, 9) + b"abc",
    "DATAGRAM": frame(_FRAME.DATAGRAM_WITH_LENGTH, 9) + b"abc",
}
"""Frames that end before they should."""


def _cut_frames() -> list[Row]:
    return [
        Row(
            "RFC 9221, 4" if name == "DATAGRAM" else "RFC 9000, 12.4",
            f"ends the packet in the middle of {name}",
            connection("FRAME_ENCODING_ERROR"),
            _sends(payload),
        )
        for name, payload in CUT.items()
    ]


def _framing() -> list[Row]:
    return [
        Row(
            "RFC 9000, 12.4",
            "sends a frame of a type that was not agreed on",
            connection("FRAME_ENCODING_ERROR"),
            _sends(_V(0x21) + b"x"),
        ),
        Row(
            "RFC 9000, 12.4",
            "ends the packet in the middle of a frame's type",
            connection("FRAME_ENCODING_ERROR"),
            _sends(b"\x01\x40"),
        ),
        Row(
            "RFC 9000, 12.4",
            "sends a packet without a frame",
            connection("PROTOCOL_VIOLATION"),
            _sends(b""),
        ),
        Row(
            "RFC 9000, 17.3.1",
            "sets a reserved bit in a short header",
            connection("PROTOCOL_VIOLATION"),
            _reserved(tls.Epoch.ONE_RTT, 0x08),
        ),
        Row(
            "RFC 9000, 17.2",
            "sets a reserved bit in a long header",
            connection("PROTOCOL_VIOLATION"),
            _reserved(tls.Epoch.INITIAL, 0x04),
        ),
        Row(
            "RFC 9000, 17.2.2",
            "begins with an Initial packet that has no CRYPTO frame",
            connection("PROTOCOL_VIOLATION"),
            _first(b"\x01" + bytes(1150)),
        ),
        Row(
            "RFC 9000, 14.1",
            "begins with a datagram below 1200 bytes",
            ("no answer",),
            _silent(_short_initial),
        ),
        Row("RFC 9000, 12.3", "repeats a packet", IGNORED, _repeats),
        Row("RFC 9000, 5.2", "sends a packet for a connection id that was never given", IGNORED, _elsewhere),
        Row("RFC 9001, 5.5", "sends a packet whose seal is broken", IGNORED, _unsealed),
        Row("RFC 9000, 17.2.5", "sends Retry, as only a server may", IGNORED, _retries),
        Row("RFC 9000, 6.1", "sends Version Negotiation, as only a server may", IGNORED, _negotiates),
        Row(
            "RFC 9000, 8.1",
            "forges its address, and never answers",
            ("3 times what it sent at most",),
            _forges,
        ),
    ]


def _reserved(epoch: tls.Epoch, bits: int) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene()
        if epoch == tls.Epoch.ONE_RTT:
            scene.connected().frames(b"\x01", reserved=bits)
            return scene
        scene.begin()
        for packet, _ in scene.liar.datagrams_to_send(now=scene.now):
            scene.deliver(packet)
        scene.frames(b"\x01", epoch, reserved=bits)
        return scene

    return act


def _first(payload: bytes) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().begin()
        scene.deliver(scene.liar.seal(payload, tls.Epoch.INITIAL).ljust(1200, b"\0"))
        for packet, _ in scene.out:
            scene.liar.take(packet, OURS, scene.now)
        return scene

    return act


def _silent(datagram: Callable[[Scene], bytes]) -> Callable[[], str]:
    def act() -> str:
        scene = Scene().begin()
        scene.deliver(datagram(scene))
        answered = bool(scene.out)
        scene.close()
        return "an answer" if answered else "no answer"

    return act


def _short_initial(scene: Scene) -> bytes:
    return scene.liar.seal(frame(_FRAME.CRYPTO, 0, 4) + b"\x01\0\0\0", tls.Epoch.INITIAL)


def _repeats() -> Scene:
    scene = Scene().connected()
    packet = scene.liar.seal(data(0, 0, scene.headers((b":method", b"GET"))[:1]))
    for _ in range(3):
        scene.deliver(packet)
    return scene


def _elsewhere() -> Scene:
    scene = Scene().connected()
    scene.deliver(scene.liar.seal(b"\x01", destination=b"nobodys1"))
    return scene


def _unsealed() -> Scene:
    scene = Scene().connected()
    packet = scene.liar.seal(b"\x1c\x00\x00\x00")
    scene.deliver(packet[:-1] + bytes([packet[-1] ^ 1]))
    return scene


def _retries() -> Scene:
    scene = Scene().connected()
    scene.deliver(
        encode_quic_retry(
            version=1,
            source_cid=scene.liar.host_cid,
            destination_cid=scene.quic.host_cid,
            original_destination_cid=scene.liar.original_destination_connection_id,
            retry_token=b"token",
        )
    )
    return scene


def _negotiates() -> Scene:
    scene = Scene().connected()
    scene.deliver(encode_quic_version_negotiation(scene.liar.host_cid, scene.quic.host_cid, [0x1A2A3A4A]))
    return scene


def _forges() -> str:
    scene = Scene().begin()
    for packet, _ in scene.liar.datagrams_to_send(now=scene.now):
        scene.deliver(packet)
    for _ in range(40):  # its timers run: nothing may be sent again beyond the limit
        scene.now += 1.0
        scene.quic.handle_timer(now=scene.now)
        scene.link._transmit()
    scene.close()
    within = 0 < scene.passed_out <= 3 * scene.passed_in
    return "3 times what it sent at most" if within else f"{scene.passed_out} bytes for {scene.passed_in}"


def _streams() -> list[Row]:
    wrong = {
        "STREAM": data(OURS_ALONE, 0, b"x"),
        "RESET_STREAM": frame(_FRAME.RESET_STREAM, OURS_ALONE, 0, 0),
        "STREAM_DATA_BLOCKED": frame(_FRAME.STREAM_DATA_BLOCKED, OURS_ALONE, 0),
    }
    rows = [
        Row(
            "RFC 9000, 19",
            f"sends {name} for a stream on which only we send",
            connection("STREAM_STATE_ERROR"),
            _sends(payload),
        )
        for name, payload in wrong.items()
    ]
    wrong = {
        "STOP_SENDING": frame(_FRAME.STOP_SENDING, THEIRS_ALONE, 0),
        "MAX_STREAM_DATA": frame(_FRAME.MAX_STREAM_DATA, THEIRS_ALONE, 1),
    }
    rows += [
        Row(
            "RFC 9000, 19",
            f"sends {name} for a stream on which only it sends",
            connection("STREAM_STATE_ERROR"),
            _sends(payload),
        )
        for name, payload in wrong.items()
    ]
    wrong = {
        "STREAM": data(NOT_OPENED, 0, b"x"),
        "RESET_STREAM": frame(_FRAME.RESET_STREAM, NOT_OPENED, 0, 0),
        "STOP_SENDING": frame(_FRAME.STOP_SENDING, NOT_OPENED, 0),
        "MAX_STREAM_DATA": frame(_FRAME.MAX_STREAM_DATA, NOT_OPENED, 1),
        "STREAM_DATA_BLOCKED": frame(_FRAME.STREAM_DATA_BLOCKED, NOT_OPENED, 1),
    }
    rows += [
        Row(
            "RFC 9000, 19",
            f"sends {name} for a stream of ours that we have not opened",
            connection("STREAM_STATE_ERROR"),
            _sends(payload),
        )
        for name, payload in wrong.items()
    ]
    beyond = WINDOWS.streams * 4
    wrong = {
        "STREAM": data(beyond, 0, b"x"),
        "STREAM (one direction)": data(128 * 4 + 2, 0, b"x"),
        "RESET_STREAM": frame(_FRAME.RESET_STREAM, beyond, 0, 0),
        "STOP_SENDING": frame(_FRAME.STOP_SENDING, beyond, 0),
        "MAX_STREAM_DATA": frame(_FRAME.MAX_STREAM_DATA, beyond, 1),
        "STREAM_DATA_BLOCKED": frame(_FRAME.STREAM_DATA_BLOCKED, beyond, 1),
    }
    rows += [
        Row(
            "RFC 9000, 4.6",
            f"opens more streams than we allow, with {name}",
            connection("STREAM_LIMIT_ERROR"),
            _sends(payload),
        )
        for name, payload in wrong.items()
    ]
    return rows


def _flow() -> list[Row]:
    window = WINDOWS.stream_bytes
    full = window - 1
    first, second, third = 8, 12, 16
    flow, final = connection("FLOW_CONTROL_ERROR"), connection("FINAL_SIZE_ERROR")
    encoding = connection("FRAME_ENCODING_ERROR", "FLOW_CONTROL_ERROR")
    end, more = data(8, 0, b"\x21\x01x", end=True), data(8, 0, b"\x21\x04wxyz")
    reset = frame(_FRAME.RESET_STREAM, 8, 0, 3)
    return [
        Row("RFC 9000, 4.1", "sends beyond the window of a stream", flow, _sends(data(8, window, b"x"))),
        Row(
            "RFC 9000, 4.1",
            "sends beyond the window of the connection",
            flow,
            _sends(data(first, full, b"x"), data(second, full, b"x"), data(third, full, b"x")),
        ),
        Row(
            "RFC 9000, 4.5",
            "resets a stream at a final size beyond its window",
            flow,
            _sends(frame(_FRAME.RESET_STREAM, 8, 0, window + 1)),
        ),
        Row(
            "RFC 9000, 4.5",
            "resets streams at final sizes beyond the window of the connection",
            flow,
            _sends(b"".join(frame(_FRAME.RESET_STREAM, each, 0, window) for each in (8, 12, 16))),
        ),
        Row(
            "RFC 9000, 19.8",
            "sends STREAM whose end is beyond 2^62 - 1",
            encoding,
            _sends(data(8, 2**62 - 1, b"x")),
        ),
        Row(
            "RFC 9000, 19.6",
            "sends CRYPTO whose end is beyond 2^62 - 1",
            connection("FRAME_ENCODING_ERROR", "CRYPTO_BUFFER_EXCEEDED"),
            _sends(frame(_FRAME.CRYPTO, 2**62 - 1, 1) + b"x"),
        ),
        Row(
            "RFC 9000, 7.5",
            "sends CRYPTO far beyond what was read",
            connection("CRYPTO_BUFFER_EXCEEDED"),
            _sends(frame(_FRAME.CRYPTO, 2**20, 1) + b"x"),
        ),
        Row("RFC 9000, 4.5", "sends beyond the end of a stream", final, _sends(end, data(8, 3, b"d"))),
        Row(
            "RFC 9000, 4.5", "moves the end of a stream back", final, _sends(more, data(8, 0, b"a", end=True))
        ),
        Row(
            "RFC 9000, 4.5",
            "moves the end of a stream forward",
            final,
            _sends(data(8, 2, b"c", end=True), data(8, 3, b"d", end=True)),
        ),
        Row(
            "RFC 9000, 4.5",
            "resets a stream below what it sent on it",
            final,
            _sends(more, frame(_FRAME.RESET_STREAM, 8, 0, 3)),
        ),
        Row(
            "RFC 9000, 4.5",
            "resets a stream at another size than its end",
            final,
            _sends(data(8, 2, b"c", end=True), frame(_FRAME.RESET_STREAM, 8, 0, 9)),
        ),
        Row(
            "RFC 9000, 4.5", "sends beyond the final size of a reset", final, _sends(reset, data(8, 3, b"d"))
        ),
        Row(
            "RFC 9000, 4.5",
            "resets twice, at two sizes",
            final,
            _sends(reset, frame(_FRAME.RESET_STREAM, 8, 0, 4)),
        ),
        Row("RFC 9000, 4.1", "takes back room with MAX_DATA", IGNORED, _sends(frame(_FRAME.MAX_DATA, 1))),
        Row(
            "RFC 9000, 4.6",
            "takes back streams with MAX_STREAMS",
            IGNORED,
            _sends(frame(_FRAME.MAX_STREAMS_BIDI, 0)),
        ),
        *(
            Row(
                "RFC 9000, 19.11" if "MAX" in kind.name else "RFC 9000, 19.14",
                f"sends {kind.name} above 2^60",
                connection("FRAME_ENCODING_ERROR", "STREAM_LIMIT_ERROR"),
                _sends(frame(kind, 2**60 + 1)),
            )
            for kind in (
                _FRAME.MAX_STREAMS_BIDI,
                _FRAME.MAX_STREAMS_UNI,
                _FRAME.STREAMS_BLOCKED_BIDI,
                _FRAME.STREAMS_BLOCKED_UNI,
            )
        ),
    ]


def _acknowledgements() -> list[Row]:
    return [
        Row(
            "RFC 9000, 19.3.1",
            "acknowledges packet numbers below zero in the first range",
            connection("FRAME_ENCODING_ERROR"),
            _sends(frame(_FRAME.ACK, 1, 0, 0, 5)),
        ),
        Row(
            "RFC 9000, 19.3.1",
            "acknowledges packet numbers below zero in a later range",
            connection("FRAME_ENCODING_ERROR"),
            _sends(frame(_FRAME.ACK, 2, 0, 1, 0, 5, 0)),
        ),
        Row(
            "RFC 9000, 13.1",
            "acknowledges packets that were never sent",
            connection("PROTOCOL_VIOLATION"),
            _sends(frame(_FRAME.ACK, 100_000, 0, 0, 0)),
        ),
    ]


def _connection_ids() -> list[Row]:
    def many(count: int, before: int = 0) -> list[bytes]:
        return [new_connection_id(n, before and n, os.urandom(8)) for n in range(20, 20 + count)]

    same = new_connection_id(9, 7, b"12345678")
    return [
        *(
            Row(
                "RFC 9000, 19.15",
                f"sends NEW_CONNECTION_ID of {length} bytes",
                connection("FRAME_ENCODING_ERROR"),
                _sends(new_connection_id(9, 0, bytes(length))),
            )
            for length in (0, 21)
        ),
        Row(
            "RFC 9000, 19.15",
            "sends NEW_CONNECTION_ID that retires beyond its own number",
            connection("FRAME_ENCODING_ERROR"),
            _sends(new_connection_id(9, 10, b"12345678")),
        ),
        Row(
            "RFC 9000, 5.1.1",
            "gives more connection ids than we take",
            connection("CONNECTION_ID_LIMIT_ERROR"),
            _sends(*many(9)),
        ),
        Row(
            "RFC 9000, 5.1.2",
            "has us retire connection ids faster than we can say so",
            connection("CONNECTION_ID_LIMIT_ERROR"),
            _sends(b"".join(many(40, before=1))),
        ),
        Row("RFC 9000, 19.15", "repeats a NEW_CONNECTION_ID", IGNORED, _sends(same + same)),
        Row(
            "RFC 9000, 19.15",
            "gives one number to two connection ids",
            (*IGNORED, *connection("PROTOCOL_VIOLATION")),
            _sends(same, new_connection_id(9, 7, b"87654321")),
        ),
        Row(
            "RFC 9000, 19.15",
            "gives a connection id that it has retired already",
            ("it is retired at once",),
            _retired_late,
        ),
        Row(
            "RFC 9000, 5.1.2",
            "retires the connection id in use and gives no other",
            connection("PROTOCOL_VIOLATION"),
            _retires_all,
        ),
        Row(
            "RFC 9000, 19.16",
            "retires a connection id that we never gave",
            connection("PROTOCOL_VIOLATION"),
            _sends(frame(_FRAME.RETIRE_CONNECTION_ID, 1000)),
        ),
        Row(
            "RFC 9000, 19.16",
            "retires the connection id that its packet is for",
            connection("PROTOCOL_VIOLATION"),
            _sends(frame(_FRAME.RETIRE_CONNECTION_ID, 0)),
        ),
    ]


def _retired_late() -> str:
    scene = Scene().connected()
    scene.frames(new_connection_id(20, 20, b"12345678"))
    scene.frames(new_connection_id(9, 3, b"87654321"))
    retired = 9 in scene.liar.retired
    scene.close()
    return "it is retired at once" if retired else "ignored"


def _retires_all() -> Scene:
    """Numbers used out of order leave none when the last but one is retired."""
    scene = Scene().connected()
    scene.quic._peer_cid_available.clear()
    scene.quic._peer_cid.sequence_number = 8
    scene.quic._peer_cid_sequence_numbers.add(9)
    scene.deliver(scene.liar.seal(new_connection_id(9, 9, b"12345678")))
    return scene


def _sides() -> list[Row]:
    return [
        Row(
            "RFC 9000, 19.7",
            "sends NEW_TOKEN, as only a server may",
            connection("PROTOCOL_VIOLATION"),
            _sends(_V(_FRAME.NEW_TOKEN) + _V(1) + b"x"),
        ),
        Row(
            "RFC 9000, 19.20",
            "sends HANDSHAKE_DONE, as only a server may",
            connection("PROTOCOL_VIOLATION"),
            _sends(frame(_FRAME.HANDSHAKE_DONE)),
        ),
        Row(
            "RFC 9000, 19.18",
            "answers a path challenge that was not made",
            IGNORED,
            _sends(_V(_FRAME.PATH_RESPONSE) + b"12345678"),
        ),
        Row(
            "RFC 9000, 9.3",
            "sends thousands of path challenges",
            IGNORED,
            _sends(*[(_V(_FRAME.PATH_CHALLENGE) + b"12345678") * 100] * 20),
        ),
        Row(
            "RFC 9221, 3",
            "sends a datagram that is larger than we offered",
            connection("PROTOCOL_VIOLATION"),
            _sends(_V(_FRAME.DATAGRAM_WITH_LENGTH) + _V(DATAGRAM_FRAME_LIMIT) + bytes(DATAGRAM_FRAME_LIMIT)),
        ),
        Row(
            "RFC 9000, 19.19",
            "closes with a reason that is no UTF-8",
            ("the link ends",),
            _closes(frame(_FRAME.APPLICATION_CLOSE, 0x100, 2) + b"\xff\xfe"),
        ),
    ]


def _closes(payload: bytes) -> Callable[[], str]:
    def act() -> str:
        scene = Scene().connected()
        scene.deliver(scene.liar.seal(payload))
        return "the link ends" if scene.link.error is not None and scene.link.graceful else "it goes on"

    return act


ROWS = [
    *_framing(),
    *_packet_types(),
    *_cut_frames(),
    *_streams(),
    *_flow(),
    *_acknowledgements(),
    *_connection_ids(),
    *_sides(),
]
