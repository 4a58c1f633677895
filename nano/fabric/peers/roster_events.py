"""What the roster is told, and what it says: plain values."""

from dataclasses import dataclass
from enum import StrEnum

from nano.fabric.packets.address import Address
from nano.fabric.peers.announcement import Announcement
from nano.model.peers import Peer, Role

Target = Peer | Role
"""Whom somebody looks for: one peer, or any of a role."""


class News(StrEnum):
    """What is told of a peer."""

    FOUND = "found"
    """Heard while there is no link: worth dialling, by whoever dials such peers."""
    MOVED = "moved"
    """Its best address is another than before."""
    JOINED = "joined"
    """It proved who it is and answers; also after it had been suspected."""
    SUSPECT = "suspect"
    """Silent for too long to give it work."""
    LOST = "lost"
    """Its last link broke, or was silent until it was given up. Nothing is known of its work."""
    LEFT = "left"
    """Its last link was closed in good order."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement came, from `host`."""

    announcement: Announcement
    host: str


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to `peer` is proven. `address` is where we dialled it; None when it dialled us."""

    peer: Peer
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Silent:
    """The newest link of `peer` is suspiciously silent."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """`peer` is heard again on its newest link."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class LinkDown:
    """One link of `peer` is over; `graceful` when it was closed in good order."""

    peer: Peer
    graceful: bool


@dataclass(frozen=True, slots=True)
class DialFailed:
    """Nobody answered as `peer` at `address`."""

    peer: Peer
    address: Address


@dataclass(frozen=True, slots=True)
class Sought:
    """Somebody waits for the address of `target`."""

    target: Target


@dataclass(frozen=True, slots=True)
class NoLongerSought:
    """Nobody waits for `target` any more."""

    target: Target


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; due at `Roster.next_at`."""


Event = Heard | LinkUp | Silent | SignOfLife | LinkDown | DialFailed | Sought | NoLongerSought | Tick


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the service about `peer`."""

    peer: Peer
    news: News


@dataclass(frozen=True, slots=True)
class Query:
    """Ask the network who of `role` is here."""

    role: Role


Command = Announce | Query
