"""The gateway, as the portal asks it: signed calls, streams of events and of samples, websockets."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from nano import signature
from nano.model.errors import Invalid, NanoError, Unreachable, Untrusted, from_code
from nano.web.envelope import PROBLEM
from nano.web.events import Event, Parser
from nano.web.keys import Credential, CredentialsFile
from nano.web.trust import trusted

API = "/api/v1"
CALL_S = 75.0
"""Longer than any wait of the gateway, so that it is the one who says what happened."""
SILENCE_S = 30.0
"""An event stream says twice in this time that it lives."""
CONNECT_S = 5.0
PORTAL = "portal"
"""What the portal calls itself where it asks on nobody's behalf."""
_PIECES_LARGEST = 1 << 20

Query = list[tuple[str, str]]
"""Names and values in their order, decoded."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call to the gateway; `path` is plain, below the API."""

    method: str
    path: str
    session: str = PORTAL
    """The label of the session that it is made for; signed, and in the gateway's eyes only a word."""
    query: Query = field(default_factory=list)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Upstream:
    """One gateway and one credential."""

    def __init__(self, url: str, credential: Credential, certificate: str) -> None:
        self.url = url.rstrip("/")
        self._credential = credential
        self._trust = trusted(certificate)
        self._host = httpx.URL(self.url).netloc.decode()
        self._http = httpx.AsyncClient(
            base_url=self.url,
            verify=self._trust,
            timeout=httpx.Timeout(CALL_S, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(max_connections=512, max_keepalive_connections=32),
            trust_env=False,
        )
        # What is open for long has connections of its own: calls and the feed find theirs at any time. How
        # many of these there are is up to `Portal`.
        self._long = httpx.AsyncClient(
            base_url=self.url,
            verify=self._trust,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        await self._long.aclose()

    async def call(self, request: Request) -> httpx.Response:
        """Its answer, whatever that says; `Unreachable` when there is none."""
        target, headers = self._signed(request)
        with self._reachable():
            return await self._http.request(request.method, target, headers=headers, content=request.body)

    async def data(self, request: Request) -> Any:
        """The data of a successful answer; the gateway's error, raised as what it is."""
        response = await self.call(_asking_for_problems(request))
        if response.headers.get("content-type", "").startswith(PROBLEM):
            raise problem(response.content)
        if response.is_error:
            raise Unreachable(f"the gateway answered {response.status_code}: {response.text[:200]}")
        try:
            return msgspec.json.decode(response.content, type=_Success).data
        except msgspec.DecodeError:
            raise Unreachable(
                f"the gateway answered {response.status_code} with what is no answer of its"
            ) from None

    async def images(self, kind: str, session: str = PORTAL) -> list[dict[str, Any]]:
        """Every `disk` or `media` image of the zone, whoever owns it."""
        search = Request("GET", f"/{kind}_image_search/", session, [("all", "true")])
        found: list[dict[str, Any]] = await self.data(search)
        return found

    @asynccontextmanager
    async def stream(
        self, request: Request, content: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose body is still to come; `content` is a body that is sent piece by piece."""
        target, headers = self._signed(request)
        with self._reachable():
            async with self._long.stream(
                request.method, target, headers=headers, content=content or request.body
            ) as response:
                yield response

    def events(self, cursor: str = "") -> AsyncIterator[Event]:
        """What changes, from `cursor` on where there is one. `Unreachable` when it breaks off."""
        return self._told(self._http, "/events/", [], cursor)

    def samples(self, subjects: Iterable[str]) -> AsyncIterator[Event]:
        """What is measured of these. `Unreachable` when it breaks off."""
        return self._told(self._long, "/samples/", [("subject", each) for each in subjects])

    async def _told(
        self, http: httpx.AsyncClient, path: str, query: Query, cursor: str = ""
    ) -> AsyncIterator[Event]:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        target, signed = self._signed(
            _asking_for_problems(Request("GET", path, query=query, headers=headers))
        )
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        with self._reachable():
            async with http.stream("GET", target, headers=signed, timeout=timeout) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise problem(await response.aread())
                parser = Parser()
                async for piece in response.aiter_bytes():
                    for event in parser.piece(piece):
                        yield event
        raise Unreachable(f"the gateway at {self.url} ended its stream of events", retry_after_s=1.0)

    async def websocket(self, request: Request) -> ClientConnection:
        """An open websocket of binary frames; the caller closes it. The gateway's refusal is raised."""
        target, headers = self._signed(_asking_for_problems(request))
        del headers["host"]
        tls = self._trust if isinstance(self._trust, ssl.SSLContext) else None
        try:
            return await connect(
                self.url.replace("http", "ws", 1) + target,
                ssl=tls if self.url.startswith("https:") else None,
                additional_headers=headers,
                subprotocols=_BINARY,
                compression=None,
                max_size=_PIECES_LARGEST,
                open_timeout=CONNECT_S,
                user_agent_header=None,
                proxy=None,
            )
        except InvalidStatus as refusal:
            raise problem(bytes(refusal.response.body or b"")) from refusal
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise self._unreachable(error) from error

    def _signed(self, request: Request) -> tuple[str, httpx.Headers]:
        """The target and the headers; those of a browser may hold any bytes, as ASGI gives them."""
        target, headers = signature.signed_call(
            request.method,
            API + request.path,
            host=self._host,
            api_id=self._credential.id,
            secret=self._credential.key,
            at=datetime.now(UTC),
            query=urlencode(request.query),
            body=request.body,
            session=request.session,
        )
        return target, httpx.Headers({**request.headers, **headers}, encoding="latin-1")

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"the gateway at {self.url} does not answer ({error or type(error).__name__}): "
            "it is called again all the time; what is shown may be old",
            subject=self.url,
            retry_after_s=1.0,
        )


_BINARY: Any = ["binary"]


def _asking_for_problems(request: Request) -> Request:
    """An error comes as what it is, not as text."""
    return replace(request, headers={**request.headers, "Accept": PROBLEM})


class _Success(msgspec.Struct):
    data: Any


class _Problem(msgspec.Struct):
    """RFC 9457 as the gateway writes it."""

    detail: str
    code: str = ""
    field: str = ""
    subject: str = ""


def problem(body: bytes) -> NanoError:
    """The error that a problem of the gateway's tells."""
    try:
        found = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        return Unreachable(f"the gateway said something that is no answer of its: {body[:120]!r}")
    if found.code == Untrusted.code:  # us: what the caller's session is worth it cannot know
        return Unreachable(f"the gateway does not believe the portal ({found.detail}): see both logs")
    return from_code(found.code, found.detail, field=found.field, subject=found.subject)


def read_credential(path: Path, wanted: str) -> Credential:
    """The credential of that id in a file of the documented shape; the first one where `wanted` is empty."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CredentialsFile).credentials
    except OSError as error:
        raise Invalid(
            "gateway_credentials",
            f"{path} cannot be read ({error.strerror}): the gateway writes it at its first start; "
            "let the portal's user read it, or name another file in gateway_credentials",
        ) from error
    except msgspec.DecodeError as error:
        raise Invalid("gateway_credentials", f"{path}: {error}; correct it and start again") from error
    for credential in found:
        if wanted in {"", credential.id}:
            return credential
    raise Invalid("gateway_credential", f"{path} has no credential {wanted!r:.80}")
