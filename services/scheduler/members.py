"""Tells every member whom the zone trusts, and hears that they know: removals, and the change of the
authority.

What to say and what comes next the book decides (`membership.py`, `rotation.py`). A member is told on each
new link and at each change; who is away is told when it is back.
"""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.fabric.joining.join_token import JOINABLE
from nano.fabric.links.sparing import Sparing
from nano.fabric.presence import while_present
from nano.member import Member, trust_message
from nano.model.errors import Stale
from nano.model.membership import Phase
from nano.model.peers import Peer
from nano.shelf import Shelf
from nano.waits import first_of
from services.scheduler.comings import Comings, Line
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory
from services.scheduler.membership import MembershipChange, RemovalGone, RemovalPut, TrustPut

ANSWER_S = 10.0
"""How long a member may take to write down what it is told."""

ASK_AGAIN_S = 2.0
"""While members renew by another authority: how often one that has not yet is asked whether it has."""

GATHER_S = 0.2
"""Acknowledgements come in flocks: what follows from them is looked at once for all that came in this
time."""

_HOUR_S = 3600.0
_OF_TRUST = (RemovalPut, RemovalGone, TrustPut)

_log = structlog.get_logger("scheduler.members")


class Members:
    """The scheduler's side of `nano.v1.Member`."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        fabric: Fabric,
        grants: Grants,
        own: tuple[Peer, Member],
        now_ms: Callable[[], int],
    ) -> None:
        """`own` is this scheduler's place in the zone."""
        self._shelf = shelf
        self._fabric = fabric
        self._grants = grants
        self._own_peer, self._own = own
        self._now_ms = now_ms
        self.changed = Bell()
        """Rung when who is in, or waits, has changed and that is durable."""
        self._trust_changed = Bell()
        self._heard = asyncio.Event()
        self._caught_up: set[Peer] = set()
        """Who has told in this life of ours what it has in force: it can know of no more than we tell now."""
        self.ask_again_s = ASK_AGAIN_S
        self._comings = Comings(shelf.book.membership)
        self._sparing = Sparing()

    async def run(self) -> None:
        """Until cancelled."""
        self._heard.set()  # a phase may be over since before our restart
        async with asyncio.TaskGroup() as jobs:
            for name, job in (
                ("follow", self._follow()),
                ("ourselves", self._tell_ourselves()),
                ("advance", self._advance()),
                ("forget", self._forget()),
                ("tell", while_present(self._fabric, JOINABLE, self._tell)),
            ):
                jobs.create_task(job, name=f"members: {name}")

    async def _follow(self) -> None:
        """Act on what has become durable."""
        self._grants.settled()
        while True:
            self._comings = Comings(self._shelf.book.membership)
            with contextlib.suppress(Stale):
                async for _, changes in self._shelf.follow(self._shelf.cursor):
                    self._became_durable(changes)
                return  # the shelf is being closed
            self._became_durable((TrustPut(self._shelf.book.membership.trust),))

    def _became_durable(self, changes: tuple[object, ...]) -> None:
        if any(isinstance(each, _OF_TRUST) for each in changes):
            self._grants.settled()
            self._trust_changed.ring()
            self._heard.set()
        if any(isinstance(each, MembershipChange) for each in changes):
            self.changed.ring()
            for line in self._comings.lines(changes):
                self._write(line)

    def _write(self, line: Line) -> None:
        if not line.by_stranger:
            _log.info(line.event, **line.fields)
            return
        left_out = self._sparing.left_out(line.event, self._now_ms() / 1000)
        if left_out is not None:
            _log.info(line.event, **line.fields, left_out=left_out)

    async def _tell_ourselves(self) -> None:
        """The scheduler is a member too: who was removed loses its links, and it renews when others do."""
        while True:
            with contextlib.closing(self._trust_changed.heard()) as changed:
                trust = self._grants.trust()
                await self._shelf.durable()
                known = self._own.told(trust)
                self._acknowledged(self._own_peer, known.revision, self._own.issuer)
                await first_of(changed, within_s=self._again_s(self._own_peer))

    async def _tell(self, peer: Peer) -> None:
        """For as long as the link holds: what is trusted now, and each change of it."""
        channel = self._fabric.channel(peer.role, peer.id)
        stub = v1.MemberStub(channel)
        link = await channel.__connect__()
        while link.is_up:
            with contextlib.closing(self._trust_changed.heard()) as changed:
                trust = self._grants.trust()
                await self._shelf.durable()
                reply = await stub.trust(trust_message(trust), timeout=ANSWER_S)
                self._acknowledged(peer, reply.revision, reply.issuer)
                await first_of(link.wait_closed(), changed, within_s=self._again_s(peer))

    def _acknowledged(self, peer: Peer, revision: int, issuer: str) -> None:
        membership = self._shelf.book.membership
        if peer not in self._caught_up:  # once: one that always knows more would keep all others listening
            self._caught_up.add(peer)
            self._shelf.commit(*membership.overtaken(revision))
        self._shelf.commit(*membership.acknowledged(peer, revision, issuer))
        self._heard.set()

    def _again_s(self, peer: Peer) -> float | None:
        """When to ask again though nothing changes: while the zone waits for this member to renew."""
        membership = self._shelf.book.membership
        trust, member = membership.trust, membership.members.get(peer)
        if trust.phase is not Phase.MOVING or member is None or member.issuer == trust.trusted[0]:
            return None
        return self.ask_again_s

    async def _advance(self) -> None:
        """The next phase of a rotation, as soon as nobody is waited for any more."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            changes = self._shelf.book.membership.advance()
            if changes:
                self._shelf.commit(*changes)
            await asyncio.sleep(GATHER_S)

    async def _forget(self) -> None:
        """Removals of keys that can have no valid certificate any more."""
        while True:
            self._shelf.commit(*self._shelf.book.membership.forget_old_removals(self._now_ms()))
            await asyncio.sleep(_HOUR_S)
