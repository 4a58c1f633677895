"""Log lines that a stranger can cause are written a few times a minute, and counted beyond that.

A handshake that fails costs a stranger next to nothing; a line for each would fill a disk.
"""

from dataclasses import dataclass

LINES = 10
"""Of one kind, within `SPAN_S`: enough to see who it is, and that it goes on."""

SPAN_S = 60.0


@dataclass(slots=True)
class _Kind:
    since: float
    written: int = 0
    left_out: int = 0


class Sparing:
    """Says of each line whether it may be written; kinds of lines are few, and the code's own."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def left_out(self, kind: str, now: float) -> int | None:
        """How many lines of this `kind` were left out since the last one; None if this one is, too."""
        known = self._kinds.setdefault(kind, _Kind(now))
        if not 0 <= now - known.since < SPAN_S:
            known.since, known.written = now, 0
        if known.written >= LINES:
            known.left_out += 1
            return None
        known.written += 1
        count, known.left_out = known.left_out, 0
        return count
