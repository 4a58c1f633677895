"""Two ends of a QUIC connection in memory, on a clock of their own: any loss, no socket, no waiting."""

from collections.abc import Callable
from pathlib import Path

from aioquic.quic.events import QuicEvent, StreamDataReceived

from nano.fabric.credentials import Credentials
from nano.fabric.identity import Identity
from nano.fabric.quic import Connection, Windows
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone, utc_now

CLIENT, SERVER = ("10.0.0.1", 1000), ("10.0.0.2", 2000)
Drop = Callable[[int], bool]
"""Whether the network loses the n-th datagram."""


def _nothing_lost(_: int) -> bool:
    return False


class Pair:
    """A client and a server. Time moves only in `run`."""

    def __init__(self, identities: tuple[Identity, Identity], windows: Windows, datagram_bytes: int) -> None:
        self.now = 0.0
        self.sent = 0
        server, client = (Credentials.load(identity, utc_now) for identity in identities)
        dials = identities[0].dns_name
        self.client = Connection(
            client.configuration(dials=dials, datagram_bytes=datagram_bytes, idle_timeout_s=60), windows
        )
        self.server = Connection(
            server.configuration(dials=None, datagram_bytes=datagram_bytes, idle_timeout_s=60),
            windows,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.events: dict[Connection, list[QuicEvent]] = {self.client: [], self.server: []}

    @classmethod
    def connected(cls, folder: Path, windows: Windows | None = None, *, datagram_bytes: int = 1200) -> "Pair":
        """A pair of a cell (the server) and a scheduler, after the handshake."""
        zone = make_zone(folder)
        identities = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
        pair = cls(identities, windows or Windows(), datagram_bytes)
        pair.client.connect(SERVER, now=pair.now)
        pair.run()
        return pair

    def run(self, drop: Drop = _nothing_lost, *, seconds: float = 30.0) -> None:
        """Let both talk, with timers, until neither has anything to say for now, or `seconds` have passed."""
        deadline = self.now + seconds
        while self.now < deadline:
            if not self._pass_datagrams(drop):
                due = self._next_timer()
                if due is None or due > deadline:
                    return
                self.now = max(self.now, due)
                for end in (self.client, self.server):
                    timer = end.get_timer()
                    if timer is not None and timer <= self.now:
                        end.handle_timer(now=self.now)

    def received(self, end: Connection, stream_id: int) -> bytes:
        """All that came on a stream so far, in order."""
        return b"".join(
            event.data
            for event in self.events[end]
            if isinstance(event, StreamDataReceived) and event.stream_id == stream_id
        )

    def _next_timer(self) -> float | None:
        """The next timer before the idle timeout; None when only that is left."""
        ends = [end for end in (self.client, self.server) if end.has_path]
        timers = [timer for end in ends if (timer := end.get_timer()) is not None]
        return min((timer for timer in timers if timer < self.now + 20), default=None)

    def _pass_datagrams(self, drop: Drop) -> bool:
        """One flight of both at once, a millisecond long; whether there was any."""
        ways = ((self.client, self.server, CLIENT), (self.server, self.client, SERVER))
        flights = [
            (receiver, source, sender.datagrams_to_send(now=self.now) if sender.has_path else [])
            for sender, receiver, source in ways
        ]
        self.now += 0.001
        for receiver, source, flight in flights:
            for data, _ in flight:
                self.sent += 1
                if not drop(self.sent):
                    receiver.take(data, source, self.now)
            self._collect(receiver)
        return any(flight for _, _, flight in flights)

    def _collect(self, end: Connection) -> None:
        while (event := end.next_event()) is not None:
            self.events[end].append(event)
