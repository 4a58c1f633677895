"""Calls out: what a generated stub takes for grpclib's channel.

A channel names a peer, never an address: each call asks for the link to whoever that is now.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

import grpclib.client
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.metadata import (
    USER_AGENT,
    Deadline,
    decode_bin_value,
    decode_metadata,
    encode_metadata,
    encode_timeout,
)
from h2.exceptions import StreamClosedError
from multidict import MultiDict

from nano.fabric.calls.caller import TASK_HEADER, current_task
from nano.fabric.calls.status import DETAIL_TRAILER, error_of, error_of_grpc
from nano.fabric.http3.exchanges import LinkLost
from nano.fabric.http3.framing import framed
from nano.fabric.http3.stream import CONTENT_TYPE, Stream
from nano.fabric.links.link import Link
from nano.model.errors import Corrupt, NanoError, TimedOut, Unreachable, from_code

Connect = Callable[[], Awaitable[Link]]

BROKEN = (GRPCError, StreamTerminatedError, StreamClosedError, TimeoutError)
"""What grpclib and links raise; `Call.fact` says what it means."""


class _NoLimit:
    """In place of grpclib's guard around each step, for a call without a deadline.

    That guard wakes a call whose stream has ended; our streams wake whoever waits on them.
    """

    def __enter__(self) -> None:
        """Nothing can stop the step but its own stream."""

    def __exit__(self, *_: object) -> None:
        """Nothing to take back."""


_NO_LIMIT = _NoLimit()

_USUAL_HEAD = frozenset((":status", "content-type"))
_USUAL_TRAILERS = [("grpc-status", "0")]


class Call(grpclib.client.Stream[Any, Any]):
    """One call: grpclib's, without the events that nobody hears here.

    What goes wrong is raised as the model's error, from wherever it came.
    """

    _channel: "Channel"

    async def __aenter__(self) -> Self:
        if self._deadline is None:
            self._wrapper: Any = _NO_LIMIT
            return self
        try:
            await super().__aenter__()
        except TimeoutError as error:
            raise self.fact(error) from error
        return self

    async def send_request(self, *, end: bool = False) -> None:
        if self._send_request_done:
            raise ProtocolError("Request is already sent")
        if end and not self._cardinality.client_streaming:
            raise ProtocolError("Unary request requires a message to be sent before ending outgoing stream")
        headers = self._channel.head(self._method_name, self._metadata)
        try:
            with self._wrapper:
                link = await self._channel.__connect__()
                guard = None if self._deadline is None else self._wrapper
                stream: Any = link.exchanges.create_stream(wrapper=guard)
                if self._deadline is not None:
                    headers.append(("grpc-timeout", encode_timeout(self._deadline.time_remaining())))
                await stream.send_request(headers, end_stream=end)
        except TimeoutError as error:
            target = self._channel._authority
            raise Unreachable(f"{target} was not reached before the call's deadline") from error
        self._stream = stream
        self._release_stream = stream.release
        self.peer = link.peer
        self._send_request_done = True
        self._end_done = end

    async def send_message(self, message: Any, *, end: bool = False) -> None:
        if not self._send_request_done:
            await self.send_request()
        if not self._cardinality.client_streaming and self._send_message_done:
            raise ProtocolError("Message was already sent")
        if self._end_done:
            raise ProtocolError("Stream is ended")
        last = end or not self._cardinality.client_streaming
        data = framed(self._codec.encode(message, self._send_type))
        stream: Any = self._stream
        with self._wrapper:
            if not stream.say_data(data, end=last):
                await self._send_when_possible(stream, data, last=last)
        self._send_message_done = True
        self._end_done = end

    async def _send_when_possible(self, stream: Stream, data: bytes, *, last: bool) -> None:
        """With the reason, where the stream has ended meanwhile."""
        try:
            await stream.send_data(data, end_stream=last)
        except StreamClosedError:
            raise stream.error or StreamTerminatedError("the stream was ended on this side") from None

    async def recv_initial_metadata(self) -> None:
        if not self._send_request_done:
            raise ProtocolError("Request was not sent yet")
        if self._recv_initial_metadata_done:
            raise ProtocolError("Initial metadata was already received")
        with self._wrapper:
            headers = await self._stream.recv_headers()
        self._recv_initial_metadata_done = True
        head = dict(headers)
        self._raise_for_status(head)
        self._raise_for_content_type(head)
        if "grpc-status" in head:  # there is nothing but trailers
            self._trailers_only = True
            self.initial_metadata = MultiDict()  # type: ignore[assignment]
            self.trailing_metadata = decode_metadata(headers)
            self._raise_for_grpc_status(*self._process_grpc_status(head))
        else:
            is_usual = _USUAL_HEAD.issuperset(head)
            self.initial_metadata = MultiDict() if is_usual else decode_metadata(headers)  # type: ignore[assignment]

    async def recv_message(self) -> Any:
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._wrapper:
            stream: Any = self._stream
            data = await stream.receive_message()
        return None if data is None else self._codec.decode(data, self._recv_type)

    async def recv_trailing_metadata(self) -> None:
        if not (self._end_done or (self._send_message_done and not self._cardinality.client_streaming)):
            raise ProtocolError("Outgoing stream was not ended")
        if not self._recv_initial_metadata_done:
            raise ProtocolError("Initial metadata was not received before waiting for trailing metadata")
        if self._recv_trailing_metadata_done:
            raise ProtocolError("Trailing metadata was already received")
        if self._trailers_only:
            self._recv_trailing_metadata_done = True
            return
        with self._wrapper:
            trailers = await self._stream.recv_trailers()
        self._recv_trailing_metadata_done = True
        if trailers == _USUAL_TRAILERS:
            self.trailing_metadata = MultiDict()  # type: ignore[assignment]
            return
        self.trailing_metadata = decode_metadata(trailers)
        self._raise_for_grpc_status(*self._process_grpc_status(dict(trailers)))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_val is None and self._deadline is None and self._send_request_done:
            await self._leave_well()
            return
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        except BROKEN as error:
            raise self.fact(error) from error
        finally:
            if not self._send_request_done and self._wrapper_ctx is not None:
                self._wrapper_ctx.__exit__(None, None, None)  # grpclib leaves the deadline's timer behind
        if isinstance(exc_val, BROKEN):
            raise self.fact(exc_val) from exc_val

    async def _leave_well(self) -> None:
        """The block has ended well: has the call?"""
        try:
            await self._maybe_finish()
        except BROKEN as error:
            if isinstance(error, StreamTerminatedError):
                self._raise_if_told()
            raise self.fact(error) from error
        finally:
            self._stream.release()  # type: ignore[attr-defined]

    def _raise_if_told(self) -> None:
        """A stream that broke off after the callee said how the call ended: that is what counts."""
        try:
            self._maybe_raise()
        except BROKEN as error:
            raise self.fact(error) from error

    def _process_grpc_status(self, headers_map: dict[str, str]) -> tuple[Status, str | None, Any]:
        status, message, _ = super()._process_grpc_status(headers_map)
        detail = headers_map.get(DETAIL_TRAILER)
        return status, message, detail

    def _raise_for_grpc_status(self, status: Status, message: str | None, details: Any) -> None:
        if status is not Status.OK:
            raise error_of(status, message, _decoded(details))

    async def end_well(self) -> None:
        """Returns when the callee, who has ended its answer, says that all is well; else raises its error."""
        self._end_done = True  # what we would still send nobody reads
        await self.recv_trailing_metadata()

    def abandon(self) -> None:
        """Give the call up: the callee is told at once, and leaving the context waits for nothing."""
        self._stream.reset_nowait()
        self._cancel_done = True

    def fact(self, error: Exception) -> NanoError:
        """The model's error for what grpclib or a link raised while the call was made."""
        method = self._method_name
        match error:
            case LinkLost(fact=fact):
                return from_code(fact.code, fact.message, subject=fact.subject)
            case GRPCError():
                return error_of_grpc(error)
            case TimeoutError():
                return TimedOut(f"{method} did not answer before the call's deadline")
            case ProtocolError():
                return Corrupt(f"{method}: {error}")
        return Unreachable(f"{method} was broken off: {error}")


