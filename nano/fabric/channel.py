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
from grpclib.metadata import Deadline, decode_bin_value
from h2.exceptions import StreamClosedError
from multidict import MultiDict

from nano.fabric.caller import TASK_HEADER, current_task
from nano.fabric.exchanges import LinkLost
from nano.fabric.link import Link
from nano.fabric.status import DETAIL_TRAILER, error_of, error_of_grpc
from nano.model.errors import Corrupt, NanoError, TimedOut, Unreachable, from_code

Connect = Callable[[], Awaitable[Link]]

BROKEN = (GRPCError, StreamTerminatedError, StreamClosedError, TimeoutError)
"""What grpclib and links raise; `Call.fact` says what it means."""


class Call(grpclib.client.Stream[Any, Any]):
    """One call. What goes wrong is raised as the model's error, from wherever it came."""

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
        except TimeoutError as error:
            raise self.fact(error) from error
        return self

    async def send_request(self, *, end: bool = False) -> None:
        try:
            await super().send_request(end=end)
        except TimeoutError as error:
            target = self._channel._authority
            raise Unreachable(f"{target} was not reached before the call's deadline") from error

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        except BROKEN as error:
            raise self.fact(error) from error
        finally:
            if not self._send_request_done and self._wrapper_ctx is not None:
                self._wrapper_ctx.__exit__(None, None, None)  # grpclib leaves the deadline's timer behind
        if isinstance(exc_val, BROKEN):
            raise self.fact(exc_val) from exc_val

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
