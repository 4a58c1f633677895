"""What a peer may not do in the handshake: transport parameters (RFC 9000, 18.2) and TLS (RFC 9001)."""

from collections.abc import Callable

from aioquic import tls
from aioquic.quic.packet import QuicFrameType, QuicProtocolVersion

from tests.conformance.quic_rows import frame
from tests.conformance.row import IGNORED, Row, connection
from tests.conformance.scene import OURS, Parameters, Scene, hand_over, varint

_OTHER_NAME = "aioquic names TLS's alert for what QUIC has a code of its own for; the link ends either way"
_WRONG = connection("TRANSPORT_PARAMETER_ERROR")

ORIGINAL_ID, RESET_TOKEN, UDP_PAYLOAD, STREAMS_BIDI, STREAMS_UNI = 0x00, 0x02, 0x03, 0x08, 0x09
ACK_EXPONENT, ACK_DELAY, NO_MIGRATION, PREFERRED, ID_LIMIT = 0x0A, 0x0B, 0x0C, 0x0D, 0x0E
SOURCE_ID, RETRY_ID, VERSIONS = 0x0F, 0x10, 0x11


def with_parameter(number: int, value: bytes) -> Callable[[Parameters], Parameters]:
    return lambda known: [*((n, v) for n, v in known if n != number), (number, value)]


def without_parameter(number: int) -> Callable[[Parameters], Parameters]:
    return lambda known: [(n, v) for n, v in known if n != number]


def _twice(known: Parameters) -> Parameters:
    return [*known, known[0]]


def _shakes(*, server: bool = True, **how: object) -> Callable[[], Scene]:
    return lambda: Scene(server=server, **how).connected()  # type: ignore[arg-type]


