"""Whether this server is still in its zone: a member hears it from the scheduler, or asks.

What is sure comes from a scheduler that has proven to be the zone's: it tells whom to trust, answers, or
turns us away and says why (`fabric/links/verdict.py`). Who merely answers at a scheduler's address and cannot
prove it makes a doubt, which people may read and which changes nothing: no stranger talks a member out of its
zone. What follows from it all is a note for people, and, for one that was left behind by a rotation whose new
authority it knows, that it comes back by its own key.
"""

import asyncio

import structlog

from nano.fabric.fabric import Fabric
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.identity.trust import ZoneTrust
from nano.fabric.joining.standing import Note, State
from nano.fabric.links.link import Link
from nano.fabric.links.verdict import Verdict
from nano.fabric.peers.roster_events import News
from nano.model.errors import NanoError, Untrusted
from nano.model.peers import Peer, Role
from nano.waits import first_of

FIRST_S = 3.0
"""How long the scheduler may take to speak by itself, before it is asked."""
LONGEST_S = 600.0
"""How often it is asked at least while it does not speak by itself."""
ANSWER_S = 10.0

_log = structlog.get_logger("nano.joining")


class Outlook:
    """What one member, whose scheduler is elsewhere, knows of its membership."""

    def __init__(self, fabric: Fabric, folder: IdentityFolder, note: Note) -> None:
        self._fabric = fabric
        self._folder = folder
        self._note = note
        self.left_behind = asyncio.Event()
        """The zone trusts the authority no more that signed our certificate, and we know the one that it
        trusts."""
        fabric.on_turned_away(self._turned_away)

    def told(self, trust: ZoneTrust) -> None:
        """The scheduler has said whom the zone trusts."""
        if self._folder.fingerprint in trust.removed:
            self._is_over(State.REMOVED, "the scheduler says that this key was removed from the zone")
        elif self._note.is_taken():
            _log.info("membership.holds", zone=trust.zone)

    async def run(self) -> None:
        """Until cancelled: ask for as long as the scheduler does not speak by itself."""
        pause_s = FIRST_S
        while True:
            while (link := self._link()) is not None:
                await first_of(link.wait_closed(), within_s=LONGEST_S)
                pause_s = FIRST_S
                if link.is_up:
                    self._note.is_taken()
            await first_of(self._linked(), within_s=pause_s)
            if self._link() is None:
                await self._ask()
                pause_s = min(2 * pause_s, LONGEST_S)

    def _link(self) -> Link | None:
        """One that is for more than a visit."""
        links = (each for each in self._fabric.links if each.announced and each.is_up)
        return next((each for each in links if each.peer.role is Role.SCHEDULER), None)

    async def _linked(self) -> None:
        """Returns when there is such a link."""
        async for event in self._fabric.events():
            if event.peer.role is Role.SCHEDULER and event.news is News.JOINED and self._link() is not None:
                return

    async def _ask(self) -> None:
        """Whoever refuses our certificate does so before it answers anything."""
        channel = self._fabric.channel(Role.SCHEDULER, visit=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                link: Link = await channel.__connect__()
                await link.ping()
        except Untrusted as error:
            if self._note.doubts(error.message):
                _log.warning("membership.doubtful", why=error.message)
        except (NanoError, TimeoutError) as error:
            _log.debug("membership.not_asked", why=str(error))
        else:
            if self._note.is_taken():
                _log.info("membership.holds", zone=self._fabric.zone)

    def _turned_away(self, peer: Peer, verdict: Verdict) -> None:
        """By somebody who has proven who it is; only the scheduler's word counts."""
        if peer.role is not Role.SCHEDULER:
            return
        if verdict is Verdict.REMOVED:
            self._is_over(State.REMOVED, "the scheduler refuses this key: it was removed from the zone")
        elif verdict is Verdict.FOREIGN:
            self._is_over(State.LEFT_BEHIND, "the zone trusts the authority no more that let this server in")
            self.left_behind.set()

    def _is_over(self, state: State, why: str) -> None:
        if self._note.says(state, why=why):
            _log.error("membership.over", state=str(state), why=why)
