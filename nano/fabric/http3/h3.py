"""HTTP/3 on a `quic.Connection`: aioquic's, with GOAWAY, a limit on headers, and no QPACK dynamic table.

**What comes in whole frames is read without aioquic's parser** (`whole_frames.py`, `header_blocks.py`).
Whatever is out of the ordinary, broken frames first of all, goes to aioquic as if there were no other way:
what a peer may not do is judged in one place.

What a peer may not do, and what it gets for it, is a table that the tests execute: docs/conformance.md. A
message that is malformed ends its stream only; frames that HTTP/3 forbids end the connection.

The private parts of aioquic's HTTP/3 layer that we touch stand here; the version is pinned with `quic.py`.
"""

from collections.abc import Iterator
from typing import Any, cast

import pylsqpack
from aioquic._buffer import Buffer, BufferReadError
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ClosedCriticalStream,
    ErrorCode,
    FrameError,
    FrameType,
    H3Connection,
    H3Stream,
    HeadersState,
    IdError,
    MessageError,
    ProtocolError,
    Setting,
    StreamCreationError,
    StreamType,
    encode_frame,
)
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import StreamDataReceived

from nano.fabric.http3.header_blocks import (
    HEADERS_LIMIT_BYTES,
    Headers,
    TooLarge,
    check_request,
    check_size,
    request_headers,
    response_headers,
    text,
    trailers,
)
from nano.fabric.http3.whole_frames import HEADERS, whole_frames
from nano.fabric.packets.quic import Connection

_CONTROL_LIMIT_BYTES = 16 * 1024
"""Largest frame on a control stream that is gathered: SETTINGS. Ours has 20 bytes."""

_ID_BYTES = 8
"""Longest number there is: all that GOAWAY and its like hold."""

_LAST_STREAM_ID = 2**62 - 4
_OPENED_BY_SERVER = 1
_GREASE = 0x21
"""A type of frame that means nothing (RFC 9114, 7.2.8)."""

_CRITICAL = {StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER}

Piece = tuple[Headers | None, bytes, bool]
"""Of a message: a header block, or (None) bytes of its body; and whether it is the last of it."""