def _parameters() -> list[Row]:
    of_server = {
        "original_destination_connection_id": with_parameter(ORIGINAL_ID, b"12345678"),
        "stateless_reset_token": with_parameter(RESET_TOKEN, bytes(16)),
        "preferred_address": with_parameter(PREFERRED, bytes(24) + b"\x08" + bytes(8) + bytes(16)),
        "retry_source_connection_id": with_parameter(RETRY_ID, b"12345678"),
    }
    values = {
        "max_udp_payload_size below 1200": with_parameter(UDP_PAYLOAD, varint(1199)),
        "initial_max_streams_bidi above 2^60": with_parameter(STREAMS_BIDI, varint(2**60 + 1)),
        "initial_max_streams_uni above 2^60": with_parameter(STREAMS_UNI, varint(2**60 + 1)),
        "ack_delay_exponent above 20": with_parameter(ACK_EXPONENT, varint(21)),
        "max_ack_delay of 2^14 or more": with_parameter(ACK_DELAY, varint(2**14)),
        "active_connection_id_limit below 2": with_parameter(ID_LIMIT, varint(1)),
        "a number longer than its length": with_parameter(UDP_PAYLOAD, varint(1500) + b"x"),
        "disable_active_migration with a value": with_parameter(NO_MIGRATION, b"x"),
    }
    return [
        *(
            Row("RFC 9000, 18.2", f"sends {name}, as only a server may", _WRONG, _shakes(parameters=edit))
            for name, edit in of_server.items()
        ),
        *(
            Row("RFC 9000, 18.2", f"sends {name}", _WRONG, _shakes(parameters=edit))
            for name, edit in values.items()
        ),
        Row("RFC 9000, 7.4", "sends a transport parameter twice", _WRONG, _shakes(parameters=_twice)),
        Row(
            "RFC 9000, 7.4.2",
            "sends a transport parameter that nobody knows",
            IGNORED,
            _shakes(parameters=with_parameter(0x3F1F, b"grease")),
        ),
        Row(
            "RFC 9000, 7.3",
            "names another initial_source_connection_id than its packets have",
            _WRONG,
            _shakes(parameters=with_parameter(SOURCE_ID, b"12345678")),
        ),
        Row(
            "RFC 9000, 7.3",
            "names no initial_source_connection_id",
            connection("TRANSPORT_PARAMETER_ERROR", "PROTOCOL_VIOLATION"),
            _shakes(parameters=without_parameter(SOURCE_ID)),
        ),
        Row(
            "RFC 9368, 4",
            "offers version 0",
            _WRONG,
            _shakes(parameters=with_parameter(VERSIONS, bytes(8))),
        ),
        Row(
            "RFC 9368, 4",
            "chooses another version than its packets have",
            connection("VERSION_NEGOTIATION_ERROR"),
            _shakes(
                parameters=with_parameter(VERSIONS, QuicProtocolVersion.VERSION_2.to_bytes(4, "big") * 2)
            ),
        ),
        Row(
            "RFC 9368, 4",
            "chooses a version that it does not offer",
            _WRONG,
            _shakes(
                parameters=with_parameter(
                    VERSIONS,
                    b"".join(
                        version.to_bytes(4, "big")
                        for version in (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
                    ),
                )
            ),
        ),
    ]


def _as_server() -> list[Row]:
    """The same, where we dialled and a server does it."""
    return [
        Row(
            "RFC 9000, 7.3",
            "as a server, names another original_destination_connection_id",
            _WRONG,
            _shakes(server=False, parameters=with_parameter(ORIGINAL_ID, b"12345678")),
        ),
        Row(
            "RFC 9000, 7.3",
            "as a server, names no original_destination_connection_id",
            connection("TRANSPORT_PARAMETER_ERROR", "PROTOCOL_VIOLATION"),
            _shakes(server=False, parameters=without_parameter(ORIGINAL_ID)),
        ),
        Row(
            "RFC 9000, 7.3",
            "as a server, names a retry_source_connection_id without having sent Retry",
            connection("TRANSPORT_PARAMETER_ERROR", "PROTOCOL_VIOLATION"),
            _shakes(server=False, parameters=with_parameter(RETRY_ID, b"12345678")),
        ),
        Row(
            "RFC 9000, 18.2",
            "as a server, sends a preferred_address with an empty connection id",
            _WRONG,
            _shakes(server=False, parameters=with_parameter(PREFERRED, bytes(24) + b"\0" + bytes(16))),
        ),
        Row(
            "RFC 9000, 18.2",
            "as a server, sends a stateless_reset_token that is not 16 bytes",
            _WRONG,
            _shakes(server=False, parameters=with_parameter(RESET_TOKEN, bytes(15))),
        ),
        Row(
            "RFC 9000, 19.7",
            "as a server, sends NEW_TOKEN with no token",
            connection("FRAME_ENCODING_ERROR"),
            _tells_client(varint(QuicFrameType.NEW_TOKEN) + b"\0"),
            instead="ignored",
            deviates="we use no tokens of that kind, so none is looked at",
        ),
        Row(
            "RFC 9000, 17.2.2",
            "as a server, puts a token into an Initial packet",
            (*IGNORED, *connection("PROTOCOL_VIOLATION")),
            _token_from_server,
        ),
        Row("RFC 9000, 9", "as a server, speaks from another address", IGNORED, _server_moves),
        Row(
            "RFC 9001, 4.4",
            "as a server, asks for a certificate after the handshake",
            connection("PROTOCOL_VIOLATION"),
            _tells_client(_crypto(tls.HandshakeType.CERTIFICATE_REQUEST, b"\0\0\0")),
            instead="connection CRYPTO_ERROR unexpected_message",
            deviates=_OTHER_NAME,
        ),
        Row(
            "RFC 9001, 4.6.1",
            "as a server, sends a session ticket with early data of another size than 2^32 - 1",
            connection("PROTOCOL_VIOLATION"),
            _tells_client(_crypto(tls.HandshakeType.NEW_SESSION_TICKET, _ticket())),
            instead="ignored",
            deviates="we keep no tickets and send no early data (it can be replayed): none is looked at",
        ),
    ]


def _crypto(kind: int, body: bytes) -> bytes:
    """A CRYPTO frame with a handshake message, as the first after the handshake."""
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return frame(QuicFrameType.CRYPTO, 0, len(message)) + message


def _ticket() -> bytes:
    early = (42).to_bytes(2, "big") + (4).to_bytes(2, "big") + (17).to_bytes(4, "big")
    return bytes(8) + b"\0" + (4).to_bytes(2, "big") + b"abcd" + len(early).to_bytes(2, "big") + early


def _tells_client(payload: bytes) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene(server=False).connected()
        scene.frames(payload)
        return scene

    return act


def _token_from_server() -> Scene:
    scene = Scene(server=False).begin()
    for packet, _ in scene.out:
        scene.liar.take(packet, OURS, scene.now)
    scene.out.clear()
    scene.deliver(scene.liar.seal(b"\x01", tls.Epoch.INITIAL, token=b"token").ljust(1200, b"\0"))
    scene.run()
    return scene


def _server_moves() -> Scene:
    scene = Scene(server=False).connected()
    hand_over(scene.link, scene.liar.seal(b"\x1c\0\0\0"), ("10.9.9.9", 9))
    scene.link.flush()
    return scene


def _tls() -> list[Row]:
    def alert(name: str) -> tuple[str, ...]:
        return connection(f"CRYPTO_ERROR {name}")

    def forget_extensions(context: tls.Context) -> None:
        context.handshake_extensions = []

    def old_session(context: tls.Context) -> None:
        context.legacy_session_id = bytes(32)

    def say(payload: bytes) -> Callable[[], Scene]:
        def act() -> Scene:
            scene = Scene().connected()
            scene.frames(payload)
            return scene

        return act

    return [
        Row(
            "RFC 9001, 8.1",
            "offers no protocol that we speak",
            alert("no_application_protocol"),
            _shakes(alpn=["h2"]),
        ),
        Row("RFC 9001, 8.1", "offers no protocol at all", alert("no_application_protocol"), _shakes(alpn=[])),
        Row(
            "RFC 9001, 8.2",
            "sends no transport parameters",
            alert("missing_extension"),
            _shakes(hello=forget_extensions),
        ),
        Row(
            "RFC 9001, 8.4",
            "asks for TLS's compatibility mode",
            connection("PROTOCOL_VIOLATION"),
            _shakes(hello=old_session),
        ),
        Row(
            "RFC 8446, 4.4.2.4",
            "shows no certificate",
            (*alert("certificate_required"), *alert("bad_certificate")),
            _shakes(liar="nobody"),
        ),
        Row(
            "RFC 8446, 6.2",
            "shows a certificate of another zone's authority",
            (*alert("bad_certificate"), *alert("unknown_ca")),
            _shakes(liar="stranger"),
        ),
        Row(
            "RFC 8446, 6.2",
            "as a server, shows a certificate of another zone's authority",
            (*alert("unknown_ca"), *alert("bad_certificate")),
            _shakes(server=False, liar="stranger"),
        ),
        Row(
            "RFC 9001, 6",
            "sends TLS's KeyUpdate message",
            alert("unexpected_message"),
            say(_crypto(tls.HandshakeType.KEY_UPDATE, b"\0")),
        ),
        Row(
            "RFC 9001, 8.3",
            "sends EndOfEarlyData",
            connection("PROTOCOL_VIOLATION"),
            say(_crypto(5, b"")),
            instead="connection CRYPTO_ERROR unexpected_message",
            deviates=_OTHER_NAME,
        ),
        Row(
            "RFC 9001, 4.1.3",
            "sends a handshake message of TLS in the wrong packet",
            (*alert("unexpected_message"), *connection("PROTOCOL_VIOLATION")),
            _early_finished,
        ),
        Row(
            "RFC 8446, 4",
            "begins with a message that is no ClientHello",
            alert("unexpected_message"),
            _first_crypto(b"\x02\0\0\x02ab"),
        ),
        Row(
            "RFC 8446, 6.2",
            "begins with a ClientHello that cannot be read",
            alert("decode_error"),
            _first_crypto(b"\x01\0\0\x02ab"),
        ),
        Row(
            "RFC 9001, 6.2",
            "changes keys twice in a row, with nothing between",
            (*IGNORED, *connection("KEY_UPDATE_ERROR")),
            _two_keys,
        ),
        Row("RFC 9001, 6.1", "changes keys once", IGNORED, _one_key),
        Row("RFC 9001, 6.6", "leaves it to us to change keys before they are worn", ("keys change",), _worn),
    ]


def _early_finished() -> Scene:
    scene = Scene().begin()
    for packet, _ in scene.liar.datagrams_to_send(now=scene.now):
        scene.deliver(packet)
    size = scene.quic._crypto_streams[tls.Epoch.INITIAL].receiver.starting_offset()
    message = b"\x14\0\0\x20" + bytes(32)
    scene.frames(frame(QuicFrameType.CRYPTO, size, len(message)) + message, tls.Epoch.INITIAL)
    return scene


def _first_crypto(message: bytes) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().begin()
        payload = frame(QuicFrameType.CRYPTO, 0, len(message)) + message
        scene.deliver(scene.liar.seal(payload.ljust(1150, b"\0"), tls.Epoch.INITIAL).ljust(1200, b"\0"))
        for packet, _ in scene.out:
            scene.liar.take(packet, OURS, scene.now)
        return scene

    return act


def _one_key() -> Scene:
    scene = Scene().connected()
    scene.liar.request_key_update()
    scene.frames(b"\x01")
    return scene


def _two_keys() -> Scene:
    scene = _one_key()
    scene.liar.request_key_update()
    scene.frames(b"\x01")
    return scene


def _worn() -> str:
    scene = Scene().connected()
    before = scene.quic._cryptos[tls.Epoch.ONE_RTT].key_phase
    scene.quic._rekey_at = scene.quic._packet_number + 2
    outcome = [scene.outcome() for _ in range(4)]
    after = scene.quic._cryptos[tls.Epoch.ONE_RTT].key_phase
    scene.close()
    return (
        "keys change" if after != before and set(outcome) == {"ignored"} else f"{outcome[-1]}, the same keys"
    )


ROWS = [*_parameters(), *_as_server(), *_tls()]
