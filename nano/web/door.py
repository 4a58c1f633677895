"""Where requests come in: found by FastAPI, handled by whoever owns the route, and answered whatever happens.

A door has a table of rows; what no row means is judged as the documented router would (`paths.py`). The
opening of a websocket is the GET that it is until a handler accepts it (`websocket.py`).
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from nano.model.errors import Internal, Invalid, NanoError
from nano.web import bodies, envelope, websocket
from nano.web.envelope import Answer
from nano.web.paths import CATCH_ALL, Routes
from nano.web.requests import NO_SNIFF, decoded_path, drained, elsewhere

R = TypeVar("R", bound="Row")


class Row(Protocol):
    """What a door needs to know of a route."""

    @property
    def method(self) -> str: ...

    @property
    def full_path(self) -> str:
        """With `{names}`; a `*` at its end takes whatever follows."""

    @property
    def body(self) -> type[msgspec.Struct] | None: ...

    @property
    def may_be_empty(self) -> bool:
        """An empty body is as good as `{}`."""

    @property
    def is_upload(self) -> bool:
        """The body is read by the handler, and may be long."""

    @property
    def is_websocket(self) -> bool: ...


Handle = Callable[[Request, R], Awaitable[Response]]
Elsewhere = Callable[[Request, str], Response | None]
"""Takes a request that no row means and its path; None leaves it to the documented router's words."""


class Door(Generic[R]):
    """The ASGI application of one service, named in its errors."""

    def __init__(
        self,
        service: str,
        rows: Iterable[R],
        handle: Handle[R],
        *,
        otherwise: Elsewhere = lambda _request, _path: None,
        no_data: dict[str, str] | str | None = None,
    ) -> None:
        self._service = service
        self._log = structlog.get_logger(f"nano.{service}")
        self._handle = handle
        self._otherwise = otherwise
        self._no_data = no_data
        rows = list(rows)
        self._routes = Routes([(row.method, row.full_path, row) for row in rows])
        self._api = self._made_api(rows)

    def _made_api(self, rows: list[R]) -> FastAPI:
        """FastAPI's own pages and description are off: what is documented is written from the rows.

        A path with fixed words wins over one with names in their place; FastAPI takes the first that fits.
        """
        api = FastAPI(title="Nano", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        for row in sorted(rows, key=lambda row: row.full_path.count("{") + row.full_path.endswith(CATCH_ALL)):
            api.add_api_route(
                row.full_path.replace(CATCH_ALL, "{rest:path}"),
                self._endpoint(row),
                methods=[row.method],
                response_model=None,
            )
        api.add_exception_handler(HTTPException, self._not_found)
        return api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope, receive, send = websocket.as_request(scope, receive, send)
        if decoded_path(scope) is None:
            malformed = Response("400 malformed path\n", 400, NO_SNIFF, envelope.TEXT)
            await malformed(scope, receive, send)
            return
        try:
            await self._api(scope, receive, send)
        except NanoError as error:  # behind its head an answer can only be broken off: uvicorn closes
            self._log.warning("request.broken_off", code=error.code, error=error.message)

    def _endpoint(self, row: R) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answered(request, row)

        return answer

    async def _not_found(self, request: Request, _error: Exception) -> Response:
        path = decoded_path(request.scope) or ""
        found = self._otherwise(request, path)
        if found is not None:
            return found
        judged = self._routes.judge(request.method, path, request.url.query)
        return elsewhere(judged, request.headers.get("accept", ""))

    async def _answered(self, request: Request, row: R) -> Response:
        try:
            return await self._handle(request, row)
        except NanoError as error:
            failure = self._failure(error, request)
        except ClientDisconnect:
            failure = Answer(b"")  # nobody reads it
        except Exception as error:  # noqa: BLE001 - the edge: a defect costs one request, and is logged
            failure = self._failure(self._defect(error, row), request)
        if row.is_upload:
            failure.headers["Connection"] = "close"
            await drained(request)
        return response(failure)

    def _failure(self, error: NanoError, request: Request) -> Answer:
        return envelope.failure(error, accept=request.headers.get("accept", ""), no_data=self._no_data)

    def _defect(self, error: Exception, row: R) -> Internal:
        """Logged with the route and not its path, which may hold a ticket."""
        name = secrets.token_hex(6)
        self._log.error(
            "request.crashed", defect=name, method=row.method, route=row.full_path, exc_info=error
        )
        return Internal(
            f"this is a defect of ours, logged as {name}: look into the {self._service}'s log", subject=name
        )


def check_upgrade(request: Request, row: Row) -> None:
    """Invalid when a websocket is asked for where there is none, or not where there is one."""
    is_asked = websocket.of(request) is not None
    if row.is_websocket and not is_asked:
        raise Invalid("Upgrade", "this path is a websocket: ask for it with Upgrade: websocket")
    if is_asked and not row.is_websocket:
        raise Invalid("Upgrade", "this path is no websocket: leave the header Upgrade out")


def decoded(row: Row, body: bytes) -> Any:
    """The body in the row's type; None where it takes none."""
    if row.body is None:
        return None
    return bodies.decode(b"{}" if row.may_be_empty and not body.strip() else body, row.body)


def response(answer: Answer | Response) -> Response:
    """What a handler gives, as it is sent."""
    if isinstance(answer, Response):
        return answer
    return Response(answer.body, answer.status, answer.headers, answer.media_type)
