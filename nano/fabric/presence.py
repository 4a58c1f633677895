"""Doing something with every peer of some roles for as long as it is there.

Most of what a service does with others is a stream that stays open: a watch, outcomes of steps, a cell's
reports. Such a stream breaks when either side restarts, and is opened anew once the peer is heard again.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from nano.fabric.fabric import Fabric
from nano.fabric.peers.roster_events import News
from nano.model.errors import NanoError
from nano.model.peers import Peer, Role

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
CALM_S = 10.0
"""What held this long had not been failing: the next try comes soon."""

Listen = Callable[[Peer], Awaitable[None]]

_log = structlog.get_logger("nano.fabric")


async def while_present(fabric: Fabric, roles: frozenset[Role], listen: Listen) -> None:
    """Runs `listen` with each peer of `roles`, again whenever it ends; never returns by itself.

    A `NanoError` of `listen` ends that try; anything else is a defect and comes out of here. Between tries
    is a pause that grows, and which news of the peer cut short. Who is not known any more, be it that anybody
    said its name once, is tried no more until it is heard again.
    """
    heard: dict[Peer, _Followed] = {}
    ended = asyncio.Event()
    fabric.look_for(*roles)
    async with asyncio.TaskGroup() as jobs:
        try:
            async for event in fabric.events():
                peer, news = event.peer, event.news
                if peer.role not in roles or news in {News.LOST, News.LEFT, News.SUSPECT}:
                    continue
                if peer not in heard:
                    heard[peer] = _Followed()
                    jobs.create_task(_follow(fabric, peer, listen, heard, ended), name=f"with {peer}")
                if news is not News.JOINED or not heard[peer].trying:
                    heard[peer].event.set()
        finally:
            ended.set()  # before the jobs are cancelled


class _Followed:
    """One peer that is listened to."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        """It was heard: try now."""
        self.trying = False
        """That it joins is then what the try itself did, and no reason for the next one: a peer that turns us
        away joins each time, as who dials sees a link come up before the other side has judged it."""


async def _follow(
    fabric: Fabric, peer: Peer, listen: Listen, heard: dict[Peer, _Followed], ended: asyncio.Event
) -> None:
    try:
        await _keep(fabric, peer, listen, heard[peer], ended)
    finally:
        del heard[peer]


async def _keep(fabric: Fabric, peer: Peer, listen: Listen, heard: _Followed, ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        began = loop.time()
        heard.event.clear()
        heard.trying = True
        try:
            await listen(peer)
        except NanoError as error:
            _log.info("peer.stream_ended", peer=str(peer), code=error.code, reason=error.message)
            # not task.cancelling(): grpclib cancels whoever waits on a link that ends, and leaves it marked
            if ended.is_set():
                # `listen` failed while it was tidying up after its own end: that it ends stays so
                raise asyncio.CancelledError from error
        finally:
            heard.trying = False
        if loop.time() - began > CALM_S:
            pause_s = FIRST_PAUSE_S
        try:
            async with asyncio.timeout(pause_s):
                await heard.event.wait()
        except TimeoutError:
            if fabric.peers.state_of(peer) is None:
                return
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
