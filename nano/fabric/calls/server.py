"""Answers calls: finds the handler, checks who may call it, says who called, turns errors into statuses.

Handlers are what betterproto2 generates for grpclib, unchanged; `answer.py` runs them.
"""

import asyncio
import binascii
import contextlib
import secrets
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import structlog
from grpclib.const import Handler as Method
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline, decode_metadata, encode_bin_value, encode_grpc_message
from grpclib.server import Stream as Call
from h2.exceptions import StreamClosedError

from nano.fabric.calls.answer import answer, has_metadata
from nano.fabric.calls.caller import TASK_HEADER, TASK_LIMIT, Caller, answering
from nano.fabric.calls.status import DETAIL_TRAILER, detail_of, message_of, status_of
from nano.fabric.http3.stream import Headers, Stream
from nano.model.errors import Exhausted, Forbidden, Internal, Invalid, NanoError, TimedOut
from nano.model.peers import Peer, Role

if TYPE_CHECKING:
    from grpclib._typing import IServable

CALL_LIMIT = 20_000
"""Calls that may be open at one server. Beyond it a call is refused at once rather than queued."""

_RETRY_AFTER_S = 1.0

_log = structlog.get_logger("nano.fabric")

Roles = Mapping[str, frozenset[Role]]
"""Which roles may call a method, by its full name: `/nano.v1.Scheduler/CreateInstance`."""


class CallServer:
    """All handlers of one process."""

    def __init__(self, jobs: asyncio.TaskGroup, codec: CodecBase) -> None:
        self._jobs = jobs
        self._codec = codec
        self._methods: dict[str, Method] = {}
        self._open = 0
        self._idle: asyncio.Future[None] | None = None

    def add(self, handlers: "Collection[IServable]", roles: Roles) -> None:
        """Serve `handlers` from now on. A row of `roles` for a method that none of them has is `Invalid`."""
        found = {name: method for handler in handlers for name, method in handler.__mapping__().items()}
        unknown = sorted(roles.keys() - found.keys())
        if unknown:
            raise Invalid("roles", f"the role table names methods that no handler has: {', '.join(unknown)}")
        for name, method in found.items():
            self._methods[name] = _guarded(name, method, roles.get(name, frozenset()))

    def accept(self, stream: Stream, headers: Headers, refusal: NanoError | None = None) -> None:
        """Start to answer one request; its job ends with the stream released, whatever happens.

        With a `refusal` that is the answer, whatever was asked.
        """
        answer = self._answer(stream, headers, refusal)
        job = self._jobs.create_task(answer, name=dict(headers).get(":path", "call"))
        stream.job = job
        self._open += 1
        job.add_done_callback(lambda _: self._done(stream))

    def _done(self, stream: Stream) -> None:
        self._open -= 1
        stream.release()
        if not self._open and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Return when no call is open."""
        while self._open:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    async def _answer(self, stream: Stream, headers: Headers, refusal: NanoError | None) -> None:
        error = refusal or _flaw(headers)
        if error is None and self._open > CALL_LIMIT:
            error = Exhausted(
                f"{CALL_LIMIT} calls are open here: try again later", retry_after_s=_RETRY_AFTER_S
            )
        if error is not None:
            await _refuse(stream, error)
            return
        await answer(self._methods, stream, headers, self._codec)


def _flaw(headers: Headers) -> NanoError | None:
    """What grpclib would stumble over, as the error to answer with."""
    head = dict(headers)
    if ":path" not in head:
        return Invalid(":path", "the request has no path")
    if not has_metadata(head) and "grpc-timeout" not in head:
        return None
    try:
        decode_metadata(headers)
        deadline = Deadline.from_headers(headers)
    except (ValueError, binascii.Error) as error:
        return Invalid("metadata", f"the metadata cannot be read: {error}")
    if deadline is not None and not deadline.time_remaining():
        return TimedOut("the call's deadline had passed when it arrived")
    return None


async def _refuse(stream: Stream, error: NanoError) -> None:
    """Answer without a handler, trailers only."""
    headers = [
        (":status", "200"),
        ("grpc-status", str(status_of(error).value)),
        ("grpc-message", encode_grpc_message(message_of(error))),
        (DETAIL_TRAILER, encode_bin_value(detail_of(error)).decode("ascii")),
    ]
    with contextlib.suppress(StreamClosedError):
        await stream.send_headers(headers, end_stream=True)


def _guarded(name: str, method: Method, roles: frozenset[Role]) -> Method:
    """`method` for callers of `roles` only, with its errors made into statuses."""

    async def guarded(call: Call[Any, Any]) -> None:
        try:
            await _run(name, method, roles, call)
        except (GRPCError, StreamClosedError, asyncio.CancelledError):
            raise
        except NanoError as error:
            await _fail(call, error)
        except Exception as error:  # noqa: BLE001 - a handler's defect must become a status, whatever it is
            await _fail(call, _logged(name, call, error))

    return Method(guarded, method.cardinality, method.request_type, method.reply_type)


async def _run(name: str, method: Method, roles: frozenset[Role], call: Call[Any, Any]) -> None:
    peer = cast("Peer", call.peer)
    if peer.role not in roles:
        raise Forbidden(f"{peer} may not call {name}", subject=str(peer))
    task = "" if call.metadata is None else str(call.metadata.get(TASK_HEADER, ""))[:TASK_LIMIT]
    link = cast("Stream", call._stream).exchanges
    with answering(Caller(peer, call.deadline, task, link.fingerprint, link.host)):
        await method.func(call)


async def _fail(call: Call[Any, Any], error: NanoError) -> None:
    try:
        await call.send_trailing_metadata(
            status=status_of(error),
            status_message=message_of(error),
            metadata={DETAIL_TRAILER: detail_of(error)},
        )
    except StreamClosedError:
        return  # nobody waits for the answer any more


def _logged(name: str, call: Call[Any, Any], error: Exception) -> Internal:
    """Write down a defect once, and give the caller the id to find it by."""
    correlation = secrets.token_hex(6)
    _log.error("call.failed", method=name, peer=str(call.peer), correlation=correlation, exc_info=error)
    return Internal(
        f"{name} failed by a defect of ours: it is in the log of this service as {correlation}",
        subject=correlation,
    )