def _decoded(detail: str | None) -> bytes | None:
    if detail is None:
        return None
    try:
        return decode_bin_value(detail.encode("ascii"))
    except ValueError:
        return None


class Channel(grpclib.client.Channel):
    """The way to one peer, for any number of stubs and calls."""

    def __init__(self, target: str, connect: Connect, codec: CodecBase) -> None:
        super().__init__(codec=codec)
        self._scheme = "https"
        self._authority = target
        self._connect = connect

    def head(self, method: str, metadata: Any) -> list[tuple[str, str]]:
        """What a call of `method` begins with, but for the time that is left."""
        headers = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", method),
            (":authority", self._authority),
            ("te", "trailers"),
            CONTENT_TYPE,
            ("user-agent", USER_AGENT),
        ]
        if metadata:
            headers += encode_metadata(metadata)
        return headers

    async def __connect__(self) -> Any:
        return await self._connect()

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[Any],
        reply_type: type[Any],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: Any = None,
    ) -> Call:
        limits = [deadline] if deadline is not None else []
        if timeout is not None:
            limits.append(Deadline.from_timeout(timeout))
        headers: MultiDict[Any] = MultiDict(metadata or ())
        if current_task():
            headers.setdefault(TASK_HEADER, current_task())
        return Call(
            self,
            name,
            cast("Any", headers),
            cardinality,
            request_type,
            reply_type,
            codec=self._codec,
            status_details_codec=None,
            dispatch=self.__dispatch__,
            deadline=min(limits) if limits else None,
        )

    def close(self) -> None:
        """Nothing: the link belongs to the fabric and is shared with others."""
