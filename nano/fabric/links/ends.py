"""The two ends of links: one listening socket for all who dial us, and a socket for each peer we dial."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicHeader, QuicPacketType, encode_quic_version_negotiation
from cryptography import x509

from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Usage
from nano.fabric.links.link import Link
from nano.fabric.links.liveness import Pace, Patience
from nano.fabric.links.sparing import Sparing
from nano.fabric.packets.address import Address
from nano.fabric.packets.half_open import HANDSHAKE_S, Entry, HalfOpen
from nano.fabric.packets.quic import KIB, MIB, Connection, Windows, for_one_link, header_of, short_id_of
from nano.fabric.packets.udp import Endpoint, Train, bind, listen
from nano.model.errors import NanoError, Unreachable
from nano.model.peers import Peer, Role

CALL_WINDOWS = Windows()
BULK_WINDOWS = Windows(stream_bytes=6 * MIB, connection_bytes=16 * MIB)

UNKNOWN_BYTES = 64 * KIB
"""What a peer may send us on all streams together before we know who it is. It learns of more with the packet
that confirms its handshake, and sends no more than this in its first round trip anyway."""

IDLE_TIMEOUT_S = 3600.0
"""QUIC's own idle timeout, which knows nothing of busy processes: silence is `liveness.py`'s to judge."""

_INITIAL_BYTES = 1200
"""A first datagram is at least this long (RFC 9000, 14.1); shorter ones are not worth a state."""


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of the network between peers, and how patient we are with it."""

    datagram_bytes: int = 1200
    """UDP payload that packets to anybody begin with; what a path carries beyond it is found out."""

    patience: Patience = field(default_factory=Patience)
    pace: Pace = field(default_factory=Pace)
    """Shared by all links that are asked by this process."""
    sparing: Sparing = field(default_factory=Sparing)
    """Shared by all links of a fabric: a line that one stranger was given is not there for the next."""


class Handlers:
    """What a fabric does with what its links tell; each a plain callable, none needed."""

    def __init__(self) -> None:
        self.up: Callable[[Link], None] = _nothing
        self.down: Callable[[Link, NanoError], None] = _nothing
        self.silent: Callable[[Link, bool], None] = _nothing
        self.request: Callable[[Link, Stream, Headers], None] = _refuse
        self.datagram: Callable[[Link, bytes], None] = _nothing


def _nothing(*_: object) -> None:
    """Nobody asked to be told."""


def _refuse(_link: Link, stream: Stream, _headers: Headers) -> None:
    stream.release()


class _End:
    """What both ends do with the news of a link."""

    def __init__(self, handlers: Handlers, route: Route) -> None:
        self._handlers = handlers
        self._route = route
        self._endpoint: Endpoint

    def link_up(self, link: Link) -> None:
        self._handlers.up(link)

    def link_down(self, link: Link, error: NanoError) -> None:
        self._handlers.down(link, error)

    def is_behind(self) -> bool:
        return self._endpoint.has_unread()

    def link_silent(self, link: Link, *, suspected: bool) -> None:
        self._handlers.silent(link, suspected)

    def request(self, link: Link, stream: Stream, headers: Headers) -> None:
        self._handlers.request(link, stream, headers)

    def datagram(self, link: Link, data: bytes) -> None:
        self._handlers.datagram(link, data)

    def address_issued(self, link: Link, connection_id: bytes) -> None:
        """Only a listener has to tell links apart."""

    def address_retired(self, link: Link, connection_id: bytes) -> None:
        """Only a listener has to tell links apart."""


class Dialling(Protocol):
    """What the side that dials shows, and how it judges who answers: a member's, or an applicant's."""

    def server_name(self, expected: Peer) -> str: ...

    def configuration(
        self, *, dials: str | None, datagram_bytes: int, idle_timeout_s: float
    ) -> QuicConfiguration: ...

    def verify(
        self, shown: Sequence[x509.Certificate], usage: Usage, role: Role | None, name: str | None
    ) -> Peer: ...


