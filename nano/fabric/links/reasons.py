"""What ends a connection, in words: the codes of QUIC, TLS and HTTP/3 by name and meaning. No I/O."""

from aioquic import tls
from aioquic.h3.connection import ErrorCode
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode

_ALERTS = range(QuicErrorCode.CRYPTO_ERROR, QuicErrorCode.CRYPTO_ERROR + 0x100)
"""What TLS ends a handshake with, as QUIC says it (RFC 9001, 4.8)."""

TRANSPORT: dict[int, str] = {
    QuicErrorCode.NO_ERROR: "closed in good order",
    QuicErrorCode.INTERNAL_ERROR: "a defect of the end that closed",
    QuicErrorCode.CONNECTION_REFUSED: "it takes no links now",
    QuicErrorCode.FLOW_CONTROL_ERROR: "more was sent than the window allows",
    QuicErrorCode.STREAM_LIMIT_ERROR: "more streams were opened than allowed",
    QuicErrorCode.STREAM_STATE_ERROR: "a frame came for a stream that cannot have it",
    QuicErrorCode.FINAL_SIZE_ERROR: "a stream changed its length after its end was said",
    QuicErrorCode.FRAME_ENCODING_ERROR: "a frame cannot be read",
    QuicErrorCode.TRANSPORT_PARAMETER_ERROR: "a transport parameter will not do",
    QuicErrorCode.CONNECTION_ID_LIMIT_ERROR: "too many connection ids were given",
    QuicErrorCode.PROTOCOL_VIOLATION: "QUIC does not allow what was sent",
    QuicErrorCode.INVALID_TOKEN: "the token of a Retry is not ours, or too old",
    QuicErrorCode.APPLICATION_ERROR: "the other end gave up before the handshake was over: perhaps it does "
    "not hear us, as when it dialled an address that we do not answer from",
    QuicErrorCode.CRYPTO_BUFFER_EXCEEDED: "the handshake is larger than what is kept of it",
    QuicErrorCode.KEY_UPDATE_ERROR: "keys were changed out of turn",
    QuicErrorCode.AEAD_LIMIT_REACHED: "the keys are worn",
    QuicErrorCode.NO_VIABLE_PATH: "no path to the other end is left",
    QuicErrorCode.VERSION_NEGOTIATION_ERROR: "the versions that were agreed on are not those of the offer",
}
"""RFC 9000, 20.1."""

APPLICATION: dict[int, str] = {
    ErrorCode.H3_DATAGRAM_ERROR: "a datagram breaks the rules of HTTP",
    ErrorCode.H3_NO_ERROR: "closed in good order",
    ErrorCode.H3_GENERAL_PROTOCOL_ERROR: "HTTP/3 does not allow what was sent",
    ErrorCode.H3_INTERNAL_ERROR: "the end that closed could not go on",
    ErrorCode.H3_STREAM_CREATION_ERROR: "a stream of a kind that may not be opened",
    ErrorCode.H3_CLOSED_CRITICAL_STREAM: "a stream that has to stay open was closed",
    ErrorCode.H3_FRAME_UNEXPECTED: "a frame came where it may not",
    ErrorCode.H3_FRAME_ERROR: "a frame cannot be read",
    ErrorCode.H3_EXCESSIVE_LOAD: "the other end asks for too much",
    ErrorCode.H3_ID_ERROR: "an id was used in a way that is not allowed",
    ErrorCode.H3_SETTINGS_ERROR: "the settings will not do",
    ErrorCode.H3_MISSING_SETTINGS: "the settings did not come first",
    ErrorCode.H3_REQUEST_REJECTED: "the request was not looked at",
    ErrorCode.H3_REQUEST_CANCELLED: "the request is not wanted any more",
    ErrorCode.H3_REQUEST_INCOMPLETE: "the request ended in the middle",
    ErrorCode.H3_MESSAGE_ERROR: "a message that HTTP does not allow",
    ErrorCode.H3_CONNECT_ERROR: "what a CONNECT led to failed",
    ErrorCode.H3_VERSION_FALLBACK: "it has to be asked over another version of HTTP",
    ErrorCode.QPACK_DECOMPRESSION_FAILED: "headers cannot be read",
    ErrorCode.QPACK_ENCODER_STREAM_ERROR: "instructions for headers cannot be read",
    ErrorCode.QPACK_DECODER_STREAM_ERROR: "acknowledgements of headers cannot be read",
}
"""RFC 9114, 8.1, RFC 9204, 6 and RFC 9297, 5.2."""


_UNKNOWN = "for a reason that is not known here"
_QUIC_NAMES = {each.value: each.name for each in QuicErrorCode}
_H3_NAMES = {each.value: each.name for each in ErrorCode}
_ALERT_NAMES = {each.value: each.name.replace("_", " ") for each in tls.AlertDescription}


def why(ended: ConnectionTerminated) -> str:
    """Why a connection is over: what the end that closed it said, and its code by name; else what that
    means."""
    name, meaning = _code(ended)
    if not ended.reason_phrase:
        return f"{meaning} ({name})"
    is_all_said = ended.error_code in {QuicErrorCode.NO_ERROR, ErrorCode.H3_NO_ERROR}
    return ended.reason_phrase if is_all_said else f"{ended.reason_phrase} ({name})"


def _code(ended: ConnectionTerminated) -> tuple[str, str]:
    """The name of its code, with the number, and what it means."""
    code = ended.error_code
    if ended.frame_type is not None and code in _ALERTS:
        alert = code - QuicErrorCode.CRYPTO_ERROR
        return f"TLS alert {alert}", _ALERT_NAMES.get(alert, _UNKNOWN)
    meanings, names = (APPLICATION, _H3_NAMES) if ended.frame_type is None else (TRANSPORT, _QUIC_NAMES)
    return f"{names.get(code, 'code')} {code:#x}", meanings.get(code, _UNKNOWN)
