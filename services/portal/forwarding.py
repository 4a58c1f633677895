"""A call passed on to the gateway: signed anew, with what may pass of its head, and its answer passed
back."""

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx
import msgspec
from fastapi import Response

from nano.model.errors import Invalid
from nano.web.streamed import Streamed
from services.portal.call import API, Call
from services.portal.upstream import Query, Request, problem

FAILURE = "nano-failure"
"""Carries a failure's words from here to the operation log; it never leaves the process."""

_PASSED_ON = (
    "accept",
    "content-type",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "user-agent",
)
_PASSED_BACK = (
    *("content-type", "content-disposition", "content-transfer-encoding", "content-range", "accept-ranges"),
    *("etag", "last-modified", "cache-control", "expires", "pragma", "signature", "retry-after", "location"),
    *("nano-task", "nano-revision", "nano-replica", "nano-replica-age"),
)

Members: TypeAlias = dict[str, Any]


async def forward(call: Call[Any], *, query: Query | None = None, body: bytes | None = None) -> Response:
    """The gateway's answer to this call, with another query or body where the scope asks for it."""
    reply = await call.portal.upstream.call(_request(call, query, call.raw_body if body is None else body))
    _check_believed(reply)
    headers = _passed_back(reply)
    failure = _failure(reply)
    if failure:
        headers[FAILURE] = failure
    return Response(reply.content, reply.status_code, headers)


async def forward_stream(call: Call[Any]) -> Response:
    """The same for bodies of any length, which pass piece by piece both ways."""
    async with AsyncExitStack() as opened:
        opened.enter_context(call.portal.transfers.held(call.who.user))
        content = call.request.stream() if call.request.method != "GET" else None
        reply = await opened.enter_async_context(
            call.portal.upstream.stream(_request(call, None, b""), content)
        )
        headers = _passed_back(reply)
        if "content-length" in reply.headers:
            headers["content-length"] = reply.headers["content-length"]
        if not reply.headers.get("content-type", "").startswith("application/octet-stream"):
            await reply.aread()
            _check_believed(reply)
            return Response(reply.content, reply.status_code, _passed_back(reply) | _told(_failure(reply)))
        return Streamed(
            _pieces(reply, opened.pop_all()), reply.status_code, reply.headers["content-type"], headers
        )


async def _pieces(reply: httpx.Response, opened: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    async with opened:
        async for piece in reply.aiter_raw():
            yield piece


def _request(call: Call[Any], query: Query | None, body: bytes) -> Request:
    """The path is built anew from its parts, so that a part stays one whatever is in it."""
    received = call.request.headers
    headers = {name: received[name] for name in _PASSED_ON if name in received}
    headers["x-forwarded-for"] = call.address
    key = received.get("idempotency-key", "")
    if key:  # all users share our credential: one's key must not name another's task
        headers["idempotency-key"] = hashlib.sha256(f"{call.who.user}\0{key}".encode()).hexdigest()
    return Request(
        call.request.method,
        path_of(call),
        call.by.session.label,
        call.query.pairs if query is None else query,
        body,
        headers,
    )


def is_name(text: str) -> bool:
    """Whether it stays one part of a path, whoever reads it: httpx and others take dots for directions."""
    return text not in {"", ".", ".."} and "/" not in text


def path_of(call: Call[Any]) -> str:
    """Where the gateway has the route of a call; `Invalid` names a part that would be more than one."""
    template: str = call.request.scope["route"].path
    path = template.removeprefix(API).replace("{rest:path}", "")
    for name, value in call.params.items():
        if name != "rest" and not is_name(value):
            raise Invalid(name, f"{name} {value!r:.80} is not a name")
        path = path.replace("{" + name + "}", value)
    return path


def _check_believed(reply: httpx.Response) -> None:
    """Raises when the gateway does not believe the portal: passed back it would end the caller's session."""
    if reply.status_code == HTTPStatus.UNAUTHORIZED:
        raise problem(reply.content)


def _passed_back(reply: httpx.Response) -> dict[str, str]:
    return {name: reply.headers[name] for name in _PASSED_BACK if name in reply.headers}


def _told(failure: str) -> dict[str, str]:
    return {FAILURE: failure} if failure else {}


class _Told(msgspec.Struct):
    """What a failure says of itself, in either form."""

    error_code: int = 0
    message: str = ""
    detail: str = ""


def _failure(reply: httpx.Response) -> str:
    """The words of a failure in one header's line, percent-encoded; empty for a success."""
    try:
        told = msgspec.json.decode(reply.content, type=_Told)
    except msgspec.DecodeError:
        told = _Told()
    if not told.error_code and not reply.is_error:
        return ""
    return quote(told.detail or told.message or f"status {reply.status_code}", safe=" ,:;()'/-_.=")


def members(body: bytes, judged: tuple[str, ...]) -> Members:
    """The members of a JSON object, those that are judged here under their own spelling.

    The gateway reads names without regard to case and a null as if it were missing (`nano.web.bodies`), so
    this does the same, and drops every other spelling: it must not be read there as what was refused here.
    Whoever judges a body by this sends what this gives, `written`, and not what came.
    """
    try:
        document = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("body", f"body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Invalid("body", "body is not a JSON object")
    found = {name: value for name, value in document.items() if name.casefold() not in judged}
    for name, value in sorted(document.items(), key=lambda pair: pair[0] in judged):
        if name.casefold() in judged and value is not None:
            found[name.casefold()] = value
    return found


def written(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(dict(body))
