"""HTTP/3 on a `quic.Connection`: aioquic's, with GOAWAY, a limit on headers, and no QPACK dynamic table.

The private parts of aioquic's HTTP/3 layer that we touch stand here; the version is pinned with `quic.py`.
"""

from typing import Any, cast

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    H3Connection,
    ProtocolError,
    Setting,
    encode_frame,
)

from nano.fabric.quic import Connection

ALPN = ["h3"]

HEADERS_LIMIT_BYTES = 64 * 1024
"""Largest header block. aioquic gathers a block before it decodes it, and would gather for ever."""

_LAST_STREAM_ID = 2**62 - 4


class _ExcessiveLoad(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class Http3(H3Connection):
    """Requests and answers on the streams of one connection, without I/O."""

    def __init__(self, connection: Connection) -> None:
        self.peer_leaves = False
        """The peer asked for no more requests on this connection (RFC 9114, 5.2)."""
        super().__init__(connection)

    def leave(self) -> None:
        """Ask the peer to open no more requests here; those that are on their way are still served.

        The largest id is the form that RFC 9114, 5.2 has for a graceful end: nothing is refused.
        """
        self._quic.send_stream_data(
            cast("int", self._local_control_stream_id),
            encode_frame(FrameType.GOAWAY, encode_uint_var(_LAST_STREAM_ID)),
        )

    def forget(self, stream_id: int) -> None:
        """Drop the state of a stream that we reset: aioquic tells HTTP/3 only of resets by the peer."""
        self._stream.pop(stream_id, None)

    def knows(self, stream_id: int) -> bool:
        return stream_id in self._stream

    def _get_local_settings(self) -> dict[int, int]:
        """No dynamic table: it costs a packet of its own, an acknowledgement, for each header block."""
        settings = super()._get_local_settings()
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = 0
        settings[Setting.QPACK_BLOCKED_STREAMS] = 0
        return settings

    def _check_request_or_push_frame_type(self, frame_type: int, stream: Any) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.HEADERS and stream.frame_size > HEADERS_LIMIT_BYTES:
            raise _ExcessiveLoad(f"a header block of {stream.frame_size} bytes is too large")

    def _check_content_length(self, stream: Any) -> None:
        """Bulk counts its bodies itself, on their streams.

        aioquic ends the whole connection for one body of another length than announced, and takes the answer
        to a HEAD for such a body.
        """

    def _check_control_frame_type(self, frame_type: int) -> None:
        """The one place where a GOAWAY shows: aioquic throws its content away.

        The content, from which stream on requests are refused, is not missed: a peer of ours refuses none,
        and one that does says so on the stream.
        """
        super()._check_control_frame_type(frame_type)
        if frame_type == FrameType.GOAWAY:
            self.peer_leaves = True
