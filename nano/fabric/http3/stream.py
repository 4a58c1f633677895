"""One request and its answer: what grpclib calls `protocol.Stream`, on a stream of HTTP/3.

grpclib's client and server reach for some fifteen members; they are grouped at the end under its names. Bulk
transfers use the same class without gRPC's framing.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.http3 import header_blocks
from nano.fabric.http3.framing import PREFIX_BYTES, message_size
from nano.fabric.packets.quic import KIB

if TYPE_CHECKING:
    from nano.fabric.http3.exchanges import Exchanges

Headers = header_blocks.Headers

CONTENT_TYPE = ("content-type", "application/grpc")

SEND_MARK_BYTES = 512 * KIB
"""Unsent bytes of one stream at which its sender waits, unless the stream says otherwise."""


class Cancellable(Protocol):
    """grpclib's `Wrapper`: it wakes whoever waits on the call."""

    def cancel(self, error: Exception) -> None: ...


class Truncated(StreamTerminatedError):
    """The stream ended in the middle of a message."""


class Inbox:
    """Bytes that came and wait to be consumed, in order; one reader.

    `consumed` is told as bytes are taken out, and only then: that is what opens the sender's window.
    """

    __slots__ = ("_consumed", "_ended", "_error", "_parts", "_waiter")

    def __init__(self, consumed: Callable[[int], object]) -> None:
        self._consumed = consumed
        self._parts: list[bytes] = []
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing more will come; the reader is told why, also when it has not read all that came."""
        self._error = self._error or error
        self._wake()

    def message(self) -> bytes | None:
        """The next message, if it is the next piece, whole and alone: nearly all small ones are."""
        if self._parts:
            part = self._parts[0]
            if len(part) >= PREFIX_BYTES and len(part) - PREFIX_BYTES == message_size(part[:PREFIX_BYTES]):
                del self._parts[0]
                self._consumed(len(part))
                return part[PREFIX_BYTES:]
        return None

    async def some(self) -> bytes:
        """What has come next, in whatever size; empty at the end."""
        if not await self._has_more():
            return b""
        part = self._parts.pop(0)
        self._consumed(len(part))
        return part

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes; none if the stream ended before the first, `Truncated` if before the last."""
        found: list[bytes] = []
        missing = size
        while missing:
            if not await self._has_more():
                if not found:
                    return b""
                raise Truncated(f"the stream ended {missing} bytes before the end of a message of {size}")
            part = self._take(missing)
            found.append(part)
            missing -= len(part)
        return found[0] if len(found) == 1 else b"".join(found)

    def _take(self, limit: int) -> bytes:
        part = self._parts[0]
        if len(part) > limit:
            self._parts[0] = part[limit:]
            part = part[:limit]
        else:
            del self._parts[0]
        self._consumed(len(part))
        return part

    async def _has_more(self) -> bool:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._ended:
                return False
            await self._wait()
        return True

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Stream:
    """One request on one link. Frames that come move it forward; grpclib, or bulk, drives it.

    Nothing here refers back to it: a call that is over is freed at once, not by the collector of cycles.
    """

    __slots__ = (
        "_changed",
        "error",
        "exchanges",
        "headers",
        "id",
        "inbox",
        "job",
        "received_end",
        "released",
        "send_mark_bytes",
        "sent_end",
        "sent_headers",
        "trailers",
        "unwanted",
        "wrapper",
    )

    inbox: Inbox
    """What has come of the body; there is none before the stream is open."""

    def __init__(
        self, exchanges: "Exchanges", stream_id: int | None = None, wrapper: Cancellable | None = None
    ) -> None:
        self.exchanges = exchanges
        self.id = -1
        self.wrapper = wrapper
        self.job: asyncio.Task[None] | None = None
        """On the server: what answers the request."""
        self.headers: Headers | None = None
        self.trailers: Headers | None = None
        self.sent_headers = self.sent_end = self.received_end = self.released = False
        self.unwanted = False
        """The peer has answered without waiting for the rest: what is still sent would be thrown away."""
        self.error: StreamTerminatedError | None = None
        self.send_mark_bytes = SEND_MARK_BYTES
        self._changed: asyncio.Future[None] | None = None
        if stream_id is not None:
            self.opened(stream_id)

    # what the link tells

    def opened(self, stream_id: int) -> None:
        self.id = stream_id
        self.inbox = Inbox(functools.partial(self.exchanges.consumed, stream_id))

    def headers_came(self, headers: Headers, *, last: bool) -> None:
        """A header block: the head of the message, or its trailers, or both in one if nothing is between."""
        if self.headers is None:
            self.headers = headers
            if last:
                self.trailers = headers
        else:
            self.trailers = headers
        self._change()

    def data_came(self, data: bytes) -> None:
        self.inbox.add(data)

    def ended(self) -> None:
        self.received_end = True
        self.inbox.end()
        self._change()

    def terminate(self, error: StreamTerminatedError) -> None:
        """The stream is over before its end: wake and tell whoever reads, writes or answers."""
        if self.error is not None:
            return
        self.error = error
        self.inbox.fail(error)
        self._change()
        if self.wrapper is not None:
            self.wrapper.cancel(error)
        elif self.job is not None:
            self.job.cancel()

    def release(self) -> None:
        """Nobody needs the stream any more, finished or not."""
        self.exchanges.release(self)

    async def receive_some(self) -> bytes:
        """The next piece of a body, in whatever size; empty at its end."""
        return await self.inbox.some()

    def _change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _wait(self) -> None:
        if self.error is not None:
            raise self.error
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None

    # grpclib's names

    @property
    def connection(self) -> "Exchanges":
        return self.exchanges

    @property
    def _transport(self) -> "Stream":
        return self

    def is_closing(self) -> bool:
        """Never: grpclib would take a call on a closing transport for a finished one, without its status."""
        return False

    @property
    def closable(self) -> bool:
        return self.error is None and not (self.sent_end and self.received_end)

    async def send_request(
        self, headers: Headers, end_stream: bool = False, *, _processor: object = None
    ) -> Callable[[], None]:
        """Open the stream, when the peer allows one more, and send the head; gives what releases it."""
        await self.exchanges.open_stream(self)
        self.exchanges.send_headers(self, headers, end=end_stream)
        return self.release

    async def send_headers(self, headers: Headers, end_stream: bool = False) -> None:
        """Send the head of an answer, or its trailers.

        Each answer says what it is: without a content type the client takes an error for a foreign page.
        """
        self.say_headers(headers, end=end_stream)

    def say_headers(self, headers: Headers, *, end: bool) -> None:
        if self.error is not None or self.sent_end:
            raise StreamClosedError(self.id)
        if not self.sent_headers and all(name != "content-type" for name, _ in headers):
            headers = [*headers[:1], CONTENT_TYPE, *headers[1:]]
        self.exchanges.send_headers(self, headers, end=end)

    def say_data(self, data: bytes, *, end: bool) -> bool:
        """Send at once, if there is room; False if somebody has to wait, or to be told why not."""
        if self.unwanted or self.error is not None:
            return False
        return self.exchanges.say_data(self, data, end=end)

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send, once there is room. What the peer has no use for any more is dropped: its answer counts."""
        if self.unwanted:
            self._raise_if_refused()
            return
        if self.error is not None:
            raise StreamClosedError(self.id)
        await self.exchanges.send_data(self, data, end=end_stream)

    def _raise_if_refused(self) -> None:
        status = dict(self.trailers or ()).get("grpc-status", "0")
        if status != "0":
            raise StreamTerminatedError(f"the peer ended the call with status {status}")

    async def end(self) -> None:
        await self.send_data(b"", end_stream=True)

    async def recv_headers(self) -> Headers:
        while self.headers is None:
            await self._wait()
        return self.headers

    async def receive_message(self) -> bytes | None:
        """The next message without its prefix; None at the end."""
        message = self.inbox.message()
        if message is not None:
            return message
        prefix = await self.inbox.read(PREFIX_BYTES)
        if not prefix:
            return None
        size = message_size(prefix)
        data = await self.inbox.read(size)
        if len(data) < size:
            raise Truncated("the stream ended between the head of a message and its body")
        return data

    async def recv_trailers(self) -> Headers:
        while self.trailers is None:
            if self.received_end:
                raise StreamTerminatedError("the peer ended the stream without a status")
            await self._wait()
        return self.trailers

    async def reset(self, error_code: object = None) -> None:
        self.reset_nowait(error_code)

    def reset_nowait(self, error_code: object = None) -> None:
        del error_code  # grpclib's are HTTP/2's; ours is always "cancelled"
        self.exchanges.reset(self)


def keep_short(call: Any, unsent_bytes: int) -> None:
    """Have the sender of a call, grpclib's of either side, wait already when so many bytes are unsent.

    For streams whose reader may stop for good: what waits for it is held here. To be called once the call is
    begun.
    """
    stream: Stream = call._stream
    stream.send_mark_bytes = unsent_bytes
