"""One QUIC connection to one peer: requests, datagrams, liveness and their timers.

The same class serves both ends. `Owner` is told what happens: the side that dialled or the side that listens,
in `ends.py`. No thread and no task: datagrams, timers and calls drive it, in the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
from aioquic.h3.connection import ErrorCode
from aioquic.quic import events as quic_events
from cryptography import x509

from nano.fabric.http3.exchanges import Exchanges, resolve
from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.identity.identity import fingerprint_of, key_in
from nano.fabric.links import verdict
from nano.fabric.links.liveness import Liveness, Move, Pace, Patience
from nano.fabric.links.reasons import why
from nano.fabric.links.sparing import Sparing
from nano.fabric.links.verdict import Verdict
from nano.fabric.packets import datagrams
from nano.fabric.packets.address import Address
from nano.fabric.packets.quic import Connection, alert_in, is_trust_error
from nano.fabric.packets.udp import Datagram, Train
from nano.model.errors import Corrupt, Internal, NanoError, Unreachable, Untrusted
from nano.model.peers import Peer

_TIMER_SLACK_S = 0.25
_EAGER = 24
"""Things said in one turn after which a packet goes out though the turn is not over: a peer that gets the
first of a hundred calls early works on them while we still make the others. Not while so many streams wait
for path or peer."""

_LATE_S = 0.25
"""A timer that comes later than this says that the loop was busy, and heard nobody."""

_CATCH_UP_S = 0.05
"""How long to wait for what still stands in the socket before a peer is judged."""

_log = structlog.get_logger("nano.fabric")

Verify = Callable[[Sequence[x509.Certificate]], Peer]
"""Who showed these certificates, its own first; raises `Untrusted`."""


class Owner(Protocol):
    """Who holds a link and hears of it."""

    def link_up(self, link: "Link") -> None:
        """The peer has proven who it is: `link.peer`."""

    def link_down(self, link: "Link", error: NanoError) -> None:
        """The link is over, for whatever reason; said once."""

    def link_silent(self, link: "Link", *, suspected: bool) -> None:
        """The peer has been silent for longer than it should, or is heard again."""

    def request(self, link: "Link", stream: Stream, headers: Headers) -> None:
        """A trusted peer asks for something."""

    def datagram(self, link: "Link", data: bytes) -> None:
        """A trusted peer sent a sample; `data` is what it says, without its kind."""

    def is_behind(self) -> bool:
        """Whether something has come for the socket of this link that was not read yet."""
        ...

    def address_issued(self, link: "Link", connection_id: bytes) -> None:
        """Packets with this id are for this link."""

    def address_retired(self, link: "Link", connection_id: bytes) -> None:
        """Not any more."""


class Link:
    """One connection, from its first packet to its end."""

    def __init__(
        self,
        connection: Connection,
        owner: Owner,
        *,
        send: Callable[[Iterable[Datagram]], None],
        verify: Verify,
        patience: Patience,
        pace: Pace,
        sparing: Sparing,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = connection
        self._owner = owner
        self._send = send
        self._verify = verify
        self._liveness = Liveness(patience, self._loop.time(), asks=connection.is_client)
        self._pace = pace
        self._sparing = sparing
        self.exchanges = Exchanges(connection, self)
        self._timer: asyncio.TimerHandle | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._waiting = 0
        """Things said since a packet was last made."""
        self._held_back = 0
        """Streams that had more to say than that packet could take."""
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._peer: Peer | None = None
        self._refused = False
        self.fingerprint = ""
        """What the peer's key is known by; empty before the link is up."""
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.announced = False
        """Whether the owner told others of this link; it is the owner's own mark."""
        self.graceful = False
        """Whether the link was closed in good order, by either side."""
        self.error: NanoError | None = None
        """Why the link is over; None while it is not."""
        self.verdict: Verdict | None = None
        """Why the peer, having proven who it is, has turned us away; None while it has not."""

    # What others see

    @property
    def peer(self) -> Peer:
        """Who is at the other end; only known once the link is up."""
        if self._peer is None:
            raise Untrusted("the peer of this link has not proven yet who it is")
        return self._peer

    @property
    def is_up(self) -> bool:
        return self._peer is not None and self.error is None

    @property
    def takes_calls(self) -> bool:
        """Whether a new call may start here: the link is up and the peer is not about to leave."""
        return self.is_up and not self.exchanges.peer_leaves

    @property
    def suspected(self) -> bool:
        return self._liveness.suspected

    @property
    def patience(self) -> Patience:
        """After how much silence this peer is asked, suspected, lost: longer where very many are asked."""
        return self._liveness.patience

    @property
    def address(self) -> Address:
        """Where the peer is now."""
        host, port = (self._quic.get_peer_address() or ("", 0))[:2]
        return host, port

    @property
    def quic(self) -> Connection:
        return self._quic

    # Driven by the socket

    def receive(self, train: Train) -> None:
        """Take datagrams in; `flush` answers all that came."""
        self._guarded(self._receive, train)

    def drained(self) -> None:
        """All that had come is taken in: act on it now, and answer once those whom it woke had their turn."""
        self._guarded(self._act)
        self.flush_soon()

    def flush(self) -> None:
        """Act on what has happened and send what there is to send."""
        self._flush_handle = None
        self._guarded(self._flush)

    def flush_soon(self) -> None:
        """Send at the end of this turn of the loop: what several calls say now goes into one packet."""
        if self._flush_handle is None and self.error is None:
            self._flush_handle = self._loop.call_soon(self.flush)
        self._waiting += 1
        if self._waiting >= _EAGER >= self._held_back:
            self._guarded(self._transmit)

    def close(self, error: NanoError | None = None) -> None:
        """End the link now; calls that are open fail with `error`."""
        if self.error is not None:
            return
        code = ErrorCode.H3_NO_ERROR if error is None else ErrorCode.H3_INTERNAL_ERROR
        self._quic.close(error_code=code, reason_phrase=str(error or "closed")[:200])
        self._transmit()
        self.graceful = error is None
        self._end(error or Unreachable("the link was closed on this side"))

    def shut_out(self, error: NanoError) -> None:
        """End the link of a peer whose key was removed from the zone, and tell it so that it can be sure."""
        if self.error is None:
            self._quic.close_untrusted(str(error)[:200], Verdict.REMOVED.value)
            self._transmit()
            self._end(error)

    def drop(self, error: NanoError) -> None:
        """End the link and say nothing: nobody is at the other end."""
        if self.error is None:
            self._end(error)

    async def leave(self) -> None:
        """Ask the peer to start no more calls here, and return when it knows. Open calls go on."""
        if not self.is_up:
            return
        self.exchanges.leave()
        try:
            await self.ping()
        except NanoError:
            return  # it is gone already

    async def ping(self) -> None:
        """Return when the peer has answered; `Unreachable` if the link ends before."""
        if self.error is not None:
            raise self.error
        answered = self._loop.create_future()
        self._pings[id(answered)] = answered
        self._quic.send_ping(id(answered))
        self.flush_soon()
        try:
            await answered
        finally:
            self._pings.pop(id(answered), None)

    async def wait_closed(self) -> None:
        """Return when the link is over."""
        await asyncio.shield(self._closed)

    def requested(self, stream: Stream, headers: Headers) -> None:
        """The peer asks for something."""
        self._owner.request(self, stream, headers)

    def send_datagram(self, data: bytes) -> bool:
        """Send a sample if it fits into a packet and the peer takes datagrams; it may be lost on the way."""
        if not self.is_up or not self._quic.offer_datagram(datagrams.SAMPLE + data):
            return False
        self.flush_soon()
        return True

    # grpclib's names

    @property
    def processor(self) -> "Link":
        return self

    @property
    def connection(self) -> Exchanges:
        return self.exchanges

    # Events of QUIC

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        """Run one step. A defect, of ours or of a library, ends this link loudly and harms no other."""
        if self.error is not None:
            return
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop must not go on with half a link
            left_out = self._sparing.left_out("defect", self._loop.time())
            if left_out is not None:
                _log.error("link.defect", peer=str(self._peer), left_out=left_out, exc_info=error)
            self._end(Internal("the link was ended by a defect of ours: see this service's log"))

    def _receive(self, train: Train) -> None:
        now = self._loop.time()
        heard = self._quic.take(train.data, train.address, now, train.segment_bytes)
        if heard and self._liveness.heard(now) and self.is_up:
            self._owner.link_silent(self, suspected=False)

    def _act(self) -> None:
        while (event := self._quic.next_event()) is not None:
            self._handle(event)
        self._quic.settle()

    def _flush(self) -> None:
        self._act()
        self._transmit()
        ended = self._quic.ended
        if ended is not None:
            self.graceful = _is_graceful(ended)
            if self._peer is None and not self._quic.is_client and not self._refused:
                self._tell_of_stranger(f"the handshake failed: {why(ended)}")
            if self._peer is not None and self._quic.was_closed_by_peer and _is_of_trust(ended):
                self.verdict = verdict.heard(alert_in(ended.error_code))
            self._end(_reason(ended))
        else:
            self.exchanges.wake()
            self._arm()

    def _transmit(self) -> None:
        self._waiting = 0
        if not self._quic.has_path:
            return  # not one valid packet yet: nobody to answer
        self.exchanges.push()
        now = self._loop.time()
        if self._quic.is_quiet(now):
            return
        datagrams = self._quic.datagrams_to_send(now=now)
        self._held_back = self._quic.waiting_streams
        if datagrams:
            self._send(datagrams)

    def _handle(self, event: quic_events.QuicEvent) -> None:
        match event:
            case quic_events.StreamDataReceived() if self._peer is not None:
                self.exchanges.receive(event)
            case quic_events.StreamReset() | quic_events.StopSendingReceived() if self._peer is not None:
                self.exchanges.broken(event)
            case quic_events.DatagramFrameReceived() if self.is_up:
                self._datagram(event.data)
            case quic_events.PingAcknowledged():
                resolve(self._pings.pop(event.uid, None))
            case quic_events.ProtocolNegotiated():
                self.exchanges.begin()
            case quic_events.HandshakeCompleted():
                self._trust()
            case quic_events.ConnectionIdIssued():
                self._owner.address_issued(self, event.connection_id)
            case quic_events.ConnectionIdRetired():
                self._owner.address_retired(self, event.connection_id)

    def _trust(self) -> None:
        shown = self._quic.peer_certificates
        try:
            self._peer = self._verify(shown)
            self.fingerprint = fingerprint_of(key_in(shown[0]))
        except Untrusted as error:
            self._refused = True
            self._tell_of_stranger(str(error))
            self._quic.close_untrusted(str(error)[:200], verdict.on(error).value)
        else:
            self._owner.link_up(self)

    def _tell_of_stranger(self, reason: str) -> None:
        left_out = self._sparing.left_out("refused", self._loop.time())
        if left_out is not None:
            _log.warning("link.refused", reason=reason[:200], address=self.address, left_out=left_out)

    def _datagram(self, data: bytes) -> None:
        match data[:1]:
            case datagrams.SAMPLE:
                if self._liveness.sampled(self._loop.time()) and self._quic.is_client:
                    self._quic.offer_datagram(datagrams.pace(self._liveness.patience.keep_alive_s))
                self._pace.spares(self)
                self._owner.datagram(self, data[1:])
            case datagrams.PACE if not self._quic.is_client:
                try:
                    self._liveness.told(datagrams.interval_s(data))
                except Corrupt as error:
                    _log.debug("pace.refused", peer=str(self._peer), reason=str(error))

    # Timers and waiters

    def _arm(self) -> None:
        """One timer for QUIC and for liveness.

        A busy link moves its deadlines with each packet, so a timer that is a little early stays and finds
        nothing due. One that is much too early would wake an idle link for nothing.
        """
        at = min(self._quic.get_timer() or float("inf"), self._liveness.next_at)
        if self._timer is not None:
            if self._timer.when() <= at <= self._timer.when() + _TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._timed)

    def _timed(self) -> None:
        timer, self._timer = self._timer, None
        late_s = self._loop.time() - timer.when() if timer else 0.0
        self._guarded(self._look_at_clock, late_s)
        self.flush()

    def _look_at_clock(self, late_s: float) -> None:
        now = self._loop.time()
        self._excuse(late_s, now)
        quic_at = self._quic.get_timer()
        if quic_at is not None and quic_at <= now:
            self._quic.handle_timer(now=now)
        for move in self._liveness.due(now):
            self._move(move)

    def _excuse(self, late_s: float, now: float) -> None:
        """What we had no time to hear was not silence. A socket that never gets empty excuses but so much."""
        liveness = self._liveness
        if late_s > _LATE_S:
            liveness.excuse(late_s, now, grace_s=liveness.patience.keep_alive_s)
        elif now >= liveness.verdict_at and liveness.may_wait and self._owner.is_behind():
            liveness.excuse(0.0, now, grace_s=_CATCH_UP_S)

    def _ask(self) -> None:
        """A datagram that has to be acknowledged, and tells when the next is to be expected."""
        if not self._quic.datagram_room_bytes:
            self._quic.send_ping(0)  # not one of ours: it would not understand
            return
        self._pace.asks(self)
        if self._pace.news():
            _log.info("liveness.pace", interval_s=self._pace.interval_s, asked=self._pace.asked)
        told_s = self._liveness.asking(self._pace.interval_s)
        self._quic.offer_datagram(datagrams.pace(told_s))

    def _move(self, move: Move) -> None:
        match move:
            case Move.PING if self.is_up:
                self._ask()
            case Move.PING:
                self._quic.send_ping(0)
            case Move.SUSPECT if self.is_up:
                self._owner.link_silent(self, suspected=True)
            case Move.LOST:
                self.close(Unreachable(f"{self._peer or 'the peer'} has been silent for too long"))

    def _end(self, error: NanoError) -> None:
        self.error = error
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        self._pace.spares(self)
        self.exchanges.end(error)
        for ping in self._pings.values():
            if not ping.done():
                ping.set_exception(error)
        resolve(self._closed)
        self._owner.link_down(self, error)


def _reason(event: quic_events.ConnectionTerminated) -> NanoError:
    """Why a connection ended, as the model's error."""
    if _is_of_trust(event):
        return Untrusted(f"the handshake failed: {why(event)}")
    return Unreachable(f"the link ended: {why(event)}")


def _is_of_trust(event: quic_events.ConnectionTerminated) -> bool:
    return event.frame_type is not None and is_trust_error(event.error_code)


def _is_graceful(event: quic_events.ConnectionTerminated) -> bool:
    """Whether the peer closed because it was done: a close of HTTP/3 without an error (RFC 9114, 8.1)."""
    return event.frame_type is None and event.error_code == ErrorCode.H3_NO_ERROR
