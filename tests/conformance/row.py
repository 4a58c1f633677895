"""A row of the conformance table: what a peer may not do, and what it must get for it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.scene import Scene

Act = Callable[[], Scene | str]
"""Does it; gives the scene to look at, or what came of it where the row knows better."""


@dataclass(frozen=True, slots=True)
class Row:
    """`must` lists what the RFC allows as the outcome, the usual one first.

    `deviates` says why we do something else, where we do; the outcome is then `instead`.
    """

    section: str
    does: str
    must: tuple[str, ...]
    act: Act
    instead: str = ""
    deviates: str = ""

    def observe(self) -> str:
        """Run the row against our own code; gives what the peer got."""
        return asyncio.run(self._observe())

    async def _observe(self) -> str:
        found = self.act()
        if isinstance(found, str):
            return found
        try:
            return found.outcome()
        finally:
            found.close()

    def flaw(self, observed: str) -> str:
        """What is wrong with this outcome; empty if nothing."""
        if self.deviates:
            if observed in self.must:
                return f"it conforms now ({observed}): take the deviation out of the row"
            return "" if observed == self.instead else f"{observed} instead of the known {self.instead}"
        return "" if observed in self.must else f"{observed} instead of {' or '.join(self.must)}"


def connection(*names: str) -> tuple[str, ...]:
    return tuple(f"connection {name}" for name in names)


def stream(*names: str) -> tuple[str, ...]:
    return tuple(f"stream {name}" for name in names)


IGNORED = ("ignored",)
