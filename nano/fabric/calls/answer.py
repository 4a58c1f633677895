"""Answers one call: runs its method, which reads and sends messages, and says how it ended.

In place of grpclib's own request handler, whose events nobody hears here and whose guards around each step
our streams do not need, since they wake whoever waits on them. A handler sees grpclib's `server.Stream`,
and may do with it what it may do there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from grpclib.const import Handler as Method
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError
from grpclib.metadata import Deadline, decode_metadata, encode_grpc_message, encode_metadata
from grpclib.server import Stream as Call
from grpclib.server import _abort
from multidict import MultiDict

from nano.fabric.http3.framing import framed
from nano.fabric.http3.stream import CONTENT_TYPE, Headers, Stream

_CONTENT_TYPES = {"application/grpc", "application/grpc+proto"}

_HEAD: Headers = [(":status", "200"), CONTENT_TYPE]

_WELL: Headers = [("grpc-status", "0")]

_NO_METADATA = frozenset(
    (":method", ":scheme", ":path", ":authority", "te", "content-type", "user-agent", "grpc-timeout")
)
"""Names of headers that every call has, and that are not for its handler."""

_log = structlog.get_logger("nano.fabric")


class Answer(Call[Any, Any]):
    """One call as its handler sees it."""

    def __init__(self, stream: Stream, method: Method, headers: Headers, codec: CodecBase) -> None:
        head = dict(headers)
        deadline = Deadline.from_headers(headers) if "grpc-timeout" in head else None
        self._stream: Any = stream
        self._method_name = head[":path"]
        self._cardinality = method.cardinality
        self._recv_type = method.request_type
        self._send_type = method.reply_type
        self._codec = codec
        self.deadline = deadline
        self.user_agent = head.get("user-agent")
        self.peer: Any = stream.connection.get_peer()
        self.metadata = decode_metadata(headers) if has_metadata(head) else MultiDict()  # type: ignore[assignment]

    async def recv_message(self) -> Any:
        data = await self._stream.receive_message()
        return None if data is None else self._codec.decode(data, self._recv_type)

    async def send_initial_metadata(self, *, metadata: Any = None) -> None:
        if self._send_initial_metadata_done:
            raise ProtocolError("Initial metadata was already sent")
        self._stream.say_headers([*_HEAD, *encode_metadata(metadata)] if metadata else _HEAD, end=False)
        self._send_initial_metadata_done = True

    async def send_message(self, message: Any) -> None:
        if not self._send_initial_metadata_done:
            await self.send_initial_metadata()
        if self._send_message_done and not self._cardinality.server_streaming:
            raise ProtocolError("Message was already sent")
        data = framed(self._codec.encode(message, self._send_type))
        if not self._stream.say_data(data, end=False):
            await self._stream.send_data(data)
        self._send_message_done = True

    async def send_trailing_metadata(
        self,
        *,
        status: Status = Status.OK,
        status_message: str | None = None,
        status_details: Any = None,
        metadata: Any = None,
    ) -> None:
        del status_details  # of Google's kind; ours travel as metadata
        if self._send_trailing_metadata_done:
            raise ProtocolError("Trailing metadata was already sent")
        well = status is Status.OK
        if well and not self._send_message_done and not self._cardinality.server_streaming:
            raise ProtocolError("Unary response with OK status requires a single message to be sent")
        headers = _WELL
        if not (well and self._send_initial_metadata_done and status_message is None and not metadata):
            headers = [] if self._send_initial_metadata_done else [*_HEAD]
            headers.append(("grpc-status", str(status.value)))
            if status_message is not None:
                headers.append(("grpc-message", encode_grpc_message(status_message)))
            headers += encode_metadata(metadata or ())
        self._stream.say_headers(headers, end=True)
        self._send_trailing_metadata_done = True
        if not well and self._stream.closable:
            self._stream.reset_nowait()


async def answer(methods: Mapping[str, Method], stream: Stream, headers: Headers, codec: CodecBase) -> None:
    """Answer the request of `headers`, whose metadata and deadline can be read."""
    head = dict(headers)
    method = methods.get(head[":path"])
    if method is None or not _is_call(head):
        await _refuse(stream, head)
        return
    try:
        call = Answer(stream, method, headers, codec)
        async with call:
            await _run(method, call)
    except Exception as error:  # noqa: BLE001 - a handler that answers nothing, or twice: the others go on
        _log.error("call.unanswered", method=head[":path"], exc_info=error)


def has_metadata(head: dict[str, str]) -> bool:
    """Whether there are headers that are for the handler."""
    return not _NO_METADATA.issuperset(head)


async def _run(method: Method, call: Answer) -> None:
    if call.deadline is None:
        await method.func(call)
        return
    try:
        async with asyncio.timeout(call.deadline.time_remaining()) as limit:
            await method.func(call)
    except TimeoutError:
        if limit.expired():
            raise GRPCError(Status.DEADLINE_EXCEEDED) from None
        raise


def _is_call(head: dict[str, str]) -> bool:
    return (
        head.get(":method") == "POST"
        and head.get("content-type") in _CONTENT_TYPES
        and head.get("te") == "trailers"
    )


async def _refuse(stream: Stream, head: dict[str, str]) -> None:
    """As gRPC has it (PROTOCOL-HTTP2): what is no call gets an HTTP status too."""
    to: Any = stream
    if head.get(":method") != "POST":
        await _abort(to, 405)
    elif head.get("content-type") not in _CONTENT_TYPES:
        await _abort(to, 415, Status.UNKNOWN, "Unacceptable content-type header")
    elif head.get("te") != "trailers":
        await _abort(to, 400, Status.UNKNOWN, 'Required "te: trailers" header is missing')
    else:
        await _abort(to, 200, Status.UNIMPLEMENTED, "Method not found")
