"""What is scarce and held for as long as somebody likes: streams, transfers, consoles. Pure.

All people share one gateway and its limits, so nobody holds so much of them that others get nothing.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator

from nano.model.errors import Exhausted

RETRY_S = 5.0


class Room:
    """How many of one kind are held at once: by all, and by one user."""

    def __init__(self, kind: str, most: int, most_of_one: int) -> None:
        self._kind = kind
        self._most = most
        self._most_of_one = most_of_one
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    @contextlib.contextmanager
    def held(self, user: str) -> Iterator[None]:
        """One of them, until this is left. `Exhausted` when there is none, or none for this user."""
        if self._held[user] >= self._most_of_one:
            raise Exhausted(
                f"user {user} has {self._most_of_one} {self._kind} open: close one, or try later",
                retry_after_s=RETRY_S,
            )
        if len(self) >= self._most:
            raise Exhausted(f"{self._most} {self._kind} are open here: try later", retry_after_s=RETRY_S)
        self._held[user] += 1
        try:
            yield
        finally:
            self._held[user] -= 1
            self._held += Counter()  # forgets who has none
