"""What is due when: one heap for all tasks, since a timer of the loop for each would cost more than it."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Due(Enum):
    """What a timer reminds of."""

    TASK = 0
    """Try the task's next move again."""
    DEADLINE = 1
    LANE = 2
    """Wake the target's lane."""
    FORGETS = 3
    """Tell the target what has ended."""


@dataclass(frozen=True, slots=True, order=True)
class _Timer:
    at_s: float
    number: int
    due: Due
    key: str


class Timers:
    """Pure; times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._heap: list[_Timer] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, at_s: float, due: Due, key: str) -> bool:
        """Remind at `at_s`; says whether that is now the first of all."""
        self._count += 1
        timer = _Timer(at_s, self._count, due, key)
        heapq.heappush(self._heap, timer)
        return self._heap[0] is timer

    def next_s(self) -> float | None:
        return self._heap[0].at_s if self._heap else None

    def pop_due(self, now_s: float) -> tuple[Due, str] | None:
        if not self._heap or self._heap[0].at_s > now_s:
            return None
        timer = heapq.heappop(self._heap)
        return timer.due, timer.key

    def sift(self, still_wanted: Callable[[Due, str], bool]) -> None:
        """Drop what reminds of things that are long over."""
        self._heap = [timer for timer in self._heap if still_wanted(timer.due, timer.key)]
        heapq.heapify(self._heap)
