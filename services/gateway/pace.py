"""When which sample is told: as soon as there is a newer one, no subject more often than it may. No clock."""

from collections.abc import Callable, Hashable, Sequence

Mark = Callable[[str], Hashable | None]
"""What tells one sample of a subject from the next; None: there is none yet."""


class Pace:
    """For one reader. Times are seconds of any clock that only grows."""

    def __init__(self, subjects: Sequence[str], mark: Mark, interval_s: float) -> None:
        self._mark = mark
        self._interval_s = interval_s
        self._told: dict[str, Hashable | None] = dict.fromkeys(subjects)
        self._due_s: dict[str, float] = dict.fromkeys(subjects, float("-inf"))

    def take(self, now_s: float) -> list[str]:
        """The subjects to be told now, which count as told."""
        due = [subject for subject in self._news() if self._due_s[subject] <= now_s]
        for subject in due:
            self._told[subject] = self._mark(subject)
            self._due_s[subject] = now_s + self._interval_s
        return due

    def wait_s(self, now_s: float) -> float | None:
        """Until something that is there already may be told; None: nothing is, wait for news."""
        waits = [self._due_s[subject] - now_s for subject in self._news()]
        return max(0.0, min(waits)) if waits else None

    def _news(self) -> list[str]:
        return [
            subject
            for subject, told in self._told.items()
            if (mark := self._mark(subject)) is not None and mark != told
        ]
