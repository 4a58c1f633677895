"""The door: every request comes in here, is found, believed, read, handled and answered."""

import hashlib

import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from nano import signature
from nano.web.door import Door, check_upgrade, decoded, response
from nano.web.keys import Credential
from nano.web.query import Query
from nano.web.requests import decoded_path, read_body
from services.gateway import cursor, writes
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.keyring import Keyring, SignedRequest
from services.gateway.routes import (
    address_pools,
    applicants,
    authority,
    compute_pool_cells,
    compute_pools,
    consoles,
    disk_images,
    events,
    guest_search,
    guests,
    instances,
    join_tokens,
    media_images,
    members,
    openapi,
    samples,
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
    *samples.ROUTES,
    *consoles.ROUTES,
    *join_tokens.ROUTES,
    *applicants.ROUTES,
    *members.ROUTES,
    *authority.ROUTES,
)
ROUTES = (*DOCUMENTED, openapi.route(DOCUMENTED))
"""Every row of the API."""


class App:
    """The ASGI application."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway = gateway
        self._keyring = keyring
        self._door = Door("gateway", ROUTES, self._handled)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)

    async def _handled(self, request: Request, route: Route) -> Response:
        path = decoded_path(request.scope) or ""
        raw = path.encode()
        is_stream = signature.is_stream(raw)
        body = b"" if is_stream else await read_body(request)
        credential = None if route.is_open else self._believed(request, raw, body)
        check_upgrade(request, route)
        for book in route.reads:
            await self._seen(book)
        is_behind = not await self._caught_up(request)
        call = Call(
            self._gateway,
            request,
            request.path_params,
            Query(request.scope["query_string"]),
            credential,
            decoded(route, body),
            hashlib.sha256(f"{request.method} {path}\n".encode() + body).hexdigest(),
        )
        answer = response(await route.handler(call))
        if is_behind:
            answer.headers[writes.BEHIND] = "behind"
        self._tell_age(route, answer)
        return answer

    def _tell_age(self, route: Route, answer: Response) -> None:
        now_s = self._gateway.monotonic_s()
        replicas = self._gateway.view.replicas
        age_s = max((replicas[book].age_s(now_s) for book in route.reads), default=0.0)
        if age_s:
            answer.headers[REPLICA_AGE] = f"{age_s:.1f}"

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
