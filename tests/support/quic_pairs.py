"""Two ends of a QUIC connection in memory, on a clock of their own: any loss, no socket, no waiting."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Self

from aioquic.quic.events import QuicEvent, StreamDataReceived

from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Identity
from nano.fabric.packets.quic import Connection, Windows
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone, utc_now

CLIENT, SERVER = ("10.0.0.1", 1000), ("10.0.0.2", 2000)
Drop = Callable[[int], bool]
"""Whether the network loses the n-th datagram."""


def _nothing_lost(_: int) -> bool:
    return False


class Pair:
    """A client and a server. Time moves only in `run`."""

    kinds: tuple[type[Connection], type[Connection]] = (Connection, Connection)
    """Of what class client and server are."""

    def __init__(self, identities: tuple[Identity, Identity], windows: Windows, datagram_bytes: int) -> None:
        self.now = 0.0
        self.sent = 0
        server, client = (Credentials.load(identity, utc_now) for identity in identities)
        dials = identities[0].dns_name
        self.client = self.kinds[0](
            client.configuration(dials=dials, datagram_bytes=datagram_bytes, idle_timeout_s=60), windows
        )
        self.server = self.kinds[1](
            server.configuration(dials=None, datagram_bytes=datagram_bytes, idle_timeout_s=60),
            windows,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.events: dict[Connection, list[QuicEvent]] = {self.client: [], self.server: []}

    @classmethod
    def connected(cls, folder: Path, windows: Windows | None = None, *, datagram_bytes: int = 1200) -> Self:
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


class SlowConnection(Connection):
    """The connection without its short cuts: each packet goes aioquic's way."""

    def _may_write_full(self, path: object) -> bool:
        return False

    def _keys_to_open(self, address: object) -> None:
        return None


class MangledPair(Pair):
    """What is on the way gets lost, doubled or overtaken, by dice; what arrives together arrives as
    trains."""

    def __init__(self, identities: tuple[Identity, Identity], windows: Windows, datagram_bytes: int) -> None:
        super().__init__(identities, windows, datagram_bytes)
        self.dice = random.Random(0)
        self.loss = self.doubled = self.overtaken = 0.0
        self.carries_bytes = 65_535
        """Larger datagrams are lost: what the path's MTU does."""
        self._late: list[tuple[Connection, bytes, tuple[str, int]]] = []

    def _pass_datagrams(self, drop: Drop) -> bool:
        del drop
        ways = ((self.client, self.server, CLIENT), (self.server, self.client, SERVER))
        flying, self._late = self._late, []
        for sender, receiver, source in ways:
            for data, _ in sender.datagrams_to_send(now=self.now) if sender.has_path else []:
                self.sent += 1
                for _ in range(1 + (self.dice.random() < self.doubled)):
                    if len(data) > self.carries_bytes or self.dice.random() < self.loss:
                        continue
                    late = self.dice.random() < self.overtaken
                    (self._late if late else flying).append((receiver, data, source))
        self.now += 0.001
        for receiver, train, source, size in _trains(flying):
            receiver.take(train, source, self.now, size)
        for end in (self.client, self.server):
            self._collect(end)
        return bool(flying or self._late)


def _trains(
    flying: list[tuple[Connection, bytes, tuple[str, int]]],
) -> list[tuple[Connection, bytes, tuple[str, int], int]]:
    """Datagrams in a row to one end, as the kernel coalesces them."""
    found: list[tuple[Connection, bytes, tuple[str, int], int]] = []
    open_ended = False
    for receiver, data, source in flying:
        if open_ended and found[-1][0] is receiver and len(data) <= found[-1][3]:
            found[-1] = (receiver, found[-1][1] + data, source, found[-1][3])
            open_ended = len(data) == found[-1][3]
        else:
            found.append((receiver, data, source, len(data)))
            open_ended = True
    return found
