"""Who is on the fabric."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a peer is for; its certificate says it, and each RPC lists the roles that may call it."""

    SCHEDULER = "scheduler"
    CELL = "cell"
    IMAGESTORE = "imagestore"
    ADDRESSPOOL = "addresspool"
    GATEWAY = "gateway"
    ADMIN = "admin"
    """A person with root on the scheduler's host; never a server."""
    APPLICANT = "applicant"
    """Who asks to be let in, known by the hash of its key alone: in no certificate, and in no list of roles
    but that of the one call by which it asks."""


PORTS = {
    Role.SCHEDULER: 5600,
    Role.IMAGESTORE: 5601,
    Role.ADDRESSPOOL: 5602,
    Role.GATEWAY: 5603,
    Role.CELL: 5604,
}
"""Where each role listens unless its configuration says otherwise (design, section 2)."""


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """A named service on the fabric. Its address is the roster's business and stored by nobody."""

    role: Role
    id: str

    def __str__(self) -> str:
        return f"{self.role}/{self.id}"
