"""The parts of a request and of a refusal that do not depend on the route: path, body, redirect, 404, 405."""

import asyncio
import html
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from nano import signature
from nano.model.errors import Invalid, TimedOut
from nano.web import bodies, envelope
from nano.web.paths import Judgement, NotAllowed, Options, Redirect

BODY_S = 30.0
"""How long a client may take over a body of JSON."""
NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_DRAIN_S = 1.0


def decoded_path(scope: Scope) -> str | None:
    """The path as it is routed and signed; None when it is not percent-encoded UTF-8."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    try:
        return signature.percent_decode(raw.partition(b"?")[0]).decode()
    except ValueError:
        return None


async def read_body(request: Request, limit: int = bodies.LIMIT_BYTES) -> bytes:
    """The body, as long as it is no longer than `limit` bytes, by default than any that we take."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise Invalid("body", f"body is longer than {limit} bytes")
    except TimeoutError:
        raise TimedOut(f"the body did not come within {BODY_S:g} s: send it again") from None
    return bytes(body)


async def drained(request: Request) -> None:
    """Takes a little of what still comes: to close at once would cost a client its answer."""
    left = bodies.LIMIT_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return
    except (ClientDisconnect, TimeoutError, RuntimeError):
        return  # gone, slow, or read to its end by the handler already


def elsewhere(judged: Judgement[Any], accept: str) -> Response:
    """What the documented router says of a path that is no route as it is written."""
    match judged:
        case Redirect(status, location):
            link = f'<a href="{html.escape(location)}">{HTTPStatus(status).phrase}</a>.\n\n'
            if status != HTTPStatus.MOVED_PERMANENTLY:
                return Response(status_code=status, headers={"Location": location})
            return Response(link, status, {"Location": location}, "text/html; charset=utf-8")
        case Options(allow):
            return Response(status_code=200, headers={"Allow": allow})
        case NotAllowed(allow):
            return refused(405, "Method Not Allowed\n", accept, {"Allow": allow})
        case _:
            return refused(404, "404 page not found\n", accept, {})


def refused(status: int, text: str, accept: str, headers: dict[str, str]) -> Response:
    if envelope.wants_problem(accept):
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        return Response(envelope.written(problem), status, headers, envelope.PROBLEM)
    return Response(text, status, headers | NO_SNIFF, envelope.TEXT)
