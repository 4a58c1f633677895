"""The door: every request comes in here, is found, its session believed, its menu looked at, and then
handled.

As in the gateway FastAPI finds the route, and what it does not find is judged as the documented router would;
what lies outside of the API is a page.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from nano.model.errors import Internal, NanoError
from nano.web import bodies, envelope
from nano.web.envelope import Answer
from nano.web.paths import CATCH_ALL, Routes
from nano.web.query import Query
from nano.web.requests import NO_SNIFF, decoded_path, drained, elsewhere, read_body
from services.portal.access import check_menu
from services.portal.call import API, Call, Caller, Portal, Route
from services.portal.callers import address_of, caller_of, check_site
from services.portal.pages import SAFE, Pages
from services.portal.routes import (
    forwarded,
    live,
    logs,
    monitor_channels,
    resource_visibilities,
    roles,
    sessions,
    system,
    user_groups,
    users,
)

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *sessions.ROUTES,
    *users.ROUTES,
    *user_groups.ROUTES,
    *roles.ROUTES,
    *resource_visibilities.ROUTES,
    *logs.ROUTES,
    *monitor_channels.ROUTES,
    *forwarded.ROUTES,
)
"""Every row of the portal's API; two websockets come on top."""
SOCKETS = (("/live/", live.serve), ("/monitor_channels/{id}", monitor_channels.serve))
_FIXED_FIRST = sorted(ROUTES, key=lambda route: route.path.count("{") + route.path.endswith(CATCH_ALL))

_log = structlog.get_logger("nano.portal")


class App:
    """The ASGI application."""

    def __init__(self, portal: Portal, pages: Pages) -> None:
        self._portal = portal
        self._pages = pages
        self._routes = Routes([(route.method, route.full_path, route) for route in ROUTES])
        self._api = self._made_api()

    def _made_api(self) -> FastAPI:
        api = FastAPI(title="Nano", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        for route in _FIXED_FIRST:
            api.add_api_route(
                route.full_path.replace(CATCH_ALL, "{rest:path}"),
                self._endpoint(route),
                methods=[route.method],
                response_model=None,
            )
        for path, serve in SOCKETS:
            api.add_api_websocket_route(API + path, self._socket(serve))
        api.add_exception_handler(HTTPException, self._not_found)
        return api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = _with_headers(send)
        if decoded_path(scope) is None:
            await Response("400 malformed path\n", 400, NO_SNIFF, envelope.TEXT)(scope, receive, answered)
            return
        try:
            await self._api(scope, receive, answered)
        except NanoError as error:  # behind its head an answer can only be broken off: uvicorn closes
            _log.warning("request.broken_off", path=scope["path"], code=error.code, error=error.message)

    def _endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answered(request, route)

        return answer

    def _socket(
        self, serve: Callable[[Portal, WebSocket], Awaitable[None]]
    ) -> Callable[[WebSocket], Awaitable[None]]:
        async def accept(websocket: WebSocket) -> None:
            try:
                check_site(websocket, "POST", self._portal.config.origins)
                await serve(self._portal, websocket)
            except NanoError as error:  # raised before it was accepted: an ordinary answer
                failure = _failure(error, websocket.headers.get("accept", ""))
                await websocket.send_denial_response(_response(failure))

        return accept

    async def _not_found(self, request: Request, _error: Exception) -> Response:
        """No route of that path and method: a page, or what the documented router says."""
        path = decoded_path(request.scope) or ""
        if request.method in {"GET", "HEAD"} and not path.startswith(f"{API}/"):
            page = self._pages.answer(path, request.headers.get("accept-encoding", ""))
            if page is not None:
                return page
        judged = self._routes.judge(request.method, path, request.url.query)
        return elsewhere(judged, request.headers.get("accept", ""))

    async def _answered(self, request: Request, route: Route) -> Response:
        accept = request.headers.get("accept", "")
        try:
            return await self._handled(request, route)
        except NanoError as error:
            failure = _failure(error, accept)
        except ClientDisconnect:
            failure = Answer(b"")  # nobody reads it
        except Exception as error:  # noqa: BLE001 - the edge: a defect costs one request, and is logged
            failure = _failure(_defect(error, request), accept)
        if route.is_stream:
            failure.headers["Connection"] = "close"
            await drained(request)
        return _response(failure)

    async def _handled(self, request: Request, route: Route) -> Response:
        portal = self._portal
        check_site(request, request.method, portal.config.origins)
        caller = None if route.is_open else caller_of(portal, request)
        if caller is not None:
            check_menu(caller.who.menu, route.menus, route.summary.lower())
        body = b"" if route.is_stream else await read_body(request)
        call = Call(
            portal,
            request,
            request.path_params,
            Query(request.scope["query_string"]),
            address_of(request, portal.config.trusted_proxies),
            _decoded(route, body),
            body,
            caller,
        )
        if route.said is None or caller is None:
            return _as_response(await route.handler(call))
        return await self._told(call, caller, route, route.said(call))

    async def _told(self, call: Call[Any], caller: Caller, route: Route, said: str) -> Response:
        """What changes something is in the log before it is done, and once more when it was not done."""
        line = f"{caller.named} : {said}"
        await self._portal.log.write(line)
        try:
            response = _as_response(await route.handler(call))
        except NanoError as error:
            await self._portal.log.write(f"{line} : failed: {error.message}")
            raise
        failure = _failure_in(response)
        if failure:
            await self._portal.log.write(f"{line} : failed: {failure}")
        return response


def _decoded(route: Route, body: bytes) -> Any:
    if route.body is None:
        return None
    return bodies.decode(b"{}" if route.may_be_empty and not body.strip() else body, route.body)


def _as_response(answer: Answer | Response) -> Response:
    return answer if isinstance(answer, Response) else _response(answer)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


def _failure(error: NanoError, accept: str) -> Answer:
    return envelope.failure(error, accept=accept, no_data="")


def _failure_in(response: Response) -> str:
    """The words of a failure that the gateway answered; empty for a success."""
    return str(response.headers.get(forwarded.FAILURE, ""))


def _defect(error: Exception, request: HTTPConnection) -> Internal:
    name = secrets.token_hex(6)
    _log.error("request.crashed", defect=name, path=request.url.path, exc_info=error)
    return Internal(f"this is a defect of ours, logged as {name}: look into the portal's log", subject=name)


def _with_headers(send: Send) -> Send:
    """Every answer says what may be done with it; what only we read does not leave."""

    async def sent(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = MutableHeaders(scope=message)
            del headers[forwarded.FAILURE]
            for name, value in SAFE.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sent
