"""Who is logged in: sessions in memory, with the time handed in.

As documented a session lives 180 s from its login or its last keep-alive, and no other call extends it.
What a session may is not kept in it: that is asked of the directory each time, so that a change of a role,
a group or a password counts at once.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nano.model.errors import Exhausted, Untrusted

LIFE_S = 180.0
"""REST document, section 9.3."""
MOST = 10_000
MOST_OF_ONE_USER = 64


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    """A secret: whoever has it is the user."""
    user: str
    address: str
    """Where the login came from."""

    @property
    def label(self) -> str:
        """Names the session where others can read: in lists, in logs, to the gateway."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Session({self.label}, {self.user})"


class Sessions:
    """Sessions by id, the one that ends first in front."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._new_id = new_id
        self._ends_s: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}

    def open(self, user: str, address: str, now_s: float) -> Session:
        """A new session. Of a user with too many the one that would end first goes."""
        self.sweep(now_s)
        own = [session.id for session in self.of_user(user)]
        if len(own) >= MOST_OF_ONE_USER:
            self.close(own[0])
        if len(self._sessions) >= MOST:
            raise Exhausted(f"{MOST} people are logged in: try again later", retry_after_s=LIFE_S)
        session = Session(self._new_id(), user, address)
        self._sessions[session.id] = session
        self._ends_s[session.id] = now_s + LIFE_S
        return session

    def find(self, session_id: str, now_s: float) -> Session:
        """`Untrusted` when there is no such session, or it has ended."""
        if not self.is_open(session_id, now_s):
            raise Untrusted("this session has ended: log in again", field="Nano-Session")
        return self._sessions[session_id]

    def is_open(self, session_id: str, now_s: float) -> bool:
        return self._ends_s.get(session_id, now_s) > now_s

    def extend(self, session: Session, now_s: float) -> None:
        """Pushes the end to `LIFE_S` from now."""
        if self._ends_s.pop(session.id, None) is not None:
            self._ends_s[session.id] = now_s + LIFE_S

    def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)
        self._ends_s.pop(session_id, None)

    def close_user(self, user: str, *, but: str = "") -> None:
        """Every session of a user, except one."""
        for session in list(self.of_user(user)):
            if session.id != but:
                self.close(session.id)

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
