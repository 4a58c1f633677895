"""Answers requests for bodies: who may, from where, how much, and never less than announced in silence."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import structlog
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.bulk.bodies import (
    CONTENT,
    ERROR_HEADER,
    SEND_MARK_BYTES,
    BulkHandler,
    BulkInfo,
    BulkRequest,
    BulkRoles,
    error_header,
    offset_in,
    roles_for,
    size_in,
)
from nano.fabric.calls.caller import TASK_HEADER, TASK_LIMIT, Caller, answering
from nano.fabric.calls.status import http_status_of, message_of
from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.links.ends import BULK_WINDOWS
from nano.fabric.links.link import Link
from nano.model.errors import Corrupt, Forbidden, Internal, Invalid, NanoError, Unreachable, Unsupported

_log = structlog.get_logger("nano.fabric")


class BulkServer:
    """One handler, behind a table of who may do what."""

    def __init__(self, jobs: asyncio.TaskGroup, handler: BulkHandler, roles: BulkRoles) -> None:
        self._jobs = jobs
        self._handler = handler
        self._roles = roles

    def accept(self, link: Link, stream: Stream, headers: Headers) -> None:
        """Start to answer one request; its job ends with the stream released, whatever happens."""
        named = dict(headers)
        job = self._jobs.create_task(self._answer(link, stream, named), name="bulk")
        if named.get(":method") != "PUT":  # who takes a body in hears of its breaking off where it reads
            stream.job = job
        job.add_done_callback(lambda _: stream.release())

    async def _answer(self, link: Link, stream: Stream, headers: dict[str, str]) -> None:
        try:
            await self._serve(link, stream, headers)
        except (StreamClosedError, StreamTerminatedError):
            return  # nobody is there any more
        except NanoError as error:
            await _refuse(stream, error)
        except Exception as error:  # noqa: BLE001 - a handler's defect must become an answer, whatever it is
            correlation = secrets.token_hex(6)
            _log.error("bulk.failed", path=headers.get(":path"), correlation=correlation, exc_info=error)
            await _refuse(stream, Internal(f"a defect of ours, logged as {correlation}", subject=correlation))

    async def _serve(self, link: Link, stream: Stream, headers: dict[str, str]) -> None:
        method, path = headers.get(":method", ""), headers.get(":path", "")
        if link.peer.role not in roles_for(self._roles, method, path):
            raise Forbidden(f"{link.peer} may not {method} {path[:200]}", subject=str(link.peer))
        task = headers.get(TASK_HEADER, "")[:TASK_LIMIT]
        with answering(Caller(link.peer, None, task)):
            match method:
                case "GET":
                    await self._get(stream, _request(path, headers))
                case "HEAD":
                    info = await self._handler.head(_request(path, headers))
                    await stream.send_headers(_head(info, 200, info.size_bytes), end_stream=True)
                case "PUT":
                    link.quic.widen(BULK_WINDOWS)
                    await self._put(stream, _request(path, headers))
                case _:
                    raise Unsupported(f"{method} is not offered: use GET, HEAD or PUT")

    async def _get(self, stream: Stream, request: BulkRequest) -> None:
        body = await self._handler.get(request)
        total = body.info.size_bytes
        if total is not None and request.offset > total:
            raise Invalid("range", f"{request.path} has {total} bytes: nothing begins at {request.offset}")
        length = None if total is None else total - request.offset
        head = _head(body.info, 206 if request.offset else 200, length)
        if request.offset and total is not None:
            head.append(("content-range", f"bytes {request.offset}-{max(total - 1, 0)}/{total}"))
        await stream.send_headers(head)
        stream.send_mark_bytes = SEND_MARK_BYTES
        sent = 0
        async for chunk in body.chunks:
            sent += len(chunk)
            await stream.send_data(chunk)
        if length is not None and sent != length:
            raise Corrupt(f"{request.path} gave {sent} bytes where {length} were announced")
        await stream.end()

    async def _put(self, stream: Stream, request: BulkRequest) -> None:
        headers = await self._handler.put(request, _incoming(stream, request))
        await stream.send_headers(_head(BulkInfo(None, headers), 200, None), end_stream=True)


async def _incoming(stream: Stream, request: BulkRequest) -> AsyncIterator[bytes]:
    received = 0
    try:
        while part := await stream.receive_some():
            received += len(part)
            yield part
    except StreamTerminatedError as error:
        raise Unreachable(f"{request.path} broke off after {received} bytes") from error
    if request.size_bytes is not None and received != request.size_bytes:
        raise Corrupt(f"{request.path} brought {received} bytes where {request.size_bytes} were announced")


def _request(path: str, headers: dict[str, str]) -> BulkRequest:
    own = {name: value for name, value in headers.items() if not name.startswith(":")}
    return BulkRequest(path, offset_in(own.get("range")), size_in(own.get("content-length")), own)


def _head(info: BulkInfo, status: int, length: int | None) -> Headers:
    head = [(":status", str(status)), CONTENT]
    if length is not None:
        head.append(("content-length", str(length)))
    return [*head, *info.headers.items()]


async def _refuse(stream: Stream, error: NanoError) -> None:
    """Say what is wrong; once the body has begun, only breaking it off is left, which `release` does."""
    if stream.sent_headers:
        _log.warning("bulk.broken_off", reason=str(error))
        return
    head = [(":status", str(http_status_of(error))), ("content-type", "text/plain; charset=utf-8")]
    with contextlib.suppress(StreamClosedError, StreamTerminatedError):
        await stream.send_headers([*head, (ERROR_HEADER, error_header(error))])
        await stream.send_data(message_of(error).encode(), end_stream=True)
