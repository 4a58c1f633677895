"""How a server stands with its zone, as it last found out: what `nanoctl join --status` tells people.

`standing.json` of the identity folder, mode 0600. Nothing that decides who is trusted depends on it. What it
says for sure (in the zone, removed, left behind) it has from a scheduler that has proven to be the zone's;
what may as well be a stranger's doing is `doubt`.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from nano.files import replace_file

STANDING_FILE = "standing.json"

_log = structlog.get_logger("nano.joining")

HEARD_EVERY_MS = 300_000
"""How old `heard_ms` may get before it is written again while all is well."""


class State(StrEnum):
    ASKS = "asks"
    """Nobody who may let it in has answered yet."""
    WAITS = "waits"
    """For an administrator."""
    REFUSED = "refused"
    """By an administrator, or because it may not wait at all."""
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - a word, no secret
    JOINED = "joined"
    REMOVED = "removed"
    """Its key was shut out of the zone."""
    LEFT_BEHIND = "left-behind"
    """The zone moved to another authority without it."""


OVER = frozenset({State.REMOVED, State.LEFT_BEHIND})
"""It was a member, and is none any more."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found out, and when: milliseconds since 1970 UTC."""

    state: State
    since_ms: int
    said_ms: int
    """When this was last found so."""
    heard_ms: int = 0
    """When a scheduler of the zone last took it for a member; 0: not yet."""
    why: str = ""
    """What it was refused for, or is not let in for yet."""
    doubt: str = ""
    """What may mean that the membership is over, as well as that somebody else answers there."""
    token: str = ""
    """The id of the join token that let it in, or with which it was refused."""
    version: Literal[1] = 1

    @property
    def is_over(self) -> bool:
        return self.state in OVER


_DECODER = msgspec.json.Decoder(Standing)


def read(folder: Path) -> Standing | None:
    """What is kept in an identity folder; None when nothing is, or nothing that can be read: it is found out
    again."""
    try:
        return _DECODER.decode((folder / STANDING_FILE).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def forget(folder: Path) -> None:
    (folder / STANDING_FILE).unlink(missing_ok=True)


class Note:
    """What one service writes down of its standing."""

    def __init__(self, folder: Path, now_ms: Callable[[], int]) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._said: Standing | None = None
        """What was written last in this life of the process."""
        self._taken_ms = -HEARD_EVERY_MS

    @property
    def kept(self) -> Standing | None:
        return read(self._folder)

    def says(
        self, state: State, *, why: str = "", doubt: str = "", token: str = "", heard_ms: int = 0
    ) -> bool:
        """It stands so now: whether that is news. `token` and `heard_ms` stay what they were unless given."""
        now_ms, before = self._now_ms(), self.kept
        is_news = before is None or before.state is not state
        made = Standing(
            state=state,
            since_ms=now_ms if before is None or is_news else before.since_ms,
            said_ms=now_ms,
            heard_ms=heard_ms or (0 if before is None else before.heard_ms),
            why=why,
            doubt=doubt,
            token=token or ("" if before is None else before.token),
        )
        if self._said is None or made != msgspec.structs.replace(self._said, said_ms=now_ms):
            self._write(made)
        return is_news

    def is_taken(self) -> bool:
        """A scheduler of the zone has just taken it for a member: whether that is news."""
        now_ms = self._now_ms()
        if not 0 <= now_ms - self._taken_ms < HEARD_EVERY_MS:
            self._taken_ms = now_ms
        return self.says(State.JOINED, heard_ms=self._taken_ms)

    def doubts(self, why: str) -> bool:
        """Whether that is news. What was sure stays so."""
        before = self.kept
        if before is None or before.state is not State.JOINED or before.doubt == why:
            return False
        self.says(State.JOINED, doubt=why)
        return True

    def _write(self, standing: Standing) -> None:
        """What people read stops nobody from working: on a full disk it stays as it was."""
        content = msgspec.json.format(msgspec.json.encode(standing)) + b"\n"
        try:
            replace_file(self._folder / STANDING_FILE, content, mode=0o600)
        except OSError as error:
            _log.warning("standing.not_written", why=str(error))
        else:
            self._said = standing
