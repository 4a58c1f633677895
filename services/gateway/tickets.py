"""Tickets for consoles: good once, soon, and only for whoever asked. Time is handed in, nothing is stored.

A ticket stands in the path of a request, and paths are read by more eyes than headers: so what is kept is its
digest, and every use of it, also one that is refused, uses it up.
"""

import hashlib
import secrets
from collections import Counter
from dataclasses import dataclass

from nano.model.errors import Exhausted, NotFound
from nano.model.ids import InstanceId

LIFE_S = 15.0
"""How long a ticket is good (REST document, section 8)."""
MOST = 4096
"""Tickets that wait to be used."""
MOST_EACH = 1024
"""Of them, those of one credential: a portal is one credential for all who use it."""

_BYTES = 32


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asked for a ticket, and may use it."""

    credential: str
    session: str
    """The `Nano-Session` of the request: a label of the client's own, such as one for each of its users."""


@dataclass(frozen=True, slots=True)
class _Kept:
    guest: InstanceId
    holder: Holder
    until_s: float


class Tickets:
    """Those that are good. All live equally long, so the first that was issued is the first to go."""

    def __init__(self) -> None:
        self._kept: dict[bytes, _Kept] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def issue(self, guest: InstanceId, holder: Holder, now_s: float) -> str:
        """A new ticket. Exhausted when too many wait; `now_s` is the time of any clock that only grows."""
        self._sweep(now_s)
        if len(self._kept) >= MOST or self._of[holder.credential] >= MOST_EACH:
            raise Exhausted(
                f"too many console tickets wait to be used: use them, or wait {LIFE_S:g} s",
                retry_after_s=LIFE_S,
            )
        ticket = secrets.token_urlsafe(_BYTES)
        self._kept[_digest(ticket)] = _Kept(guest, holder, now_s + LIFE_S)
        self._of[holder.credential] += 1
        return ticket

    def redeem(self, ticket: str, holder: Holder, now_s: float) -> InstanceId:
        """The guest that it was issued for. NotFound, which never says why, when it is not good."""
        self._sweep(now_s)
        digest = _digest(ticket)
        kept = self._kept.get(digest)
        if kept is not None:
            self._drop(digest, kept)
        if kept is None or kept.holder != holder:
            raise NotFound(
                "this console ticket is not good: it was used, is too old, or is not yours; ask for another",
                field="ticket",
            )
        return kept.guest

    def _sweep(self, now_s: float) -> None:
        while self._kept:
            digest, oldest = next(iter(self._kept.items()))
            if oldest.until_s > now_s:
                return
            self._drop(digest, oldest)

    def _drop(self, digest: bytes, kept: _Kept) -> None:
        del self._kept[digest]
        self._of[kept.holder.credential] -= 1
        self._of += Counter()  # forgets who has none


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()
