"""The links that this process dials: one for each peer and purpose, made when somebody needs it."""

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum
from typing import Any

from nano.fabric.identity.credentials import Credentials
from nano.fabric.links.ends import BULK_WINDOWS, CALL_WINDOWS, Dialled, Handlers, Route
from nano.fabric.links.link import Link
from nano.fabric.links.turns import Turns
from nano.fabric.packets.address import Address
from nano.fabric.packets.udp import resolve
from nano.fabric.peers import roster_events
from nano.fabric.peers.directory import Directory
from nano.model.errors import NanoError, Unreachable, Untrusted, from_code
from nano.model.peers import Peer, Role

FIND_S = 5.0
"""How long a call without a deadline waits for somebody to be found."""

DIAL_S = 3.0
"""How long one address may take to answer."""

IDLE_S = 30.0
"""After how long without use a link is closed that is not for the calls of every day."""

PROOF_S = 0.25
"""How long a peer that announces itself may take to answer on the old link before it is dialled anew as well.
Nothing is lost by it: the old link is given up only once the new one is up and the old one still silent."""

DIALS_AT_ONCE = 32
DIAL_TURN_S = 0.25
"""Handshakes of ours under way; one that takes longer than this waits for its peer (`turns.py`)."""

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_CALM_S = 1.0
"""A link that held this long was not turned away: it is dialled again at once."""


class Purpose(Enum):
    CALLS = "calls"
    VISITS = "visits"
    """Calls to somebody with whom there is no other business."""
    BULK = "bulk"


_WINDOWS = {Purpose.CALLS: CALL_WINDOWS, Purpose.VISITS: CALL_WINDOWS, Purpose.BULK: BULK_WINDOWS}

MakeHandlers = Callable[[tuple[Peer, Address, Purpose]], Handlers]


