"""When a silent peer is asked, doubted and given up. No I/O and no clock: time in, what to do out.

Only the side that dialled asks, and only after a silence: any packet is a sign of life and saves the ping.
"""

from dataclasses import dataclass
from enum import Enum


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


class Liveness:
    """The silence of one peer."""

    def __init__(self, patience: Patience, now: float, *, asks: bool) -> None:
        self._patience = patience
        self._asks = asks
        self._last = now
        self._step = 0
        """How many of the moves of this silence were made."""
        self._moves = _moves(patience, asks=asks)

    @property
    def suspected(self) -> bool:
        made = self._moves[: self._step]
        return any(move is Move.SUSPECT for _, move in made)

    def heard(self, now: float) -> bool:
        """A packet came. Whether the peer had been suspected until now."""
        was_suspected = self._step > 0 and self.suspected
        self._last = now
        self._step = 0
        return was_suspected

    @property
    def next_at(self) -> float:
        """When to look again; infinity once the peer is lost."""
        if self._step >= len(self._moves):
            return float("inf")
        return self._last + self._moves[self._step][0]

    def due(self, now: float) -> list[Move]:
        """What has become due by `now`, in order, each once per silence."""
        found = []
        while self.next_at <= now:
            found.append(self._moves[self._step][1])
            self._step += 1
        return found


def _moves(patience: Patience, *, asks: bool) -> list[tuple[float, Move]]:
    moves = [(patience.suspect_s, Move.SUSPECT), (patience.lost_s, Move.LOST)]
    if asks:
        moves += [(patience.keep_alive_s, Move.PING), (2 * patience.keep_alive_s, Move.PING)]
    return sorted(moves, key=lambda move: move[0])
