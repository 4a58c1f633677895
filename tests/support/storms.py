"""Calls over a bad path, between ends that stand still at times, some given up: by the dice of a seed.

The dice decide how much is lost, doubled and overtaken; windows, bodies, and how many calls begin at once;
whether the end of a request comes with its data or in a packet of its own; who gives up what; who stands
still and for how long; and when an application gets to what has come. What has to hold afterwards is in
`Storm.flaws`.
"""

import random
from collections import defaultdict
from pathlib import Path

from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from nano.fabric.packets.quic import KIB, Connection, Windows
from tests.support.quic_pairs import CLIENT, SERVER, Pair

_STEP_S = 0.002
_STEPS = 150
_PATIENCE_S = 40.0
"""For all to come to its end once no more calls begin. The idle timeout of a pair is longer."""

_SIZES = (1, 100, 3_000, 20_000, 120_000)
_CANCELLED = 7


class Storm(Pair):
    """A pair in one storm: `blow`, then look at `flaws`."""

    @classmethod
    def of_seed(cls, folder: Path, seed: int) -> "Storm":
        dice = random.Random(seed)
        windows = Windows(
            stream_bytes=dice.choice((64, 256)) * KIB,
            connection_bytes=dice.choice((300, 1000)) * KIB,
            streams=dice.choice((50, 1000)),
        )
        storm = cls.connected(folder, windows, datagram_bytes=dice.choice((1200, 1452, 8952)))
        storm._begin(dice)
        return storm

    def _begin(self, dice: random.Random) -> None:
        self._dice = dice
        self._loss = dice.choice((0.0, 0.0, 0.01, 0.03, 0.06))
        self._overtaken = dice.choice((0.0, 0.0, 0.3))
        self._wire: list[tuple[float, int, Connection, bytes]] = []
        self._busy_until = {self.client: 0.0, self.server: 0.0}
        self._unread: list[tuple[Connection, int, int]] = []
        self.requests: dict[int, bytes] = {}
        self.answers: dict[int, bytes] = {}
        self.got: dict[tuple[Connection, int], bytearray] = defaultdict(bytearray)
        self.ended: set[tuple[Connection, int]] = set()
        self.open_ended: set[int] = set()
        """Requests whose end is still to be said, in a packet of its own."""
        self.given_up: set[int] = set()

    def blow(self) -> None:
        """Until all calls are over at both ends, or patience is."""
        for _ in range(_STEPS):
            if self._dice.random() < 0.3:
                self._call()
            if self._dice.random() < 0.1:
                self._give_up()
            if self._dice.random() < 0.005:
                end = self._dice.choice((self.client, self.server))
                self._busy_until[end] = self.now + self._dice.choice((0.1, 0.6))
            self._step(reads=self._dice.random() < 0.5)
        for stream_id in sorted(self.open_ended):
            if self.client.takes_data(stream_id):
                self.client.send_stream_data(stream_id, b"", end_stream=True)
        until = self.now + _PATIENCE_S
        while self.now < until and self.unfinished():
            self._step(reads=True)
            if not self._wire and not self._unread and self.unfinished():
                self.now = max(self.now, self._next_deadline())

    def unfinished(self) -> list[int]:
        """Calls that are not over at one of the ends."""
        ends = (self.client, self.server)
        return [stream_id for stream_id in self.requests if any(end.has_stream(stream_id) for end in ends)]

    def flaws(self) -> list[str]:
        """What should not be, after a storm."""
        found = [f"a link ended: {end.ended}" for end in (self.client, self.server) if end.ended is not None]
        found += [f"stream {stream_id} is not over" for stream_id in self.unfinished()]
        for stream_id in self.requests.keys() - self.given_up:
            ways = ((self.server, self.requests[stream_id]), (self.client, self.answers.get(stream_id)))
            found += [
                f"stream {stream_id} did not bring what was sent"
                for end, body in ways
                if bytes(self.got[end, stream_id]) != body or (end, stream_id) not in self.ended
            ]
        found += [
            f"{end.held_bytes} bytes held and {end.disordered_bytes} out of order are left"
            for end in (self.client, self.server)
            if end.held_bytes or end.disordered_bytes
        ]
        return found

    # what applications do

    def _call(self) -> None:
        for _ in range(self._dice.choice((1, 1, 3, 30))):
            if self.client.free_streams <= 0:
                return
            stream_id = self.client.open_stream()
            body = self.requests[stream_id] = self._body()
            ends = self._dice.random() < 0.7
            if not ends:
                self.open_ended.add(stream_id)
            self.client.send_stream_data(stream_id, body, end_stream=ends)

    def _body(self) -> bytes:
        return self._dice.randbytes(1) * self._dice.choice(_SIZES)

    def _give_up(self) -> None:
        for stream_id in self._dice.sample(sorted(self.requests), min(len(self.requests), 8)):
            end = self._dice.choice((self.client, self.server))
            if not end.has_stream(stream_id) or not end.takes_data(stream_id):
                continue
            self.given_up.add(stream_id)
            self._break_off(end, stream_id)
            if (end, stream_id) not in self.ended:
                end.stop_stream(stream_id, _CANCELLED)

    def _break_off(self, end: Connection, stream_id: int) -> None:
        """Say no more, unless all was said."""
        if end is self.client and stream_id in self.open_ended:
            self.open_ended.discard(stream_id)
            end.reset_stream(stream_id, _CANCELLED)
        if end is self.server and stream_id not in self.answers:
            self.answers[stream_id] = b""
            end.reset_stream(stream_id, _CANCELLED)

    def _listen(self, end: Connection) -> None:
        while (event := end.next_event()) is not None:
            match event:
                case StreamDataReceived(data=data, end_stream=ends, stream_id=stream_id):
                    self._heard(end, stream_id, data, ends=ends)
                case StreamReset(stream_id=stream_id):
                    self.given_up.add(stream_id)
                    if end is self.server and end.has_stream(stream_id):
                        self._break_off(end, stream_id)
                case StopSendingReceived(stream_id=stream_id):
                    self.given_up.add(stream_id)

    def _heard(self, end: Connection, stream_id: int, data: bytes, *, ends: bool) -> None:
        self.got[end, stream_id] += data
        if data:
            end.hold(stream_id, len(data))
            self._unread.append((end, stream_id, len(data)))
        if ends:
            self.ended.add((end, stream_id))
        if end is self.server and stream_id not in self.answers and (ends or self._dice.random() < 0.3):
            body = self.answers[stream_id] = self._body()
            if end.takes_data(stream_id):
                end.send_stream_data(stream_id, body, end_stream=True)

    # what the path does

    def _step(self, *, reads: bool) -> None:
        if reads:
            self._dice.shuffle(self._unread)
            for end, stream_id, size in self._unread:
                end.consume(stream_id, size)
            self._unread.clear()
        for end, peer, source in ((self.client, self.server, SERVER), (self.server, self.client, CLIENT)):
            if self._busy_until[end] > self.now:
                continue
            timer = end.get_timer()
            if timer is not None and timer <= self.now:
                end.handle_timer(now=self.now)
            arrived = sorted(flying for flying in self._wire if flying[2] is end and flying[0] <= self.now)
            for flying in arrived:
                self._wire.remove(flying)
                end.take(flying[3], source, self.now)
            self._listen(end)
            for data, _ in end.datagrams_to_send(now=self.now):
                self._send(peer, data)
        self.now += _STEP_S

    def _send(self, to: Connection, data: bytes) -> None:
        self.sent += 1
        if self._dice.random() < self._loss:
            return
        late_s = self._dice.random() * 0.02 if self._dice.random() < self._overtaken else 0.0
        self._wire.append((self.now + 0.001 + late_s, self.sent, to, data))
        if self._dice.random() < self._loss / 4:
            self._wire.append((self.now + 0.03, self.sent, to, data))

    def _next_deadline(self) -> float:
        ends = (self.client, self.server)
        timers = [timer for end in ends if (timer := end.get_timer()) is not None]
        return min(timers + [until for until in self._busy_until.values() if until > self.now])