class Dialled(_End):
    """A link that we dialled, on a socket of its own."""

    def __init__(
        self,
        address: Address,
        expected: Peer,
        *,
        credentials: Dialling,
        route: Route,
        handlers: Handlers,
        windows: Windows,
    ) -> None:
        super().__init__(handlers, route)
        self._loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._loop.create_future()
        configuration = credentials.configuration(
            dials=credentials.server_name(expected),
            datagram_bytes=route.datagram_bytes,
            idle_timeout_s=IDLE_TIMEOUT_S,
        )
        self._connection = Connection(configuration, windows)
        self._endpoint = Endpoint(bind("::" if ":" in address[0] else "0.0.0.0", 0), self)  # noqa: S104
        verify = functools.partial(
            credentials.verify, usage=Usage.SERVER, role=expected.role, name=expected.id
        )
        self.link = Link(
            self._connection,
            self,
            send=self._endpoint.send,
            verify=verify,
            patience=route.patience,
            pace=route.pace,
            sparing=route.sparing,
        )
        self._address = address
        self._instead: Address | None = None
        """Who answers a handshake in place of whom we dialled."""

    async def connect(self, timeout_s: float) -> Link:
        """Shake hands; `Unreachable` or `Untrusted` when that fails, or nobody answers within `timeout_s`.

        A peer that has answered and does not come to an end is busy with others, and is given more time.
        """
        self._connection.connect(self._address, now=self._loop.time())
        self.link.flush()
        is_wanted = False
        try:
            await asyncio.wait({self._up}, timeout=timeout_s)
            if not self._up.done() and self._connection.has_heard:
                await asyncio.wait({self._up}, timeout=HANDSHAKE_S - timeout_s)
            if not self._up.done():
                error = Unreachable(self._silence(timeout_s))
                self.link.close(error)
                raise error
            self._up.result()
            is_wanted = True
        finally:
            if not is_wanted:  # also one that came up as whoever waited was cancelled: nobody else knows it
                self.link.close(Unreachable("the attempt to connect was given up"))
        return self.link

    def _silence(self, timeout_s: float) -> str:
        """What there is to say of an address from which no answer came."""
        host, port = self._address[:2]
        said = f"{host} port {port} did not answer within {timeout_s:g} s"
        if self._instead is None:
            return said
        other, its_port = self._instead[:2]
        return (
            f"{said}: the answer came from {other} port {its_port}, which could be anybody's; dial that "
            "address, or look what changes it on its way (a translation, two routes)"
        )

    def receive(self, train: Train) -> None:
        if train.address != self._address and not self._up.done():
            self._came_from_elsewhere(train)
        self.link.receive(train)

    def _came_from_elsewhere(self, train: Train) -> None:
        """The connection will not take it (RFC 9000, 9). Who knows our id was told it at our dial."""
        header = header_of(train.data)
        if header is not None and header.destination_cid == self._connection.host_cid:
            self._instead = train.address

    def drained(self) -> None:
        self.link.drained()

    def link_up(self, link: Link) -> None:
        if not self._up.done():
            self._up.set_result(None)
        super().link_up(link)

    def link_down(self, link: Link, error: NanoError) -> None:
        self._endpoint.close()
        if not self._up.done():
            self._up.set_exception(error)
            self._up.exception()  # whoever waited may be gone already
        super().link_down(link, error)


