"""The door: every request comes in here, is found, its session believed, its menu looked at, and then
handled.

As in the gateway FastAPI finds the route, and what it does not find is judged as the documented router would;
what lies outside of the API is a page.
"""

from typing import Any

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from nano.model.errors import NanoError
from nano.web import bodies
from nano.web.door import Door, check_upgrade, decoded, response
from nano.web.query import Query
from nano.web.requests import read_body
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
    *live.ROUTES,
    *forwarded.ROUTES,
)
"""Every row of the portal's API."""

STRANGERS_BYTES = 16 * 1024
"""The longest body that is read of somebody without a session: thousands of them may be sending one."""


class App:
    """The ASGI application."""

    def __init__(self, portal: Portal, pages: Pages) -> None:
        self._portal = portal
        self._pages = pages
        self._door = Door("portal", ROUTES, self._handled, otherwise=self._page, no_data="")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, _with_headers(send))

    def _page(self, request: Request, path: str) -> Response | None:
        if request.method not in {"GET", "HEAD"} or path.startswith(f"{API}/"):
            return None
        return self._pages.answer(path, request.headers.get("accept-encoding", ""))

    async def _handled(self, request: Request, route: Route) -> Response:
        portal = self._portal
        # A websocket can change things and is opened by a GET: it is judged like a call that does.
        check_site(request, "POST" if route.is_websocket else request.method, portal.config.origins)
        caller = None if route.is_open else caller_of(portal, request)
        if caller is not None:
            check_menu(caller.who.menu, route.menus, route.summary.lower())
        check_upgrade(request, route)
        body = b""
        if not route.is_upload:
            body = await read_body(request, bodies.LIMIT_BYTES if caller is not None else STRANGERS_BYTES)
        call = Call(
            portal,
            request,
            request.path_params,
            Query(request.scope["query_string"]),
            address_of(request, portal.config.trusted_proxies),
            decoded(route, body),
            body,
            caller,
        )
        if route.said is None or caller is None:
            return response(await route.handler(call))
        return await self._told(call, caller, route, route.said(call))

    async def _told(self, call: Call[Any], caller: Caller, route: Route, said: str) -> Response:
        """What changes something is in the log before it is done, and once more when it was not done."""
        line = f"{caller.named} : {said}"
        await self._portal.log.write(line)
        try:
            answer = response(await route.handler(call))
        except Exception as error:
            reason = error.message if isinstance(error, NanoError) else "a defect of ours"
            await self._portal.log.write(f"{line} : failed: {reason}")
            raise
        failure = _failure_in(answer)
        if failure:
            await self._portal.log.write(f"{line} : failed: {failure}")
        return answer


def _failure_in(answer: Response) -> str:
    """The words of a failure that the gateway answered; empty for a success."""
    return str(answer.headers.get(forwarded.FAILURE, ""))


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
