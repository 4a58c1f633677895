"""Who was let into the zone, who waits at its door, who was shut out, and which authority it trusts."""

from dataclasses import dataclass
from enum import StrEnum

from nano.model.peers import Peer, Role

VALID_MS = (7 * 24 * 60 + 15) * 60_000
"""How long a certificate can be valid, its backdating included; the authority issues none for longer."""


class How(StrEnum):
    """By which way a member came in."""

    LOCAL = "local"
    """Over the enrolment socket of the scheduler's own host."""
    TOKEN = "token"  # noqa: S105 - a word, no secret
    ADMITTED = "admitted"
    """An administrator compared the code and let it in."""
    FIRST_USE = "first-use"
    """The zone trusts its network: the first key that claimed the name got it."""


class Phase(StrEnum):
    """Where the zone stands with its authority."""

    STEADY = "steady"
    """One authority, known to all."""
    INTRODUCING = "introducing"
    """The next one is trusted and signs nothing yet: members learn of it."""
    MOVING = "moving"
    """The new one signs, the old one is still trusted: members renew."""


@dataclass(frozen=True, slots=True)
class Member:
    """A peer that was let in. Its name is held by its key: no other key gets a certificate for it."""

    role: Role
    id: str
    fingerprint: str
    """Of its key: SHA-256 of the SubjectPublicKeyInfo, in hex."""
    how: How
    since_ms: int
    issued_ms: int
    """When it last got a certificate; `VALID_MS` later it can have none."""
    trust_revision: int = 0
    """The revision of the zone's trust that it is known to have in force."""
    issuer: str = ""
    """The fingerprint of the authority that signed what it shows, as far as it is known."""

    @property
    def peer(self) -> Peer:
        return Peer(self.role, self.id)


@dataclass(frozen=True, slots=True)
class Applicant:
    """A peer without a certificate that waits to be let in; known by its key, whatever name it claims."""

    fingerprint: str
    role: Role
    id: str
    host: str
    """Where it called from: for people to read."""
    code: str
    """What people compare with the other end."""
    since_ms: int
    present: bool = False
    refused_until_ms: int = 0
    """Not 0: an administrator said no; until then it is not asked again."""

    @property
    def peer(self) -> Peer:
        return Peer(self.role, self.id)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What lets one server in without a question. Its secret is known only to whoever holds the text."""

    id: str
    digest: str
    """SHA-256 of the secret, in hex; leaves the scheduler never."""
    role: Role
    name: str
    """The one id that it is for; empty: any that is free."""
    created_ms: int
    expires_ms: int
    used_by: str = ""
    """The fingerprint of the key that it let in; empty: unused."""

    @property
    def shown(self) -> "ShownToken":
        return ShownToken(self.id, self.role, self.name, self.created_ms, self.expires_ms, self.used_by)


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A join token as an administrator sees it: nothing of its secret."""

    id: str
    role: Role
    name: str
    created_ms: int
    expires_ms: int
    used_by: str


@dataclass(frozen=True, slots=True)
class Removal:
    """A key that is shut out, and who it was."""

    fingerprint: str
    role: Role
    id: str
    until_ms: int
    """Kept until then: no certificate of this key can be valid any longer."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the zone trusts, beside the removals; every change of either makes a larger revision."""

    revision: int = 0
    trusted: tuple[str, ...] = ()
    """Fingerprints of authorities; the first one signs."""
    phase: Phase = Phase.STEADY
    since_revision: int = 0
    """The revision with which the phase began: whoever has that in force knows of it."""
    left_behind: tuple[str, ...] = ()
    """Members that the rotation goes on without, as `role/id`; they have to join again."""


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """`Trust` as an administrator sees it: how far its change has come."""

    id: str
    """Always `zone`: there is one."""
    revision: int
    trusted: tuple[str, ...]
    phase: Phase
    waiting_for: tuple[str, ...]
    """Members that the phase waits for, as `role/id`."""
    left_behind: tuple[str, ...]
