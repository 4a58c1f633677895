"""Who is logged in: sessions in memory, with the time handed in.

As documented a session lives 180 s from its login or its last keep-alive, and no other call extends it.
What a session may is not kept in it: that is asked of the directory each time, so that a change of a role,
a group or a password counts at once. Its id is a secret that only its owner has; here is a digest of it, so
that what is kept over a restart (`session_file.py`) opens nothing.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nano.model.errors import Exhausted, Untrusted

LIFE_S = 180.0
"""REST document, section 9.3."""
MOST = 10_000
MOST_OF_ONE_USER = 64


@dataclass(frozen=True, slots=True)
class Session:
    key: str
    """Hex SHA-256 of the id. Whoever has the id is the user; this names the session and opens nothing."""
    user: str
    address: str
    """Where the login came from."""

    @property
    def label(self) -> str:
        """Names the session where others can read: in lists, in logs, to the gateway."""
        return self.key[:16]


@dataclass(frozen=True, slots=True)
class Kept:
    """A session as it is kept over a restart."""

    session: Session
    ends_ms: int
    """Wall clock, milliseconds since 1970 UTC."""


def key_of(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


class Sessions:
    """Sessions by key, the one that ends first in front."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._new_id = new_id
        self._ends_s: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}
        self.changes = 0
        """Counts what is worth keeping."""

    def open(self, user: str, address: str, now_s: float) -> tuple[str, Session]:
        """A new session and its id. Of a user with too many the one that would end first goes."""
        self.sweep(now_s)
        own = [session.key for session in self.of_user(user)]
        if len(own) >= MOST_OF_ONE_USER:
            self.close(own[0])
        if len(self._sessions) >= MOST:
            raise Exhausted(f"{MOST} people are logged in: try again later", retry_after_s=LIFE_S)
        session_id = self._new_id()
        session = Session(key_of(session_id), user, address)
        self._add(session, now_s + LIFE_S)
        return session_id, session

    def find(self, session_id: str, now_s: float) -> Session:
        """`Untrusted` when there is no such session, or it has ended."""
        key = key_of(session_id)
        if not self.is_open(key, now_s):
            raise Untrusted("this session has ended: log in again", field="Nano-Session")
        return self._sessions[key]

    def kept(self, now_s: float, now_ms: int) -> list[Kept]:
        """All of them, for a restart."""
        return [
            Kept(session, now_ms + int((self._ends_s[session.key] - now_s) * 1000))
            for session in self.everybody(now_s)
        ]

    def restore(self, kept: Iterable[Kept], now_s: float, now_ms: int) -> None:
        """Takes over those that have not ended; none lives longer than a new one, whatever the clock says."""
        for one in sorted(kept, key=lambda one: one.ends_ms):
            left_s = min((one.ends_ms - now_ms) / 1000, LIFE_S)
            if left_s > 0:
                self._add(one.session, now_s + left_s)

    def _add(self, session: Session, ends_s: float) -> None:
        self._sessions[session.key] = session
        self._ends_s[session.key] = ends_s
        self.changes += 1

    def is_open(self, key: str, now_s: float) -> bool:
        return self._ends_s.get(key, now_s) > now_s

    def extend(self, session: Session, now_s: float) -> None:
        """Pushes the end to `LIFE_S` from now."""
        if self._ends_s.pop(session.key, None) is not None:
            self._ends_s[session.key] = now_s + LIFE_S
            self.changes += 1

    def close(self, key: str) -> None:
        self._ends_s.pop(key, None)
        if self._sessions.pop(key, None) is not None:
            self.changes += 1

    def close_user(self, user: str, *, but: str = "") -> None:
        """Every session of a user, except the one with that key."""
        for session in list(self.of_user(user)):
            if session.key != but:
                self.close(session.key)

    def of_user(self, user: str) -> Iterator[Session]:
        """The one that ends first in front."""
        return (self._sessions[each] for each in self._ends_s if self._sessions[each].user == user)

    def everybody(self, now_s: float) -> list[Session]:
        self.sweep(now_s)
        return list(self._sessions.values())

    def sweep(self, now_s: float) -> None:
        """Forgets those that have ended."""
        for each in [one for one, end_s in self._ends_s.items() if end_s <= now_s]:
            self.close(each)
