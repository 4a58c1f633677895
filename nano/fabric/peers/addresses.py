"""Where one peer may be dialled: proven by a live link, configured by a person, or only heard.

A hint never takes the place of an address that a live link has proven. Among hints the latest comes first, so
that a peer that moved is dialled where it is now. One that did not hold is dropped until it is heard again: a
liar who claims a name costs a dial and not the peer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nano.fabric.packets.address import Address
from nano.model import names
from nano.model.errors import Invalid
from nano.model.peers import Peer, Role

HINTS_PER_PEER = 4
"""Addresses that are remembered of one name: it has a few interfaces, and a liar may claim it too."""


@dataclass(slots=True)
class Addresses:
    """The addresses of one peer. Times are seconds of any clock that only grows."""

    static: Address | None = None
    static_failed: bool = False
    heard: dict[Address, float] = field(default_factory=dict)
    """Hints, and when each was heard last."""
    proven: Address | None = None
    """Where the newest link that we dialled goes, while there is a link."""

    def in_order(self) -> list[Address]:
        """Best first: proven, configured, latest heard; a configured one that failed comes last."""
        newest_first = sorted(self.heard, key=self.heard.__getitem__, reverse=True)
        static = [self.static] if self.static else []
        rest = [*newest_first, *static] if self.static_failed else [*static, *newest_first]
        return list(dict.fromkeys([self.proven, *rest] if self.proven else rest))

    def best(self) -> Address | None:
        return next(iter(self.in_order()), None)

    def hear(self, address: Address, now: float) -> None:
        self.heard[address] = now
        while len(self.heard) > HINTS_PER_PEER:
            del self.heard[min(self.heard, key=self.heard.__getitem__)]

    def prove(self, address: Address, now: float) -> None:
        """A link to `address` is up."""
        self.proven = address
        self.static_failed &= address != self.static
        self.hear(address, now)

    def unlink(self, now: float) -> None:
        """The last link is down: what it proved is a hint again, fresh unless a newer one says otherwise."""
        if self.proven in self.heard and self.proven == max(self.heard, key=self.heard.__getitem__):
            self.heard[self.proven] = now
        self.proven = None

    def fail(self, address: Address) -> None:
        """Nobody answered there as this peer."""
        if address != self.proven:
            self.static_failed |= address == self.static
            self.heard.pop(address, None)

    def forget(self, before: float) -> None:
        """Drops hints that were not heard since `before`, but never where a live link goes."""
        self.heard = {at: when for at, when in self.heard.items() if when > before or at == self.proven}

    def oldest(self) -> float:
        """When the hint was heard that will be forgotten next; infinity if none will be."""
        return min((when for at, when in self.heard.items() if at != self.proven), default=float("inf"))


def static_addresses(lines: Mapping[str, str], *, default_id: str = "main") -> dict[Peer, Address]:
    """Configured addresses: `"cell/Cell_…" = "10.0.0.7:5604"`; a role alone means its peer of `default_id`.

    `Invalid` names the line that is wrong.
    """
    return dict(_static_addresses(lines, default_id))


def _static_addresses(lines: Mapping[str, str], default_id: str) -> Iterable[tuple[Peer, Address]]:
    for key, value in lines.items():
        role, _, name = key.partition("/")
        host, _, port = value.rpartition(":")
        if role not in set(Role):
            raise Invalid(f"peers.{key}", f"{role!r} is no role: use one of {', '.join(Role)}")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise Invalid(f"peers.{key}", f"{value!r} is no address: write it as 10.0.0.1:5600")
        yield (
            Peer(Role(role), names.plain(f"peers.{key}", name or default_id)),
            (host.strip("[]"), int(port)),
        )
