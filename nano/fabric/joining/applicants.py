"""The links of those who ask to be let in: few, short of everything, and nobody else's business.

Whoever reaches the port can have such a link, so what it may cost is bounded here: their number, their
calls, and what is held of what they send. When there are too many, the one that has waited longest of the
host with most of them gives way: who waits for an administrator keeps its place in the book and comes back,
who holds a token is done in a moment, and nobody can keep others out by staying, or by coming often.
"""

import asyncio
from collections import Counter

from nano.fabric.links.ends import UNKNOWN_BYTES
from nano.fabric.links.link import Link
from nano.fabric.packets.quic import KIB, Windows
from nano.model.errors import Exhausted

LINK_LIMIT = 32
"""Applicants that may be linked at one time."""

IDLE_S = 30.0
"""How long such a link may be without a call."""

WINDOWS = Windows(stream_bytes=32 * KIB, connection_bytes=UNKNOWN_BYTES, streams=8)
"""What a link may send beyond what is consumed: no more than every peer may that is not known yet."""

_RETRY_AFTER_S = 5.0


class Applicants:
    """All links of applicants to one process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._links: dict[Link, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._links)

    def up(self, link: Link) -> None:
        """One more; another one is closed when there are too many."""
        while len(self._links) >= LINK_LIMIT:
            one = self._gives_way_to(link)
            self.down(one)
            one.close(
                Exhausted(
                    f"{LINK_LIMIT} others ask to be let in: ask again in a moment",
                    retry_after_s=_RETRY_AFTER_S,
                )
            )
        link.quic.widen(WINDOWS)
        self._links[link] = self._loop.call_later(IDLE_S, self._look, link)

    def _gives_way_to(self, link: Link) -> Link:
        """The oldest of the host that has most, the new one's counted too: addresses are proven by now."""
        of_host = Counter(each.address[0] for each in (*self._links, link))
        most = max(of_host.values())
        return next(each for each in self._links if of_host[each.address[0]] == most)

    def down(self, link: Link) -> None:
        """It is over; that of somebody else is none of ours."""
        timer = self._links.pop(link, None)
        if timer is not None:
            timer.cancel()

    def refusal(self, link: Link) -> Exhausted | None:
        """Why a call that begins on `link` is refused, if so: it has another one open."""
        if len(link.exchanges) <= 1:
            return None
        return Exhausted("who asks to be let in has one call at a time", retry_after_s=_RETRY_AFTER_S)

    def _look(self, link: Link) -> None:
        """Close a link that was not used for so long; else look again when it may have been."""
        now = self._loop.time()
        due = now + IDLE_S if link.exchanges else link.exchanges.last_used + IDLE_S
        if due <= now:
            link.close()
        else:
            self._links[link] = self._loop.call_at(due, self._look, link)
