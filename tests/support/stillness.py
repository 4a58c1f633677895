"""When what flows has come to a halt, because somebody does not read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from nano.fabric.links.link import Link

_TURNS = 20
_SMALL_BYTES = 1000
"""Under way of calls and pings alone; a packet of data is larger."""

PATIENCE_S = 20


async def still(
    measure: Callable[[], int], turn: Callable[[], Awaitable[object]], links: Callable[[], Iterable[Link]]
) -> int:
    """The value once it has stood still over twenty turns, each a round trip, with nothing under way.

    Of `links`, those that data leaves by. A busy machine drops packets, and what was lost is sent again only
    when its time has come: until then it is no halt.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            before = measure()
            for _ in range(_TURNS):
                await turn()
            if measure() == before and all(_under_way(link) < _SMALL_BYTES for link in links()):
                return before


def _under_way(link: Link) -> int:
    """Bytes sent of which nobody knows yet whether they arrived."""
    return link.quic._loss._cc.bytes_in_flight