class Listener(_End):
    """One socket, and all the links that others dialled to it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        credentials: Credentials,
        route: Route,
        handlers: Handlers,
        windows: Windows = CALL_WINDOWS,
    ) -> None:
        super().__init__(handlers, route)
        self.credentials = credentials
        """Used for handshakes that end from now on: a renewed certificate is put here."""
        self.admits_applicants = False
        """Whether peers without a certificate of the zone get a link as applicants."""
        self.accepts = True
        self._windows = windows
        self._by_id: dict[bytes, Link] = {}
        self._ids: dict[Link, set[bytes]] = {}
        self._touched: dict[Link, None] = {}
        self._loop = asyncio.get_running_loop()
        self._half_open = HalfOpen[Link]()
        self._endpoint = Endpoint(listen(host, port), self)

    @property
    def address(self) -> Address:
        return self._endpoint.address

    @property
    def links(self) -> list[Link]:
        return list(self._ids)

    def close(self) -> None:
        """End all links and stop listening."""
        for link in self.links:
            link.close()
        self._endpoint.close()

    def receive(self, train: Train) -> None:
        """Take in what one sender sent: nearly always it is for one link."""
        data, size, address = train
        link = self._by_id.get(short_id_of(data))
        if link is not None and for_one_link(data, size):
            self._receive(link, train)
            return
        for at in range(0, len(data), size):
            self._receive_one(data[at : at + size], address)

    def _receive_one(self, data: bytes, address: Address) -> None:
        link = self._find(data, address)
        if link is not None:
            self._receive(link, Train(data, max(len(data), 1), address))

    def _receive(self, link: Link, train: Train) -> None:
        link.receive(train)
        if link.quic.has_heard:
            self._touched[link] = None
        else:
            self._half_open.wasted(self._loop.time())
            link.drop(Unreachable("the first packet was none"))

    def drained(self) -> None:
        touched, self._touched = self._touched, {}
        for link in touched:
            link.drained()

    @property
    def half_open(self) -> HalfOpen[Link]:
        """Handshakes that are under way, and what is done when they are many."""
        return self._half_open

    def link_up(self, link: Link) -> None:
        self._half_open.done(link)
        if link.peer.role is not Role.APPLICANT:
            link.quic.widen(self._windows)
        super().link_up(link)

    def address_issued(self, link: Link, connection_id: bytes) -> None:
        self._by_id[connection_id] = link
        self._ids[link].add(connection_id)

    def address_retired(self, link: Link, connection_id: bytes) -> None:
        self._by_id.pop(connection_id, None)
        self._ids[link].discard(connection_id)

    def link_down(self, link: Link, error: NanoError) -> None:
        for connection_id in self._ids.pop(link, set()):
            self._by_id.pop(connection_id, None)
        self._half_open.done(link)
        super().link_down(link, error)

    def _find(self, data: bytes, address: Address) -> Link | None:
        """The link that a datagram is for; a new one if it is a proper first datagram."""
        header = header_of(data)
        if header is None:
            return None
        known = self._by_id.get(header.destination_cid)
        if known is not None:
            return known
        if not self.accepts or len(data) < _INITIAL_BYTES or header.version is None:
            return None
        configuration = self.credentials.configuration(
            dials=None,
            datagram_bytes=self._route.datagram_bytes,
            idle_timeout_s=IDLE_TIMEOUT_S,
            shows_authority=self.admits_applicants,
        )
        if header.version not in configuration.supported_versions:
            self._offer_versions(header, configuration, address)
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            return None
        return self._admit(header, configuration, address)

    def _admit(self, header: QuicHeader, configuration: QuicConfiguration, address: Address) -> Link | None:
        """A new link for a first packet, unless its sender has to prove its address first, or we are full."""
        now = self._loop.time()
        for overdue in self._half_open.overdue(now):
            overdue.close(Unreachable("the handshake took too long"))
        entry = self._half_open.admit(header, address, now)
        if isinstance(entry, bytes):
            self._endpoint.send([(entry, address)])
            return None
        if entry is None:
            return None
        link = self._accept(header.destination_cid, entry, configuration)
        self._half_open.began(link, now)
        return link

    def _offer_versions(self, header: QuicHeader, configuration: QuicConfiguration, address: Address) -> None:
        """Say which versions we speak (RFC 9000, 6.1); never in answer to such an offer."""
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or header.source_cid is None:
            return
        offer = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=configuration.supported_versions,
        )
        self._endpoint.send([(offer, address)])

    def _accept(self, connection_id: bytes, entry: Entry, configuration: QuicConfiguration) -> Link:
        connection = Connection(
            configuration,
            replace(self._windows, connection_bytes=UNKNOWN_BYTES),
            original_destination_connection_id=entry.original_id,
            retry_source_connection_id=entry.retry_id,
        )
        link = Link(
            connection,
            self,
            send=self._endpoint.send,
            verify=self._verify,
            patience=self._route.patience,
            pace=self._route.pace,
            sparing=self._route.sparing,
        )
        self._ids[link] = set()
        for issued in (connection_id, connection.host_cid):
            self.address_issued(link, issued)
        return link

    def _verify(self, shown: Sequence[x509.Certificate]) -> Peer:
        """Judged by what is known when the handshake ends: a key may have been shut out since it began."""
        return self.credentials.verify(shown, Usage.CLIENT, None, None, applicants=self.admits_applicants)
