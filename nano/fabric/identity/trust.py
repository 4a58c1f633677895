"""Whom a zone trusts, as each of its peers keeps it: the authorities that sign, and the keys that are shut
out.

The scheduler's book decides it and tells every peer; a peer writes it to `trust.json` of its identity folder
before it says that it knows. So a removal holds at every peer also while the scheduler is down, and from the
first packet after a restart. Revisions only grow: what is older than what is kept changes nothing.

The file is JSON with the members of `ZoneTrust`, whole or as it was before.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nano.model.errors import Corrupt
from nano.model.peers import Role

Fingerprint = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ShutOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that was removed from the zone, and whose it was."""

    fingerprint: Fingerprint
    role: Role
    id: Name
    until_ms: Count
    """From then on no certificate of this key is valid any longer, and the entry may go."""


class ZoneTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is trusted from `revision` on."""

    zone: Name
    revision: Count
    authorities: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Certificates in PEM. The first one signs: who shows one of another renews it soon."""
    removals: tuple[ShutOut, ...] = ()
    version: Literal[1] = 1

    @property
    def bundle(self) -> str:
        """The authorities as one text, as `ca.pem` holds them."""
        return "".join(each if each.endswith("\n") else f"{each}\n" for each in self.authorities)

    @property
    def removed(self) -> frozenset[str]:
        """Fingerprints of the keys that are shut out."""
        return frozenset(each.fingerprint for each in self.removals)


_DECODER = msgspec.json.Decoder(ZoneTrust)


def encode(trust: ZoneTrust) -> bytes:
    return msgspec.json.format(msgspec.json.encode(trust)) + b"\n"


def decode(content: bytes, path: Path) -> ZoneTrust:
    """What the file at `path` holds; `Corrupt` says what to do about it."""
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        raise Corrupt(
            f"{path} cannot be read ({error}): it says who was shut out of the zone. Put it back from a "
            "backup, or delete it while the scheduler is up, which sends it again",
            subject=str(path),
        ) from error


def kept(path: Path) -> ZoneTrust | None:
    """What the file at `path` holds; None when there is none: nobody told this peer anything yet."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return decode(content, path)
