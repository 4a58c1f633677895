"""What peers say to everybody in a multicast datagram: who is here, on which port, and who is asked for.

One JSON object of at most 512 bytes. It is a hint and nothing more: anybody can send one, so it is believed
only that it may be worth dialling where it came from. Trust comes from the handshake.
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from nano.model.errors import Corrupt
from nano.model.peers import Peer, Role

LIMIT_BYTES = 512
"""Passes every network whole (RFC 791 asks hosts for 576), and bounds what a stranger makes us read."""

ANY_ZONE = "any"
"""What a query says for its zone whose sender is in none yet. No zone is called so: their ids are hex
digits."""

Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
Domain = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Kind(StrEnum):
    """Why it was said. Whoever queries is here, too."""

    HERE = "here"
    QUERY = "query"
    LEAVING = "leaving"


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`role` and `id` say who speaks, `port` where it listens for links, at the datagram's source address.

    `wants` narrows a query to one role, so that a question for the scheduler is not answered by 10 000 cells.
    """

    kind: Kind
    zone: Name
    domain: Domain
    role: Role
    id: Name
    port: Port
    wants: Role | None = None
    version: Literal[1] = 1

    @property
    def peer(self) -> Peer:
        return Peer(self.role, self.id)

    def asks_for(self, peer: Peer) -> bool:
        """Whether `peer` should answer it."""
        return self.kind is Kind.QUERY and self.wants in {None, peer.role}


_DECODER = msgspec.json.Decoder(Announcement)


def encode(announcement: Announcement) -> bytes:
    return msgspec.json.encode(announcement)


def decode(datagram: bytes) -> Announcement:
    """The announcement in a datagram; `Corrupt` when it is anything else, or of another version."""
    if len(datagram) > LIMIT_BYTES:
        raise Corrupt(f"an announcement of {len(datagram)} bytes: {LIMIT_BYTES} is the most")
    try:
        return _DECODER.decode(datagram)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        raise Corrupt(f"not an announcement: {error}") from error
