"""When a silent peer is asked, doubted and given up. No I/O and no clock: time in, what to do out.

Only the side that dialled asks, and only after a silence: any packet is a sign of life and saves the ping. A
peer that sends samples is not asked before its next one is overdue. Where very many have to be asked, each is
asked less often (`Pace`), and is told so, since both ends must be equally patient.

Silence counts only while we listen. A process that was busy reads what waits for it before it judges anybody
(`Liveness.excuse`): what it did not hear was not silence.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

PING_COST_S = 0.0005
"""What one ping is taken to cost this process, answer included: twice what it does on a quiet machine."""

PING_SHARE = 0.05
"""The most of a core that all pings together may take: a hundred links a second."""

LONGEST_INTERVAL_S = 60.0
"""However many links there are, and whatever a peer says: a dead one is found within minutes."""

STRETCH_STEP = 1.5
"""An interval grows by no more than this from one ping to the next. The datagram that says so may be lost:
two such steps still fit into the patience of a peer that has not heard of them."""

OVERDUE = 1.25
"""A sample is overdue after this many of its intervals."""


class Move(Enum):
    """What the silence calls for."""

    PING = "ping"
    SUSPECT = "suspect"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Patience:
    """After how much silence, in seconds, a peer is asked, suspected, lost."""

    keep_alive_s: float = 1.0
    suspect_s: float = 3.0
    lost_s: float = 5.0

    def stretched(self, interval_s: float) -> "Patience":
        """The same, for a peer that is asked each `interval_s`: never shorter, at most a minute between."""
        factor = max(1.0, min(interval_s, LONGEST_INTERVAL_S) / self.keep_alive_s)
        return Patience(self.keep_alive_s * factor, self.suspect_s * factor, self.lost_s * factor)


class Pace:
    """How often one process asks its peers: as often as configured, less often when they are very many.

    Who sends samples is not asked and does not count.
    """

    def __init__(self, keep_alive_s: float = 1.0) -> None:
        self._keep_alive_s = keep_alive_s
        self._asked: set[Hashable] = set()
        self._said_s = keep_alive_s

    @property
    def interval_s(self) -> float:
        """Between two pings of one link."""
        return max(self._keep_alive_s, min(len(self._asked) * PING_COST_S / PING_SHARE, LONGEST_INTERVAL_S))

    @property
    def asked(self) -> int:
        """Links that have to be asked."""
        return len(self._asked)

    def asks(self, link: Hashable) -> None:
        self._asked.add(link)

    def spares(self, link: Hashable) -> None:
        """It speaks unasked, or is over."""
        self._asked.discard(link)

    def news(self) -> bool:
        """Whether the interval has doubled or halved since this was last true: worth a line in the log."""
        is_new = not self._said_s / 2 < self.interval_s < self._said_s * 2
        if is_new:
            self._said_s = self.interval_s
        return is_new


class Liveness:
    """The silence of one peer."""

    def __init__(self, patience: Patience, now: float, *, asks: bool) -> None:
        self._configured = patience
        self.patience = patience
        """What holds for this peer now."""
        self._asks = asks
        self._last = now
        self._excused_s = 0.0
        """Part of this silence in which we did not listen."""
        self._sampled_at: float | None = None
        self._rhythm_s: float | None = None
        """Between the last two samples."""
        self._pings = 0
        self._verdict: Move | None = None

    @property
    def suspected(self) -> bool:
        return self._verdict is not None

    def heard(self, now: float) -> bool:
        """A packet came. Whether the peer had been suspected until now."""
        was_suspected = self.suspected
        self._last = now
        self._excused_s = 0.0
        self._pings = 0
        self._verdict = None
        return was_suspected

    def sampled(self, now: float) -> bool:
        """A sample came: another will. Whether the peer should hear that it is asked as configured again."""
        if self._sampled_at is not None:
            self._rhythm_s = now - self._sampled_at
        self._sampled_at = now
        was_stretched = self.patience != self._configured
        self.patience = self._configured
        return was_stretched

    def asking(self, wanted_s: float) -> float:
        """A ping goes out: the interval that it should tell, on the way to `wanted_s`."""
        interval_s = min(wanted_s, self.patience.keep_alive_s * STRETCH_STEP)
        self.patience = self._configured.stretched(interval_s)
        return self.patience.keep_alive_s

    def told(self, interval_s: float) -> None:
        """The peer, which asks us, will do so each `interval_s`."""
        self.patience = self._configured.stretched(interval_s)

    def excuse(self, for_s: float, now: float, *, grace_s: float) -> None:
        """We did not listen for the last `for_s`; the next verdict is `grace_s` away, or more."""
        due = self._verdict_after()
        if due is not None:
            silence_s = now - self._last
            self._excused_s = max(self._excused_s + min(for_s, silence_s), grace_s + silence_s - due[0])

    @property
    def may_wait(self) -> bool:
        """Whether so little of this silence is excused that somebody who is behind may first catch up."""
        return self._excused_s < self.patience.lost_s

    @property
    def verdict_at(self) -> float:
        """When the peer will be judged, if it stays silent; infinity once it is lost."""
        due = self._verdict_after()
        return float("inf") if due is None else self._last + self._excused_s + due[0]

    @property
    def next_at(self) -> float:
        """When to look again; infinity once the peer is lost."""
        return min(self.verdict_at, self._ask_at())

    def due(self, now: float) -> list[Move]:
        """What has become due by `now`, in order, each once per silence."""
        found = []
        while (at := self.next_at) <= now:
            if self._ask_at() == at:
                self._pings += 1
                found.append(Move.PING)
            elif (verdict := self._verdict_after()) is not None:
                self._verdict = verdict[1]
                found.append(verdict[1])
        return found

    def _verdict_after(self) -> tuple[float, Move] | None:
        """After how much silence the next verdict falls, and which; None when the last has fallen."""
        match self._verdict:
            case None:
                return self.patience.suspect_s, Move.SUSPECT
            case Move.SUSPECT:
                return self.patience.lost_s, Move.LOST
            case _:
                return None

    def _ask_at(self) -> float:
        """Two pings per silence: QUIC itself repeats what is not acknowledged."""
        if not self._asks or self._pings >= _PINGS or self._verdict is Move.LOST:
            return float("inf")
        first = self._last + self.patience.keep_alive_s
        if self._rhythm_s is not None and self._sampled_at is not None:
            latest_s = self.patience.suspect_s - self.patience.keep_alive_s / 2
            first = max(first, self._sampled_at + min(self._rhythm_s * OVERDUE, latest_s))
        return first + self._pings * self.patience.keep_alive_s


_PINGS = 2
