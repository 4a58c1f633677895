"""What a route of the portal is, and what its handler is given."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from fastapi import Request, Response

from nano.model.errors import Untrusted
from nano.shelf import Shelf
from nano.web.envelope import Answer
from nano.web.query import Query
from services.portal.access import Menu
from services.portal.channels import Channels
from services.portal.config import Config
from services.portal.directory import Directory, Who
from services.portal.feed import Feed
from services.portal.first_start import FirstStart
from services.portal.log_files import LogFiles
from services.portal.passwords import Passwords
from services.portal.room import Room
from services.portal.session_file import SessionFile
from services.portal.sessions import Session, Sessions
from services.portal.throttle import Throttle
from services.portal.upstream import Upstream
from services.portal.visible import Owners

B_co = TypeVar("B_co", covariant=True)

API = "/api/v1"


@dataclass(slots=True)
class Portal:
    """What every handler may use."""

    config: Config
    shelf: Shelf[Directory]
    log: LogFiles
    upstream: Upstream
    feed: Feed
    passwords: Passwords
    first_start: FirstStart
    sessions: Sessions
    session_file: SessionFile
    monotonic_s: Callable[[], float]
    channels: Channels = field(default_factory=Channels)
    throttle: Throttle = field(default_factory=Throttle)
    lives: Room = field(default_factory=lambda: Room("live streams", 1000, 64))
    samplings: Room = field(default_factory=lambda: Room("streams of samples", 256, 16))
    """Each is a stream of the gateway's own, which has room for some hundred."""
    transfers: Room = field(default_factory=lambda: Room("transfers of images", 128, 16))
    consoles: Room = field(default_factory=lambda: Room("consoles", 256, 32))
    is_stopping: bool = False

    @property
    def directory(self) -> Directory:
        return self.shelf.book

    def who_of(self, session: Session) -> Who | None:
        """Who a session stands for at this moment; None when it has ended, or its user is gone."""
        if not self.sessions.is_open(session.key, self.monotonic_s()):
            return None
        return self.directory.who(session.user)

    @property
    def owners(self) -> Owners:
        return self.feed.owners


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a session, who it stands for at this moment, and from where."""

    session: Session
    who: Who
    address: str
    by_cookie: bool

    @property
    def named(self) -> str:
        """As the operation log names people: `group.user(address)`."""
        return f"{self.who.group}.{self.who.user}({self.address})"


@dataclass(frozen=True, slots=True)
class Call(Generic[B_co]):
    """One request that has been found, believed and read."""

    portal: Portal
    request: Request
    params: Mapping[str, str]
    query: Query
    address: str
    """Where it came from, behind proxies that we trust."""
    body: B_co
    raw_body: bytes
    caller: Caller | None = None
    """None only where a route is open to all."""

    @property
    def by(self) -> Caller:
        if self.caller is None:
            raise Untrusted("log in first", field="Nano-Session")
        return self.caller

    @property
    def who(self) -> Who:
        return self.by.who

    @property
    def now_s(self) -> float:
        return self.portal.monotonic_s()


Handler = Callable[[Call[Any]], Awaitable[Answer | Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the portal's API: how it is reached, whom it lets in, what it takes and gives."""

    method: str
    path: str
    """Below `API`, with `{names}`; a `*` at its end takes whatever follows."""
    handler: Handler
    summary: str
    menus: frozenset[Menu] = frozenset()
    """Any of these lets in; none: every session."""
    body: type[msgspec.Struct] | None = None
    said: Callable[[Call[Any]], str] | None = None
    """What the operation log says of a call; None: nothing, since it changes nothing."""
    may_be_empty: bool = False
    """An empty body is as good as `{}`."""
    is_upload: bool = False
    """The body is left to the handler, and may be long."""
    is_websocket: bool = False
    is_open: bool = False
    """Needs no session."""

    @property
    def full_path(self) -> str:
        return API + self.path


def menus(*wanted: Menu) -> frozenset[Menu]:
    return frozenset(wanted)
