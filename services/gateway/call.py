"""What a route is, and what its handler is given."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from fastapi import Request, Response

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.model.errors import Unreachable
from nano.model.ids import CellId, ImageId, InstanceId
from nano.relay import End
from nano.web.envelope import Answer
from nano.web.keys import Credential
from nano.web.query import Query
from services.gateway.cursor import Book
from services.gateway.tickets import Tickets
from services.gateway.view import View

B_co = TypeVar("B_co", covariant=True)

API = "/api/v1"


class ImageBytes(Protocol):
    """The image store's files: streamed both ways, never held."""

    async def put(self, image: ImageId, body: AsyncIterator[bytes]) -> int:
        """Returns when the bytes are durable there, with the revision of the book that shows them.

        A body that raises leaves the old content in place.
        """

    def get(self, image: ImageId, version: int, offset: int) -> AsyncGenerator[bytes, None]:
        """One version's bytes from there to their end; raises when they break off."""


class Displays(Protocol):
    """The displays of instances, wherever they run."""

    def open(self, cell: CellId, instance: InstanceId) -> AbstractAsyncContextManager[End]:
        """The display for the time of the context, open when that is entered.

        It ends when the machine goes off. Raises, entered or later, what the cell says, and `Unreachable`
        when the cell is not there, or there no more.
        """


@dataclass(frozen=True, slots=True)
class Services:
    """Who keeps the books, and who holds what is in none."""

    scheduler: v1.SchedulerStub
    imagestore: v1.ImageStoreStub
    addresspool: v1.AddressPoolsStub
    image_bytes: ImageBytes
    displays: Displays
    admissions: v1.AdmissionsStub
    """The scheduler's other door: who is let in and shut out."""


@dataclass(slots=True)
class Gateway:
    """What every handler may use."""

    view: View
    bell: Bell
    """Rings whenever the view has changed, samples apart."""
    services: Services
    monotonic_s: Callable[[], float]
    now_ms: Callable[[], int]
    started_ms: int
    is_stopping: bool = False
    readers: int = 0
    """Open event streams."""
    sampled: Bell = field(default_factory=Bell)
    """Rings whenever newer samples have come: far more often, and to fewer ears."""
    tickets: Tickets = field(default_factory=Tickets)
    consoles: int = 0
    """Displays that browsers look at now."""


@dataclass(frozen=True, slots=True)
class Call(Generic[B_co]):
    """One request that has been found, believed and read."""

    gateway: Gateway
    request: Request
    """For its headers, and for the body of a stream."""
    params: Mapping[str, str]
    query: Query
    credential: Credential | None
    """None only where a route is open to all."""
    body: B_co
    digest: str
    """Hex SHA-256 of method, path and body: what a repeated request must be equal in."""

    @property
    def view(self) -> View:
        return self.gateway.view

    @property
    def services(self) -> Services:
        return self.gateway.services


Handler = Callable[[Call[Any]], Awaitable[Answer | Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the API: how it is reached, what it takes and gives. OpenAPI is written from these rows."""

    method: str
    path: str
    """Below `API`, with `{names}`; a `*` at its end takes whatever follows."""
    handler: Handler
    summary: str
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    """The type of `data`; None: the empty text."""
    reads: tuple[Book, ...] = ()
    """Books that must have been seen before it can be answered."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters and what they mean."""
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "done"})
    media_type: str = ""
    """Of an answer that is not the envelope."""
    may_be_empty: bool = False
    """An empty body is as good as `{}`."""
    is_upload: bool = False
    """The body is `multipart/form-data` and read by the handler."""
    is_open: bool = False
    """Needs no signature."""
    is_websocket: bool = False
    """Answers by a websocket; its handler accepts that."""
    at: str = API
    """What the path is below."""

    @property
    def full_path(self) -> str:
        return self.at + self.path


def unfinished(what: str) -> Unreachable:
    """For what has begun and is not to be seen yet."""
    return Unreachable(f"{what} is not to be seen yet: ask again in a moment", retry_after_s=1.0)
