"""HTTP/3 on a `quic.Connection`: aioquic's, with GOAWAY, a limit on headers, and no QPACK dynamic table.

**What comes in whole frames is read without aioquic's parser** (`whole_frames.py`, `header_blocks.py`).
Whatever is out of the ordinary, broken frames first of all, goes to aioquic as if there were no other way:
what a peer may not do is judged in one place.

The private parts of aioquic's HTTP/3 layer that we touch stand here; the version is pinned with `quic.py`.
"""

from typing import Any, cast

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    H3Connection,
    H3Stream,
    HeadersState,
    ProtocolError,
    Setting,
    encode_frame,
)
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import StreamDataReceived

from nano.fabric.header_blocks import Headers, request_headers, response_headers, text, trailers
from nano.fabric.quic import Connection
from nano.fabric.whole_frames import HEADERS, whole_frames

ALPN = ["h3"]

HEADERS_LIMIT_BYTES = 64 * 1024
"""Largest header block. aioquic gathers a block before it decodes it, and would gather for ever."""

_LAST_STREAM_ID = 2**62 - 4

Piece = tuple[Headers | None, bytes, bool]
"""Of a message: a header block, or (None) bytes of its body; and whether it is the last of it."""


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

    def read(self, event: StreamDataReceived) -> list[Piece]:
        """What has come on a stream, in order."""
        found = self._read_whole(event.stream_id, event.data, last=event.end_stream)
        if found is None:
            found = [_piece(told) for told in self.handle_event(event)]
        return found

    def _read_whole(self, stream_id: int, data: bytes, *, last: bool) -> list[Piece] | None:
        """Proper frames that begin and end in `data`; None, and nothing changed, if it is anything else."""
        stream = self._stream.get(stream_id)
        if stream_id & 3 or self._is_done or (stream is not None and not _between_frames(stream)):
            return None
        frames = whole_frames(data)
        if not frames:
            return None
        state = HeadersState.INITIAL if stream is None else stream.headers_recv_state
        found: list[Piece] = []
        for kind, body in frames:
            if kind == HEADERS:
                headers, state = self._block(body, state)
                if headers is None:
                    return None
                found.append((headers, b"", False))
            elif state is HeadersState.AFTER_HEADERS:
                found.append((None, body, False))
            else:
                return None
        if last:
            headers, body, _ = found[-1]
            found[-1] = (headers, body, True)
        self._remember(stream_id, stream, state, last=last)
        return found

    def _block(self, block: bytes, state: HeadersState) -> tuple[Headers | None, HeadersState]:
        if state is HeadersState.INITIAL:
            headers = response_headers(block) if self._is_client else request_headers(block)
            return headers, HeadersState.AFTER_HEADERS
        if state is HeadersState.AFTER_HEADERS:
            return trailers(block), HeadersState.AFTER_TRAILERS
        return None, state

    def _remember(self, stream_id: int, stream: H3Stream | None, state: HeadersState, *, last: bool) -> None:
        """A message that came whole in one piece needs no memory, the rest leaves what aioquic would."""
        if stream is None:
            if last:
                return
            stream = self._stream[stream_id] = H3Stream(stream_id)
        stream.headers_recv_state = state
        stream.receiving_ended = last

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


def _between_frames(stream: H3Stream) -> bool:
    return not stream.buffer and stream.frame_size is None and not stream.receiving_ended


def _piece(event: H3Event) -> Piece:
    match event:
        case DataReceived(data=data, stream_ended=ended):
            return None, data, ended
        case HeadersReceived(headers=block, stream_ended=ended):
            return text(block), b"", ended
    return None, b"", False  # pushes and datagrams: nobody asked for any