class Links:
    """Dials by name, shares what it dialled, dials again when that is gone."""

    def __init__(
        self,
        directory: Directory,
        credentials: Credentials,
        route: Route,
        jobs: asyncio.TaskGroup,
        handlers: MakeHandlers,
    ) -> None:
        self._directory = directory
        self.credentials = credentials
        """Used for links that begin from now on."""
        self._route = route
        self._jobs = jobs
        self._handlers = handlers
        self._links: dict[tuple[Peer, Purpose], Link] = {}
        self._leaving: set[Link] = set()
        self._attempts: dict[tuple[Peer, Purpose], asyncio.Task[Link | NanoError]] = {}
        self._proofs: set[asyncio.Task[Any]] = set()
        self._turns = Turns(DIALS_AT_ONCE, DIAL_TURN_S)
        self.gone: set[Peer] = set()
        """Who left in good order and will say so when it is back: not worth a dial."""
        self._closed = False

    def all(self) -> list[Link]:
        return [*self._links.values(), *self._leaving]

    def existing(self, peer: Peer, purpose: Purpose) -> Link | None:
        return self._links.get((peer, purpose))

    async def get(self, target: Peer | Role, purpose: Purpose) -> Link:
        """A link to `target` that takes calls. `Unreachable` when there is nobody, or nobody who answers."""
        peer = await self._find(target)
        link = self._links.get((peer, purpose))
        if link is not None and link.takes_calls:
            return link
        if self._closed:
            raise Unreachable("this process is leaving the fabric")
        return await self._dial(peer, purpose)

    async def keep(self, peer: Peer) -> None:
        """Hold a link to `peer` for as long as there is an address for it.

        When nobody has answered at the last one, the network is asked once: it may only have been slow.
        """
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while not self._closed and peer not in self.gone and self._directory.look(peer) is not None:
            began = loop.time()
            with contextlib.suppress(NanoError):
                link = await self.get(peer, Purpose.CALLS)
                began = loop.time()
                await link.wait_closed()
            if loop.time() - began > _CALM_S:
                pause_s = _FIRST_PAUSE_S
            else:  # nobody there, or one who turns us away: we see that only after the link was up
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if not self._closed and peer not in self.gone:
            self._directory.ask(peer.role)

    async def prove(self, link: Link, address: Address) -> None:
        """Whether the peer of `link`, who is said to be at `address`, started anew or moved: then replace it.

        Who answers on the old link keeps it. Anybody may say where a peer is, and one that is merely busy
        does not answer either, so the old link ends only when the peer has proven itself on a new one.
        """
        own = asyncio.current_task()
        assert own is not None  # noqa: S101 - coroutines run in tasks
        answer = self._jobs.create_task(_answers(link), name=f"ping {link.peer}")
        self._proofs.add(own)
        try:
            await asyncio.wait({answer}, timeout=PROOF_S)
            if not answer.done() and not self._closed:
                await self._replace(link, address, answer)
        finally:
            answer.cancel()
            self._proofs.discard(own)

    async def _replace(self, link: Link, address: Address, answer: asyncio.Task[None]) -> None:
        """Dial the peer of `link` there; if it answers on the new link and not on the old one, exchange them.

        A peer that was busy answers on both, on the old one first: it was asked there before.
        """
        peer = link.peer
        handlers = self._handlers((peer, address, Purpose.CALLS))
        told, handlers.up = handlers.up, _nothing
        try:
            fresh = await self._connect(peer, Purpose.CALLS, address, handlers)
        except (NanoError, OSError):
            return  # a rumour, or it is gone: the silence of the old link will tell
        is_anew = False
        try:
            await fresh.ping()
            is_anew = link.error is not None or not answer.done()
        except NanoError:
            return
        finally:
            if not is_anew:
                fresh.close()
        if is_anew:
            link.close(
                Unreachable(
                    f"{peer} has started anew: what was asked of it before may not have come through; "
                    "look, and ask again",
                    retry_after_s=1.0,
                )
            )
            self._add(peer, Purpose.CALLS, fresh)
            told(fresh)

    def drop(self, link: Link) -> None:
        """The link is over."""
        self._leaving.discard(link)
        for key in [key for key, found in self._links.items() if found is link]:
            del self._links[key]

    def close(self) -> None:
        self._closed = True
        for job in (*self._attempts.values(), *self._proofs):
            job.cancel()
        for link in self.all():
            link.close()

    async def _find(self, target: Peer | Role) -> Peer:
        found = self._directory.look(target)
        if found is None and self._is_gone(target):
            raise Unreachable(f"{target} has left the fabric")
        if found is None:
            if self._directory.discovery is None:
                raise Unreachable(f"no address is known for {target}, and there is no discovery to ask")
            try:
                async with asyncio.timeout(FIND_S):
                    found = await self._directory.find(target)
            except TimeoutError:
                raise Unreachable(f"{target} was not found within {FIND_S:g} s") from None
        if self._is_gone(found[0]):
            raise Unreachable(f"{found[0]} has left the fabric")
        return found[0]

    def _is_gone(self, target: Peer | Role) -> bool:
        return target in self.gone

    async def _dial(self, peer: Peer, purpose: Purpose) -> Link:
        """Join the attempt that is on its way, or begin one. Who gives up waiting leaves it to the others."""
        key = (peer, purpose)
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._jobs.create_task(self._attempt(peer, purpose), name=f"dial {peer}")
            self._attempts[key] = attempt
            attempt.add_done_callback(lambda _: self._attempts.pop(key, None))
        await asyncio.wait({attempt})
        if attempt.cancelled():
            raise Unreachable("this process is leaving the fabric")
        found = attempt.result()
        if isinstance(found, NanoError):
            raise from_code(found.code, found.message, subject=str(peer))
        return found

    async def _attempt(self, peer: Peer, purpose: Purpose) -> Link | NanoError:
        """Try each address, best first. A job of the group, so it gives its error instead of raising it."""
        error: NanoError = Unreachable(f"no address is known for {peer}")
        for address in self._directory.roster.addresses_of(peer):
            try:
                link = await self._connect(peer, purpose, address, self._dialled(peer, address, purpose))
            except NanoError as failure:
                error = failure
            except OSError as failure:  # no socket, no such host, no such kind of address here
                error = Unreachable(f"{peer} cannot be dialled at {address[0]}: {failure}")
            else:
                return link
            self._directory.tell(roster_events.DialFailed(peer, address))
        return error

    def _dialled(self, peer: Peer, address: Address, purpose: Purpose) -> Handlers:
        """As the fabric wants them; the link is known here before anybody hears that it is up."""
        handlers = self._handlers((peer, address, purpose))
        told = handlers.up

        def up(link: Link) -> None:
            self._add(peer, purpose, link)
            told(link)

        handlers.up = up
        return handlers

    async def _connect(self, peer: Peer, purpose: Purpose, address: Address, handlers: Handlers) -> Link:
        at = await resolve(address)
        async with self._turns.turn():
            dialled = Dialled(
                at,
                peer,
                credentials=self.credentials,
                route=self._route,
                handlers=handlers,
                windows=_WINDOWS[purpose],
            )
            link = await dialled.connect(DIAL_S)
        try:
            self.credentials.check(link.fingerprint)  # whoever was shut out since it came up was not found
        except Untrusted as error:
            link.close(error)
            raise
        return link

    def _add(self, peer: Peer, purpose: Purpose, link: Link) -> None:
        before = self._links.get((peer, purpose))
        if before is not None:
            self._leaving.add(before)
        self._links[peer, purpose] = link
        if purpose is not Purpose.CALLS:
            self._close_when_idle(link)

    def _close_when_idle(self, link: Link) -> None:
        if link.error is not None:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + IDLE_S if link.exchanges else link.exchanges.last_used + IDLE_S
        if due <= loop.time():
            link.close()
        else:
            loop.call_at(due, self._close_when_idle, link)


async def _answers(link: Link) -> None:
    """Return when the peer has answered, or the link is over."""
    try:
        await link.ping()
    except NanoError:
        return


def _nothing(_: Link) -> None:
    """Nobody hears of this link yet."""
