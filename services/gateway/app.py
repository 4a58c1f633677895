"""The door: every request comes in here, is found, believed, read, handled and answered.

FastAPI finds the route of a path as it is documented; what it does not find, `paths.py` judges as the
documented router would: another spelling, another method, or nothing that we know.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from nano import signature
from nano.model.errors import Internal, NanoError
from nano.web import bodies, envelope
from nano.web.envelope import Answer
from nano.web.keys import Credential
from nano.web.paths import CATCH_ALL, Routes
from nano.web.query import Query
from nano.web.requests import NO_SNIFF, decoded_path, drained, elsewhere, read_body
from services.gateway import cursor, writes
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.keyring import Keyring, SignedRequest
from services.gateway.routes import (
    address_pools,
    compute_pool_cells,
    compute_pools,
    disk_images,
    events,
    guest_search,
    guests,
    instances,
    media_images,
    openapi,
    tasks,
    templates,
    usage,
)

REPLICA_AGE = "Nano-Replica-Age"
"""Seconds for which the book behind an answer has not been heard of; only there when it is not heard now."""

_log = structlog.get_logger("nano.gateway")

DOCUMENTED = (
    *compute_pools.ROUTES,
    *compute_pool_cells.ROUTES,
    *usage.ROUTES,
    *templates.ROUTES,
    *address_pools.ROUTES,
    *media_images.ROUTES,
    *disk_images.ROUTES,
    *guests.ROUTES,
    *guest_search.ROUTES,
    *instances.ROUTES,
    *tasks.ROUTES,
    *events.ROUTES,
)
ROUTES = (*DOCUMENTED, openapi.route(DOCUMENTED))
"""Every row of the API."""
_FIXED_FIRST = sorted(ROUTES, key=lambda route: route.path.count("{") + route.path.endswith(CATCH_ALL))
"""A path with fixed words wins over one with names in their place; FastAPI takes the first that fits."""


class App:
    """The ASGI application. It speaks HTTP only: uvicorn is told to offer it nothing else."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway = gateway
        self._keyring = keyring
        self._routes = Routes([(route.method, route.full_path, route) for route in ROUTES])
        self._api = self._made_api()

    def _made_api(self) -> FastAPI:
        """FastAPI's own pages and description are off: `routes/openapi.py` says what is documented."""
        api = FastAPI(title="Nano", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        for route in _FIXED_FIRST:
            api.add_api_route(
                route.full_path.replace(CATCH_ALL, "{rest:path}"),
                self._endpoint(route),
                methods=[route.method],
                name=route.handler.__name__,
                response_model=None,
            )
        api.add_exception_handler(HTTPException, self._not_found)
        return api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if decoded_path(scope) is None:
            malformed = Response("400 malformed path\n", 400, NO_SNIFF, envelope.TEXT)
            await malformed(scope, receive, send)
            return
        try:
            await self._api(scope, receive, send)
        except NanoError as error:  # behind its head an answer can only be broken off: uvicorn closes
            _log.warning("request.broken_off", path=scope["path"], code=error.code, error=error.message)

    def _endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answered(request, route)

        return answer

    async def _not_found(self, request: Request, _error: Exception) -> Response:
        """No route of that path and method: as the documented router has it."""
        path = decoded_path(request.scope) or ""
        judged = self._routes.judge(request.method, path, request.url.query)
        return elsewhere(judged, request.headers.get("accept", ""))

    async def _answered(self, request: Request, route: Route) -> Response:
        accept = request.headers.get("accept", "")
        try:
            return await self._handled(request, route, decoded_path(request.scope) or "")
        except NanoError as error:
            failure = envelope.failure(error, accept=accept)
        except ClientDisconnect:
            failure = Answer(b"")  # nobody reads it
        except Exception as error:  # noqa: BLE001 - the edge: a defect costs one request, and is logged
            failure = envelope.failure(_defect(error, request), accept=accept)
        if route.is_upload:
            failure.headers["Connection"] = "close"
            await drained(request)
        return _response(failure)

    async def _handled(self, request: Request, route: Route, path: str) -> Response:
        raw = path.encode()
        is_stream = signature.is_stream(raw)
        body = b"" if is_stream else await read_body(request)
        credential = None if route.is_open else self._believed(request, raw, body)
        for book in route.reads:
            await self._seen(book)
        is_behind = not await self._caught_up(request)
        call = Call(
            self._gateway,
            request,
            request.path_params,
            Query(request.scope["query_string"]),
            credential,
            _decoded(route, body),
            hashlib.sha256(f"{request.method} {path}\n".encode() + body).hexdigest(),
        )
        answer = await route.handler(call)
        response = answer if isinstance(answer, Response) else _response(answer)
        if is_behind:
            response.headers[writes.BEHIND] = "behind"
        self._tell_age(route, response)
        return response

    def _tell_age(self, route: Route, response: Response) -> None:
        now_s = self._gateway.monotonic_s()
        replicas = self._gateway.view.replicas
        age_s = max((replicas[book].age_s(now_s) for book in route.reads), default=0.0)
        if age_s:
            response.headers[REPLICA_AGE] = f"{age_s:.1f}"

    def _believed(self, request: Request, path: bytes, body: bytes) -> Credential:
        headers: dict[str, str] = {}
        for name, value in request.scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), value.decode(errors="replace"))
        parts = signature.Request(
            path,
            request.scope["query_string"],
            headers,
            signature.body_digest(request.method, path, body),
        )
        signed = SignedRequest(parts, headers.get(signature.AUTHORIZATION, "").strip())
        return self._keyring.verify(signed, self._gateway.now_ms() / 1000)

    async def _seen(self, book: Book) -> None:
        """A gateway that has just started waits a moment for its replicas instead of refusing."""
        view = self._gateway.view
        await self._gateway.bell.until(lambda: view.replicas[book].position is not None, writes.HELD_S)
        view.need(book)

    async def _caught_up(self, request: Request) -> bool:
        """Whoever wrote through another gateway reads here what it wrote, or is told that it does not."""
        text = request.headers.get(writes.REVISION, "")
        if not text:
            return True
        wanted = cursor.read(text, writes.REVISION)
        view = self._gateway.view
        return await self._gateway.bell.until(lambda: view.has_seen(wanted), writes.HELD_S)


def _decoded(route: Route, body: bytes) -> Any:
    if route.body is None:
        return None
    return bodies.decode(b"{}" if route.may_be_empty and not body.strip() else body, route.body)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


def _defect(error: Exception, request: Request) -> Internal:
    name = secrets.token_hex(6)
    _log.error("request.crashed", defect=name, method=request.method, path=request.url.path, exc_info=error)
    return Internal(f"this is a defect of ours, logged as {name}: look into the gateway's log", subject=name)
