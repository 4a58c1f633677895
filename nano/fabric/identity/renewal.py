"""When a certificate is renewed: a day before it ends, or soon after another authority signs for the zone.

Clocks get set and hosts sleep, so the calendar is looked at again each hour. A zone that changes its
authority tells all its members at once: they renew spread over a minute.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime

from nano.fabric.identity.folder import IdentityFolder

SPREAD_S = 60.0
"""Over how long renewals are spread that have the same cause for all members."""

_LOOK_S = 3600.0
_LEAST_S = 1.0  # two clocks that differ by a hair make no busy loop


class Renewal:
    """The renewals of what one folder holds. `told` wakes it when the zone's trust has changed."""

    def __init__(
        self, folder: IdentityFolder, clock: Callable[[], datetime], *, spread_s: float = SPREAD_S
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._spread_s = spread_s
        self._news = asyncio.Event()
        self._tried = ""
        """The authority for which a renewal was tried: one that goes on signing by the old one is not asked
        again and again."""

    def told(self) -> None:
        """Whom the zone trusts has changed: look again."""
        self._news.set()

    @property
    def is_due(self) -> bool:
        """Whether the kept certificate should be replaced now."""
        return self._folder.left_s(self._clock()) <= 0 or self._folder.is_outdated

    async def due(self) -> None:
        """Returns when it is time."""
        while (left_s := self._folder.left_s(self._clock())) > 0:
            self._news.clear()
            if self._folder.is_outdated and self._folder.signer != self._tried:
                self._tried = self._folder.signer
                await asyncio.sleep(random.uniform(0, self._spread_s))  # noqa: S311 - no secret
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_LEAST_S, min(_LOOK_S, left_s))):
                    await self._news.wait()
