"""Who is on the fabric, and at which addresses they may be dialled. No I/O: events and time in, commands out.

A peer is *known* from hints (a multicast, a line of configuration) and *joined* by a link, on which it has
proven who it is. Silence of a link is judged where its packets are seen (`liveness.py`: asked after 1 s,
suspected at 3 s, lost at 5 s); here it becomes news about a peer.

    known  -- LinkUp --> joined -- Silent --> suspect -- SignOfLife --> joined
    joined, suspect -- LinkDown of the last link --> known: "left" if it said good-bye, else "lost"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nano.fabric.packets.address import Address
from nano.fabric.peers.addresses import Addresses
from nano.fabric.peers.announcement import Announcement, Kind
from nano.fabric.peers.roster_events import (
    Announce,
    Command,
    DialFailed,
    Event,
    Heard,
    LinkDown,
    LinkUp,
    News,
    NoLongerSought,
    Query,
    SignOfLife,
    Silent,
    Sought,
    Target,
    Tick,
)
from nano.model.peers import Peer, Role

ANNOUNCE_EVERY_S = 60.0
"""How often a peer says unasked that it is here. Rare, since starting peers say so and missing ones are asked
for: it only mends what a lost datagram broke, and each one wakes every peer."""

HINT_LIFETIME_S = 3.5 * ANNOUNCE_EVERY_S
"""A hint that was not repeated is forgotten: three announcements in a row do not get lost by chance."""

FIRST_QUERY_PAUSE_S = 0.25
"""When a query is repeated first: an answer takes up to `discovery.ANSWER_SPREAD_S` and a round trip."""

LONGEST_QUERY_PAUSE_S = 5.0
"""The longest between two queries for somebody missing; doubled up to here."""

PEERS_LIMIT = 20_000
"""Twice the largest zone: where strangers would begin to fill our memory with names."""


class State(StrEnum):
    KNOWN = "known"
    JOINED = "joined"
    SUSPECT = "suspect"


@dataclass(slots=True)
class _Entry:
    peer: Peer
    addresses: Addresses = field(default_factory=Addresses)
    links: int = 0
    state: State = State.KNOWN

    @property
    def is_empty(self) -> bool:
        return not self.links and self.addresses.best() is None


@dataclass(slots=True)
class _Search:
    next_at: float
    pause_s: float


class Roster:
    """The peers of one zone and domain, as `own` sees them."""

    def __init__(
        self, zone: str, own: Peer, *, domain: str = "nano", static: Mapping[Peer, Address] | None = None
    ) -> None:
        self._zone = zone
        self._domain = domain
        self._own = own
        self._entries = {
            peer: _Entry(peer, Addresses(static=at)) for peer, at in (static or {}).items() if peer != own
        }
        self._searches: dict[Target, _Search] = {}
        self._forget_at = float("inf")
        self.foreign = 0
        """Announcements of other zones or domains, ignored."""

    @property
    def next_at(self) -> float:
        """When the next Tick is due; infinity when nothing waits for time."""
        return min([self._forget_at, *(search.next_at for search in self._searches.values())])

    def state_of(self, peer: Peer) -> State | None:
        """None: never heard of, or forgotten."""
        entry = self._entries.get(peer)
        return entry.state if entry else None

    def addresses_of(self, peer: Peer) -> list[Address]:
        """Where `peer` may be dialled, best first."""
        entry = self._entries.get(peer)
        return entry.addresses.in_order() if entry else []

    def address_of(self, peer: Peer) -> Address | None:
        return next(iter(self.addresses_of(peer)), None)

    def one(self, role: Role) -> Peer | None:
        """The peer of `role` to turn to: joined before suspect before known; the lowest id settles a tie."""
        found = [each for each in self._entries.values() if each.peer.role is role and each.addresses.best()]
        return min(found, key=lambda each: (_RANK[each.state], each.peer)).peer if found else None

    def all(self, role: Role) -> list[Peer]:
        """Every peer of `role` that has an address or a link, by id."""
        return sorted(peer for peer, each in self._entries.items() if peer.role is role and not each.is_empty)

    def is_ours(self, said: Announcement) -> bool:
        """Whether an announcement is of this zone and domain."""
        return (said.zone, said.domain) == (self._zone, self._domain)

    def receive(self, event: Event, now: float) -> list[Command]:
        """What follows from `event`, which happened at `now` (seconds of any clock that only grows)."""
        commands: list[Command] = []
        match event:
            case Heard():
                commands = self._heard(event.announcement, event.host, now)
            case LinkUp():
                commands = self._link_up(event.peer, event.address, now)
            case LinkDown():
                commands = self._link_down(event.peer, graceful=event.graceful, now=now)
            case Silent():
                commands = self._turn(event.peer, State.JOINED, State.SUSPECT, News.SUSPECT)
            case SignOfLife():
                commands = self._turn(event.peer, State.SUSPECT, State.JOINED, News.JOINED)
            case DialFailed():
                self._dial_failed(event.peer, event.address)
            case Sought():
                commands = self._sought(event.target, now)
            case NoLongerSought():
                self._searches.pop(event.target, None)
            case Tick():
                commands = self._tick(now)
        return commands

    def _heard(self, said: Announcement, host: str, now: float) -> list[Command]:
        if not self.is_ours(said):
            self.foreign += 1
            return []
        if said.peer == self._own or said.role is Role.APPLICANT:  # who asks to be let in is nobody to call
            return []
        address = (host, said.port)
        if said.kind is Kind.LEAVING:
            self._leaving(said.peer, address)
            return []
        if said.peer not in self._entries and len(self._entries) >= PEERS_LIMIT:
            return []
        entry = self._entries.setdefault(said.peer, _Entry(said.peer))
        before = entry.addresses.best()
        entry.addresses.hear(address, now)
        self._forget_at = min(self._forget_at, now + HINT_LIFETIME_S)
        self._found(said.peer)
        if entry.links:
            return []
        return [Announce(said.peer, News.FOUND if before in {None, entry.addresses.best()} else News.MOVED)]

    def _link_up(self, peer: Peer, address: Address | None, now: float) -> list[Command]:
        entry = self._entries.setdefault(peer, _Entry(peer))
        was, moved = entry.state, False
        entry.links += 1
        entry.state = State.JOINED
        if address is not None:
            moved = entry.addresses.proven not in {None, address}
            entry.addresses.prove(address, now)
        self._found(peer)
        if was is not State.JOINED:
            return [Announce(peer, News.JOINED)]
        return [Announce(peer, News.MOVED)] if moved else []

    def _link_down(self, peer: Peer, *, graceful: bool, now: float) -> list[Command]:
        entry = self._entries.get(peer)
        if entry is None or not entry.links:
            return []
        entry.links -= 1
        if entry.links:
            return []
        entry.state = State.KNOWN
        entry.addresses.unlink(now)
        self._forget_at = min(self._forget_at, entry.addresses.oldest() + HINT_LIFETIME_S)
        self._drop_if_empty(entry)
        return [Announce(peer, News.LEFT if graceful else News.LOST)]

    def _turn(self, peer: Peer, before: State, after: State, news: News) -> list[Command]:
        entry = self._entries.get(peer)
        if entry is None or entry.state is not before:
            return []
        entry.state = after
        return [Announce(peer, news)]

    def _dial_failed(self, peer: Peer, address: Address) -> None:
        entry = self._entries.get(peer)
        if entry is not None:
            entry.addresses.fail(address)
            self._drop_if_empty(entry)

    def _sought(self, target: Target, now: float) -> list[Command]:
        if target in self._searches or self._known(target):
            return []
        self._searches[target] = _Search(now + FIRST_QUERY_PAUSE_S, FIRST_QUERY_PAUSE_S)
        return [Query(_role_of(target))]

    def _tick(self, now: float) -> list[Command]:
        if now >= self._forget_at:
            self._forget(now)
        asked: set[Role] = set()
        for target, search in self._searches.items():
            if now < search.next_at:
                continue
            search.pause_s = min(search.pause_s * 2, LONGEST_QUERY_PAUSE_S)
            search.next_at = now + search.pause_s
            asked.add(_role_of(target))
        return [Query(role) for role in sorted(asked)]

    def _forget(self, now: float) -> None:
        """Drops hints that were not repeated in time."""
        for entry in list(self._entries.values()):
            entry.addresses.forget(now - HINT_LIFETIME_S)
            self._drop_if_empty(entry)
        oldest = min((each.addresses.oldest() for each in self._entries.values()), default=float("inf"))
        self._forget_at = oldest + HINT_LIFETIME_S

    def _leaving(self, peer: Peer, address: Address) -> None:
        """Only what was heard is taken back: about its links a peer speaks on its links."""
        entry = self._entries.get(peer)
        if entry is not None:
            entry.addresses.heard.pop(address, None)
            self._drop_if_empty(entry)

    def _drop_if_empty(self, entry: _Entry) -> None:
        if entry.is_empty:
            self._entries.pop(entry.peer, None)

    def _known(self, target: Target) -> bool:
        if isinstance(target, Peer):
            return self.address_of(target) is not None
        return self.one(target) is not None

    def _found(self, peer: Peer) -> None:
        if self.address_of(peer) is not None:
            self._searches.pop(peer, None)
            self._searches.pop(peer.role, None)


_RANK = {State.JOINED: 0, State.SUSPECT: 1, State.KNOWN: 2}


def _role_of(target: Target) -> Role:
    return target.role if isinstance(target, Peer) else target
