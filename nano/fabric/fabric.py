"""The network as a service sees it: serve, call by name, hear who comes and goes.

    async with Fabric.join(config, identity) as fabric:
        fabric.serve([SchedulerRpc(...)], ROLES)
        cell = CellStub(fabric.channel(Role.CELL, "cell-7"))
        async for event in fabric.events(): ...

Who is where is the business of `directory.py`. The fabric tells it of links (up, down, silent, a dial that
failed) and asks it for an address each time a link is needed; nobody else keeps one. There is one link for
calls and at most one for bulk to each peer that this process dials, shared by all stubs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import structlog
from cryptography import x509
from grpclib.encoding.base import CodecBase

from nano.fabric.bulk.bodies import BulkHandler, BulkRoles
from nano.fabric.bulk.client import BulkClient
from nano.fabric.bulk.server import BulkServer
from nano.fabric.calls.channel import Channel
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.calls.server import CallServer, Roles
from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.identity.credentials import Credentials, WallClock
from nano.fabric.identity.identity import Identity
from nano.fabric.joining.applicants import Applicants
from nano.fabric.links.dialled import Links, Purpose
from nano.fabric.links.ends import Handlers, Listener, Route
from nano.fabric.links.link import Link
from nano.fabric.links.liveness import Pace, Patience
from nano.fabric.links.verdict import Verdict
from nano.fabric.packets.address import Address
from nano.fabric.peers import roster_events
from nano.fabric.peers.addresses import static_addresses
from nano.fabric.peers.announcement import Announcement, Kind
from nano.fabric.peers.directory import Directory
from nano.fabric.peers.multicast import Group
from nano.fabric.peers.roster import Roster
from nano.fabric.peers.roster_events import News
from nano.model.errors import Forbidden, NanoError, Stale
from nano.model.peers import Peer, Role

if TYPE_CHECKING:
    from grpclib._typing import IServable

EVENTS_LIMIT = 20_000
"""News that may wait for one reader: every peer of the largest zone, twice."""

_log = structlog.get_logger("nano.fabric")

OnSample = Callable[[Peer, bytes], None]
OnTurnedAway = Callable[[Peer, Verdict], None]


class FabricConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a process takes part. An empty table is sane: any free port, multicast on every interface."""

    host: str = "0.0.0.0"  # noqa: S104 - peers are on every network of the host; who may talk is decided by TLS
    port: int = 0
    domain: str = "nano"
    multicast: bool = True
    group: str = "224.0.0.226"
    group_port: int = 5599
    interfaces: tuple[str, ...] = ()
    """Names or addresses of interfaces for multicast; none means every one."""
    peers: dict[str, str] = msgspec.field(default_factory=dict)
    """Static addresses where multicast does not reach: `"cell/c7" = "10.0.0.7:5604"`."""
    datagram_bytes: int = 1200
    """UDP payload that every path between hosts carries; 1452 fits an Ethernet of 1500."""
    keep_alive_s: float = 1.0
    suspect_s: float = 3.0
    lost_s: float = 5.0
    drain_s: float = 2.0
    """How long open calls may go on when this process leaves."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """News of a peer; see `News`."""

    peer: Peer
    news: News


def utc_now() -> datetime:
    return datetime.now(UTC)


class Fabric:
    """This process's place on the network. Made by `join`."""

    def __init__(
        self,
        config: FabricConfig,
        credentials: Credentials,
        jobs: asyncio.TaskGroup,
        codec: CodecBase,
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._calls = CallServer(jobs, codec)
        self._bulk: BulkServer | None = None
        self._on_sample: OnSample | None = None
        self._applicants: Applicants | None = None
        self._on_turned_away: OnTurnedAway | None = None
        self._readers: set[asyncio.Queue[PeerEvent | None]] = set()
        self._kept: dict[Peer, asyncio.Task[None]] = {}
        self._kept_roles: set[Role] = set()
        self._doubted: set[Link] = set()
        self._closed = False
        self._credentials = credentials
        patience = Patience(config.keep_alive_s, config.suspect_s, config.lost_s)
        self.pace = Pace(config.keep_alive_s)
        """How often peers that say nothing are asked: less often where they are very many."""
        route = Route(config.datagram_bytes, patience, self.pace)
        self._listener = Listener(
            config.host, config.port, credentials=credentials, route=route, handlers=self._handlers(None)
        )
        self._static = static_addresses(config.peers)
        self._directory = _Directory(self, config, credentials.identity, self._listener.address[1])
        self._links = Links(self._directory, credentials, route, jobs, self._handlers)

    @classmethod
    @contextlib.asynccontextmanager
    async def join(
        cls,
        config: FabricConfig,
        identity: Identity,
        *,
        codec: CodecBase | None = None,
        clock: WallClock = utc_now,
    ) -> AsyncIterator["Fabric"]:
        """Take part as `identity` for the time of the context, then leave in good order."""
        failure: BaseException | None = None
        credentials = Credentials.load(identity, clock)
        async with asyncio.TaskGroup() as jobs:
            try:
                fabric = cls(config, credentials, jobs, codec or MessageCodec())
                async with contextlib.AsyncExitStack() as up:
                    up.callback(fabric._stop)
                    await up.enter_async_context(fabric._directory)
                    yield fabric
                    await fabric.close()
            except BaseException as error:  # noqa: BLE001 - raised again below, as it is and not as a group
                failure = error
        if failure is not None:
            raise failure

    @property
    def address(self) -> Address:
        """Where this process listens."""
        return self._listener.address

    @property
    def zone(self) -> str:
        """The id of the zone that this process takes part in."""
        return self._credentials.identity.zone

    @property
    def issuer(self) -> x509.Certificate:
        """The authority that signed the certificate which this process shows on new links."""
        return self._credentials.issuer

    @property
    def links(self) -> list[Link]:
        """All links, dialled by us or by others."""
        return [*self._listener.links, *self._links.all()]

    @property
    def peers(self) -> Roster:
        """Who is here: `state_of(peer)`, `one(role)`, `all(role)`."""
        return self._directory.roster

    # Serving

    def serve(self, handlers: "Collection[IServable]", roles: Roles) -> None:
        """Answer the methods of `handlers` for the roles that the table names; nobody else, by default."""
        self._calls.add(handlers, roles)

    def serve_bulk(self, handler: BulkHandler, roles: BulkRoles) -> None:
        """Answer GET, HEAD and PUT of bodies for the roles that the table names."""
        self._bulk = BulkServer(self._jobs, handler, roles)

    def admit_applicants(self) -> None:
        """Give links to peers without a certificate of the zone too, few of them, as `Role.APPLICANT`.

        They may call what the table of roles opens to applicants, one call at a time; nothing else of
        theirs is taken in, and nobody hears of them.
        """
        self._applicants = Applicants()
        self._listener.admits_applicants = True

    def on_turned_away(self, callback: OnTurnedAway) -> None:
        """Call `callback` with each peer that proves who it is and then ends a link for what we are."""
        self._on_turned_away = callback

    def renewed(self, identity: Identity) -> None:
        """Read the files of `identity` again: its certificate, the authorities, and who was shut out.

        Handshakes that end from now on go by that. Links that are up go on, but for those of peers whose key
        was shut out: they are closed.
        """
        self._credentials = credentials = Credentials.load(identity, self._credentials.clock)
        self._listener.credentials = credentials
        self._links.credentials = credentials
        for link in self.links:
            if link.is_up and link.fingerprint in credentials.removed:
                link.shut_out(_removed(link))

    # Calling

    def channel(self, role: Role, name: str | None = None, *, visit: bool = False) -> Channel:
        """The way to one peer, or to whoever has `role`: hand it to a generated stub.

        A call fails with `Unreachable` when nobody answers within its deadline, and at once when it is known
        that nobody is there. A `visit` has a link of its own, which is closed when it is not used.
        """
        target = role if name is None else Peer(role, name)
        purpose = Purpose.VISITS if visit else Purpose.CALLS
        return Channel(_label(target), lambda: self._links.get(target, purpose), self._codec)

    def bulk(self, role: Role, name: str | None = None) -> BulkClient:
        """The way to a peer's bodies, on a link of their own that is closed when it is not used."""
        target = role if name is None else Peer(role, name)
        return BulkClient(_label(target), lambda: self._links.get(target, Purpose.BULK))

    def keep_linked(self, *roles: Role) -> None:
        """Dial every peer of `roles` as soon as it is found, and again whenever its link is lost."""
        self._kept_roles.update(roles)
        for role in roles:
            for peer in self.peers.all(role):
                self._keep(peer)

    def look_for(self, *roles: Role) -> None:
        """Ask every peer of `roles` to say that it is here: who came before us announced itself to nobody."""
        for role in roles:
            self._directory.ask(role)

    # Samples

    def send_sample(self, data: bytes) -> int:
        """Send a datagram to each scheduler that dialled us; to how many it went. It may be lost."""
        links = [link for link in self._listener.links if link.is_up and link.peer.role is Role.SCHEDULER]
        return sum(link.send_datagram(data) for link in links)

    def on_sample(self, callback: OnSample) -> None:
        """Call `callback` with each datagram of each peer. One that it refuses with an error is dropped."""
        self._on_sample = callback

    # News

    async def events(self) -> AsyncIterator[PeerEvent]:
        """Who is here already, then who comes, falls silent, goes. `Stale` for a reader that is too slow."""
        queue: asyncio.Queue[PeerEvent | None] = asyncio.Queue(EVENTS_LIMIT)
        self._readers.add(queue)
        try:
            for role in Role:
                for peer in self.peers.all(role):
                    yield PeerEvent(peer, News.JOINED if self._is_joined(peer) else News.FOUND)
            while (event := await queue.get()) is not None:
                yield event
            if not self._closed:
                raise Stale(f"{EVENTS_LIMIT} events were not read: look at the peers again")
        finally:
            self._readers.discard(queue)

    def _is_joined(self, peer: Peer) -> bool:
        return any(link.is_up and link.peer == peer for link in self.links)

    def _told(self, peer: Peer, news: News) -> None:
        if news is News.LEFT and peer not in self._static:
            self._links.gone.add(peer)
        elif news is not News.LOST:
            self._links.gone.discard(peer)
        if news in {News.FOUND, News.MOVED} and peer.role in self._kept_roles:
            self._keep(peer)
        for queue in list(self._readers):
            if queue.full():
                self._readers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(PeerEvent(peer, news))

    # What links tell

    def _handlers(self, dialled: tuple[Peer, Address, Purpose] | None) -> Handlers:
        """What to do with the news of a link: one that we dialled, or (None) one that came in."""
        handlers = Handlers()
        handlers.up = lambda link: self._up(link, dialled)
        handlers.down = lambda link, error: self._down(link, error, dialled)
        handlers.silent = lambda link, suspected: self._silent(link, suspected=suspected)
        handlers.request = self._request
        handlers.datagram = self._datagram
        return handlers

    def _up(self, link: Link, dialled: tuple[Peer, Address, Purpose] | None) -> None:
        if link.fingerprint in self._credentials.removed:  # since the handshake began
            link.shut_out(_removed(link))
        elif link.peer.role is Role.APPLICANT:
            if self._applicants is not None:
                self._applicants.up(link)
        elif dialled is None or dialled[2] is Purpose.CALLS:
            link.announced = True
            self._directory.tell(roster_events.LinkUp(link.peer, dialled[1] if dialled else None))

    def _down(self, link: Link, error: NanoError, dialled: tuple[Peer, Address, Purpose] | None) -> None:
        self._doubted.discard(link)
        if self._applicants is not None:
            self._applicants.down(link)
        if dialled is not None:
            self._links.drop(link)
        if link.verdict is not None and self._on_turned_away is not None:
            self._on_turned_away(link.peer, link.verdict)
        if link.announced:
            self._directory.tell(roster_events.LinkDown(link.peer, graceful=link.graceful))
            _log.info("link.down", peer=str(link.peer), reason=str(error))

    def _silent(self, link: Link, *, suspected: bool) -> None:
        if link.announced:
            event = roster_events.Silent if suspected else roster_events.SignOfLife
            self._directory.tell(event(link.peer))

    def _request(self, link: Link, stream: Stream, headers: Headers) -> None:
        """gRPC says what it is; everything else is a body."""
        if dict(headers).get("content-type", "").startswith("application/grpc"):
            self._calls.accept(stream, headers, self._refusal(link))
        elif self._bulk is not None and link.peer.role is not Role.APPLICANT:
            self._bulk.accept(link, stream, headers)
        else:
            stream.release()

    def _refusal(self, link: Link) -> NanoError | None:
        """Why nothing that comes on this link is answered, if so."""
        if link.fingerprint in self._credentials.removed:
            return _removed(link)
        if link.peer.role is Role.APPLICANT and self._applicants is not None:
            return self._applicants.refusal(link)
        return None

    def _datagram(self, link: Link, data: bytes) -> None:
        if self._on_sample is None or link.peer.role is Role.APPLICANT:
            return
        try:
            self._on_sample(link.peer, data)
        except NanoError as error:
            _log.debug("sample.refused", peer=str(link.peer), reason=str(error))
        except Exception as error:  # noqa: BLE001 - a sample may be lost, the link that brought it may not
            _log.error("sample.failed", peer=str(link.peer), exc_info=error)

    # Keeping links

    def _keep(self, peer: Peer) -> None:
        if peer not in self._kept and not self._closed:
            job = self._jobs.create_task(self._links.keep(peer), name=f"keep {peer}")
            self._kept[peer] = job
            job.add_done_callback(lambda _: self._kept.pop(peer, None))

    def _hinted(self, peer: Peer, address: Address) -> None:
        """A peer that we are linked to is said to be here: it may be a new life of it, or a new place."""
        link = self._links.existing(peer, Purpose.CALLS)
        if link is not None and link not in self._doubted and not self._closed:
            self._doubted.add(link)
            job = self._jobs.create_task(self._links.prove(link, address), name=f"prove {peer}")
            job.add_done_callback(lambda _: self._doubted.discard(link))

    # Leaving

    async def close(self) -> None:
        """Leave in good order: no new links, no new calls, a moment for the open ones. `join` does it too."""
        if self._closed:
            return
        self._closed = True
        self._listener.accepts = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await asyncio.gather(*(link.leave() for link in self._listener.links))
                await self._calls.idle()

    def _stop(self) -> None:
        self._closed = True
        for job in list(self._kept.values()):
            job.cancel()
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
        self._listener.close()
        self._links.close()


class _Directory(Directory):
    """The directory, which also lets the fabric look again at a peer that announces itself."""

    def __init__(self, fabric: Fabric, config: FabricConfig, identity: Identity, port: int) -> None:
        super().__init__(
            identity,
            port,
            group=Group(config.group, config.group_port, config.interfaces) if config.multicast else None,
            domain=config.domain,
            static=fabric._static,
            told=fabric._told,
        )
        self._fabric = fabric

    def _hear(self, announcement: Announcement, host: str) -> None:
        super()._hear(announcement, host)
        if announcement.kind is not Kind.LEAVING and self.roster.is_ours(announcement):
            self._fabric._hinted(announcement.peer, (host, announcement.port))


def _removed(link: Link) -> Forbidden:
    return Forbidden(
        f"{link.peer} was removed from the zone with its key {link.fingerprint[:16]}: to come back, join "
        "with a new key",
        subject=str(link.peer),
    )


def _label(target: Peer | Role) -> str:
    return str(target)