class _ExcessiveLoad(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class Malformed(Exception):
    """A message is not what HTTP allows (RFC 9114, 4.1.2): its stream is to be reset with `code`.

    `ended`: the peer has nothing more to send on it.
    """

    def __init__(self, reason: str, code: int, *, ended: bool) -> None:
        super().__init__(reason)
        self.code, self.ended = code, ended


class _Ids:
    """What aioquic throws away of a control stream: the numbers in GOAWAY and CANCEL_PUSH."""

    def __init__(self) -> None:
        self._buffer = b""
        self._begun = False
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Type and number of each such frame that `data` completes; `FrameError` where that is no number."""
        self._buffer += data
        while self._buffer or self._skip:
            passed = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[passed:], self._skip - passed
            if self._skip:
                return
            found = self._next()
            if found is None:
                return
            if found[0] >= 0:
                yield found

    def _next(self) -> tuple[int, int] | None:
        """The next frame's type and number; a negative type if it does not matter; None if none is whole."""
        buf = Buffer(data=self._buffer)
        try:
            if not self._begun:
                buf.pull_uint_var()  # the kind of the stream
                self._begun, self._buffer = True, self._buffer[buf.tell() :]
                return -1, 0
            kind, size = buf.pull_uint_var(), buf.pull_uint_var()
        except BufferReadError:
            return None
        if kind not in {FrameType.GOAWAY, FrameType.CANCEL_PUSH}:
            self._buffer, self._skip = self._buffer[buf.tell() :], size
            return -1, 0
        if size > _ID_BYTES:
            raise FrameError(f"a frame of type {kind} holds {size} bytes, where a number is meant")
        start = buf.tell()
        if len(self._buffer) < start + size:
            return None
        body, self._buffer = Buffer(data=self._buffer[start : start + size]), self._buffer[start + size :]
        try:
            number = body.pull_uint_var()
        except BufferReadError:
            raise FrameError(f"a frame of type {kind} holds no number") from None
        if not body.eof():
            raise FrameError(f"a frame of type {kind} holds more than a number")
        return kind, number


class Http3(H3Connection):
    """Requests and answers on the streams of one connection, without I/O."""

    def __init__(self, connection: Connection) -> None:
        self.peer_leaves = False
        """The peer asked for no more requests on this connection (RFC 9114, 5.2)."""
        self._ids = _Ids()
        self._goaway = _LAST_STREAM_ID + 4
        super().__init__(connection)
        self._decoder = pylsqpack.Decoder(0, 0)  # as our settings say: stock code would take a table of 4096

    def _init_connection(self) -> None:
        self._max_push_id = None  # nothing may be pushed to us
        super()._init_connection()

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
        """What has come on a stream, in order; `Malformed` if it is no message."""
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
        """No dynamic table: it costs a packet of its own, an acknowledgement, for each header block.

        And no CONNECT with a protocol: nobody would answer it.
        """
        settings = super()._get_local_settings()
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = 0
        settings[Setting.QPACK_BLOCKED_STREAMS] = 0
        settings[Setting.MAX_FIELD_SECTION_SIZE] = HEADERS_LIMIT_BYTES
        del settings[Setting.ENABLE_CONNECT_PROTOCOL]
        return settings

    def _receive_request_or_push_data(self, stream: Any, data: bytes, stream_ended: bool) -> list[H3Event]:
        """A flaw of one message is its stream's affair; stock code ends the connection for it."""
        if stream.stream_id % 4 == _OPENED_BY_SERVER:
            raise StreamCreationError("servers open no streams of two directions")
        begins = stream.headers_recv_state == HeadersState.INITIAL
        try:
            found = super()._receive_request_or_push_data(stream, data, stream_ended)
            if begins and found and isinstance(found[0], HeadersReceived):
                check_size(found[0].headers)
                if not self._is_client:
                    check_request(found[0].headers)
        except (MessageError, TooLarge) as error:
            stream.receiving_ended = stream_ended
            raise Malformed(error.reason_phrase, error.error_code, ended=stream_ended) from error
        return found

    def _receive_stream_data_uni(self, stream: Any, data: bytes, stream_ended: bool) -> list[H3Event]:
        found = super()._receive_stream_data_uni(stream, data, stream_ended)
        if stream_ended and stream.stream_type in _CRITICAL:
            raise ClosedCriticalStream(f"a stream of kind {stream.stream_type} may not end")
        if stream.stream_type == StreamType.CONTROL:
            if len(stream.buffer) > _CONTROL_LIMIT_BYTES:
                raise _ExcessiveLoad("a frame on the control stream is too large")
            for kind, number in self._ids.feed(data):
                self._id_came(kind, number)
        return found

    def _id_came(self, kind: int, number: int) -> None:
        if kind == FrameType.CANCEL_PUSH:
            raise IdError("nothing was pushed that could be cancelled")
        if number > self._goaway or (self._is_client and number % 4):
            raise IdError(f"GOAWAY names {number}")
        self._goaway = number
        self.peer_leaves = True

    def _check_request_or_push_frame_type(self, frame_type: int, stream: Any) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.HEADERS and stream.frame_size > HEADERS_LIMIT_BYTES:
            raise _ExcessiveLoad(f"a header block of {stream.frame_size} bytes is too large")
        if frame_type == FrameType.PUSH_PROMISE:
            raise IdError("nothing may be pushed to us")
        if frame_type == FrameType.WEBTRANSPORT_STREAM:
            stream.frame_type = _GREASE  # it was not agreed on, so it is an unknown frame and no more

    def _check_content_length(self, stream: Any) -> None:
        """Bulk counts its bodies itself, on their streams.

        aioquic ends the whole connection for one body of another length than announced, and takes the answer
        to a HEAD for such a body.
        """


def _between_frames(stream: H3Stream) -> bool:
    return not stream.buffer and stream.frame_size is None and not stream.receiving_ended


def _piece(event: H3Event) -> Piece:
    match event:
        case DataReceived(data=data, stream_ended=ended):
            return None, data, ended
        case HeadersReceived(headers=block, stream_ended=ended):
            return text(block), b"", ended
    return None, b"", False  # pushes and datagrams: nobody asked for any
