"""Codes that end a connection are said by name and meaning."""

import pytest
from aioquic import tls
from aioquic.h3.connection import ErrorCode
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from nano.fabric.links.reasons import APPLICATION, TRANSPORT, why

PADDING = QuicFrameType.PADDING


def test_every_code_that_aioquic_knows_has_a_meaning_here() -> None:
    assert set(TRANSPORT) == set(QuicErrorCode) - {QuicErrorCode.CRYPTO_ERROR}
    assert set(APPLICATION) == set(ErrorCode)


@pytest.mark.parametrize(
    ("code", "frame_type", "phrase", "said"),
    [
        (
            0xC,
            PADDING,
            "",
            "the other end gave up before the handshake was over: perhaps it does not hear us, ",
        ),
        (0xC, PADDING, "", "(APPLICATION_ERROR 0xc)"),
        (0xA, PADDING, "no such frame", "no such frame (PROTOCOL_VIOLATION 0xa)"),
        (0x100 + tls.AlertDescription.unknown_ca, PADDING, "", "unknown ca (TLS alert 48)"),
        (0x1FF, PADDING, "", "for a reason that is not known here (TLS alert 255)"),
        (0x3E, PADDING, "", "for a reason that is not known here (code 0x3e)"),
        (ErrorCode.H3_ID_ERROR, None, "", "an id was used in a way that is not allowed (H3_ID_ERROR 0x108)"),
        (ErrorCode.H3_INTERNAL_ERROR, None, "shut out", "shut out (H3_INTERNAL_ERROR 0x102)"),
        (ErrorCode.H3_NO_ERROR, None, "closed", "closed"),
        (ErrorCode.H3_NO_ERROR, None, "", "closed in good order (H3_NO_ERROR 0x100)"),
        (0x999, None, "", "for a reason that is not known here (code 0x999)"),
    ],
)
def test_a_reason_says_what_was_said_and_what_the_code_means(
    code: int, frame_type: int | None, phrase: str, said: str
) -> None:
    assert said in why(ConnectionTerminated(code, frame_type, phrase))
