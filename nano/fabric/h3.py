"""HTTP/3 on a `quic.Connection`: aioquic's, with GOAWAY, a limit on headers, and no QPACK dynamic table.

What a peer may not do, and what it gets for it, is a table that the tests execute: docs/conformance.md. A
message that is malformed ends its stream only; frames that HTTP/3 forbids end the connection.

The private parts of aioquic's HTTP/3 layer that we touch stand here; the version is pinned with `quic.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    HeadersState,
    IdError,
    MessageError,
    ProtocolError,
    Setting,
    StreamCreationError,
    StreamType,
    encode_frame,
)
from aioquic.h3.events import H3Event, Headers, HeadersReceived

from nano.fabric.quic import Connection

ALPN = ["h3"]

HEADERS_LIMIT_BYTES = 64 * 1024
"""Largest header block, as it comes and as it is read (RFC 9114, 4.2.2, counts 32 bytes more for each field).

aioquic gathers a block before it decodes it, and would gather for ever.
"""

_FIELD_OVERHEAD_BYTES = 32
_CONTROL_LIMIT_BYTES = 16 * 1024
"""Largest frame on a control stream that is gathered: SETTINGS. Ours has 20 bytes."""

_ID_BYTES = 8
"""Longest number there is: all that GOAWAY and its like hold."""

_LAST_STREAM_ID = 2**62 - 4
_OPENED_BY_SERVER = 1
_GREASE = 0x21
"""A type of frame that means nothing (RFC 9114, 7.2.8)."""

_CRITICAL = {StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER}


class _ExcessiveLoad(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class _TooLarge(_ExcessiveLoad):
    """Of one message only."""


@dataclass
class Malformed(H3Event):
    """A message is not what HTTP allows (RFC 9114, 4.1.2): its stream is to be reset with `code`."""

    stream_id: int
    code: int
    reason: str
    ended: bool
    """Whether the peer has nothing more to send on it."""


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
                _check_size(found[0].headers)
                if not self._is_client:
                    _check_request(found[0].headers)
        except (MessageError, _TooLarge) as error:
            stream.receiving_ended = stream_ended
            return [Malformed(stream.stream_id, error.error_code, error.reason_phrase, stream_ended)]
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


def _check_size(headers: Headers) -> None:
    if sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in headers) > HEADERS_LIMIT_BYTES:
        raise _TooLarge(f"the fields of a message are above {HEADERS_LIMIT_BYTES} bytes")


def _check_request(headers: Headers) -> None:
    """What RFC 9114, 4.3.1 asks of a request, and stock code does not look at."""
    found = dict(headers)
    if b":protocol" in found:
        raise MessageError("no protocol is offered that CONNECT could name")
    if found[b":method"] == b"CONNECT":
        if b":scheme" in found or b":path" in found:
            raise MessageError("a CONNECT has no scheme and no path")
    elif not found.get(b":scheme") or not found.get(b":path"):
        raise MessageError("a request needs a scheme and a path")
    if found.get(b"host", found[b":authority"]) != found[b":authority"]:
        raise MessageError("the request names two hosts")
