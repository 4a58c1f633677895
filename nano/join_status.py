"""How far a server is that joins a zone, and what to do next, in words for people.

It reads what the service has written into its folders (`fabric/joining/standing.py`), and talks to nobody.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nano.fabric.joining import application, standing
from nano.fabric.joining.application import Application
from nano.fabric.joining.standing import Standing, State
from nano.join_files import Membership, identity_folder, is_of_a_checkout, membership

SHORT = 16
"""Digits of a fingerprint that are shown."""

_WIDTH = 6


class Told:
    """All that is known of one server, and how to say it."""

    def __init__(self, identity: Path, role: str, join: str) -> None:
        """`join` is the command that has it join."""
        self.found: Standing | None = standing.read(identity)
        self.asked: Application | None = application.read(identity)
        self.member: Membership | None = membership(identity)
        self._role = role
        self._join = join

    @property
    def state(self) -> State | None:
        """None: it has not asked yet. What an earlier version left behind says less, and is not wrong."""
        if self.found is not None and (self.found.state is not State.JOINED or self.member is not None):
            return self.found.state
        if self.asked is not None and self.asked.state == "waiting" and self.asked.code:
            return State.WAITS
        return None if self.member is None else State.JOINED

    @property
    def code(self) -> str:
        """What people compare while it waits."""
        return self.asked.code if self.asked is not None and self.state is State.WAITS else ""

    @property
    def fingerprint(self) -> str:
        return "" if self.asked is None else self.asked.fingerprint

    def lines(self) -> list[str]:
        """What is so, and what to do next."""
        say: dict[State | None, Callable[[], list[str]]] = {
            None: self._new,
            State.ASKS: self._asks,
            State.WAITS: self._waits,
            State.REFUSED: self._refused,
            State.TOKEN_REFUSED: self._token_refused,
            State.JOINED: self._joined,
            State.REMOVED: self._removed,
            State.LEFT_BEHIND: self._left_behind,
        }
        return say[self.state]()

    def _new(self) -> list[str]:
        return [f"has not asked yet: is nano-{self._role} started?"]

    def _asks(self) -> list[str]:
        why = self._why or "nobody who may has answered yet"
        lines = [f"asks to be let in{self._since}", _line("why", why)]
        if self.found is not None and self.found.doubt:
            return [*lines, _line("next", self.another_token)]
        where = "is the scheduler up, and its UDP port 5600 open? Where multicast does not reach it"
        return [*lines, _line("next", f"{where}: nanoctl join --scheduler HOST:PORT")]

    def _waits(self) -> list[str]:
        key = self.fingerprint[:SHORT]
        lines = [f"waits to be admitted{self._since}", _line("code", self.code), _line("key", key)]
        if self._why:
            lines.append(_line("but", f"the scheduler is not there now: {self._why}"))
        compare = "compare the code where the zone is (nanoctl cell pending), and run there"
        return [*lines, _line("next", f"{compare}: nanoctl cell admit {key}")]

    def _refused(self) -> list[str]:
        key = self.fingerprint[:SHORT]
        again = f"it asks again each minute; let it in after all where the zone is: nanoctl cell admit {key}"
        return [
            f"refused{self._since}",
            _line("why", self._why),
            _line("key", key),
            _line("next", f"{again}, or make a token there (nanoctl token create), and here: {self._join}"),
        ]

    def _token_refused(self) -> list[str]:
        return [f"its join token was refused{self._since}", _line("why", self._why), self._next_token()]

    def _joined(self) -> list[str]:
        member = self.member
        assert member is not None  # noqa: S101 - else it is not in this state
        if member.until <= datetime.now(UTC):
            ended = f"its certificate ended {_moment(member.until)}, it asks to come back by its key"
            return [f"was in the zone {member.named}{self._since}", _line("but", ended)]
        lines = [f"in the zone {member.named}{self._since}, by a certificate until {_moment(member.until)}"]
        found = self.found
        if found is None or not found.doubt:
            heard = _at(found.heard_ms) if found is not None and found.heard_ms else "not yet"
            return [*lines, _line("heard", f"its scheduler took it for a member last: {heard}")]
        lines[0] = f"in the zone {member.named}{self._since}, as far as it knows"
        moved = (
            "if the zone changed its authority while this server was away, or was made anew (there: nanoctl "
            f"zone authority), make a token there (nanoctl token create), and here: {self._join}"
        )
        return [
            *lines,
            _line("but", f"whoever answers as its scheduler cannot prove it: {found.doubt}"),
            _line("next", f"{moved}; else somebody else answers there"),
        ]

    def _removed(self) -> list[str]:
        back = f"to come back, make a token where the zone is (nanoctl token create), and here: {self._join}"
        wait = "or have it wait to be admitted: the same with --start-over in place of the token"
        stays = "It comes back with another key, and with the instances and disks that it has"
        return [
            f"removed{self._of_zone} by an operator, known{self._since}: the scheduler refuses its key",
            _line("next", f"{back}; {wait}. {stays}"),
        ]

    def _left_behind(self) -> list[str]:
        return [
            f"left behind{self._of_zone}, known{self._since}: {self._why}",
            _line(
                "next",
                "it asks to come back by its key; if that does not help, make a token where the zone "
                f"is (nanoctl token create), and here: {self._join}",
            ),
        ]

    @property
    def another_token(self) -> str:
        """What to do when a token is of no use."""
        make = f"make another where the zone is (nanoctl token create --role {self._role})"
        return f"{make}, and here: {self._join}"

    def _next_token(self) -> str:
        return _line("next", self.another_token)

    @property
    def _of_zone(self) -> str:
        return f" from the zone {self.member.named}" if self.member is not None else ""

    @property
    def _since(self) -> str:
        return "" if self.found is None else f" since {_at(self.found.since_ms)}"

    @property
    def _why(self) -> str:
        return "" if self.found is None else self.found.why


def join_command(path: Path, role: str) -> str:
    """How a token is given to the service with this configuration."""
    if is_of_a_checkout(path):
        return "stop ./dev join, and run ./dev join -"
    of_role = "" if role == "cell" else f"--role {role} "
    return f"nanoctl join {of_role}-, then systemctl restart nano-{role}"


def state(path: Path, role: str) -> dict[str, Any]:
    """What the service that joins has come to, by what lies in its folders; `said` is for people."""
    told = Told(identity_folder(path, role), role, join_command(path, role))
    found: dict[str, Any] = {"state": str(told.state or "new")}
    if told.code:
        found |= {"code": told.code, "fingerprint": told.fingerprint}
    if told.member is not None:
        found |= {"zone": told.member.zone, "until": told.member.until.isoformat()}
    if told.found is not None:
        names = ("since_ms", "heard_ms", "why", "doubt", "token")
        found |= {name: getattr(told.found, name) for name in names}
    return found | {"said": "\n".join(told.lines())}


def _line(word: str, text: str) -> str:
    return f"{word:{_WIDTH}}{text}"


def _at(at_ms: int) -> str:
    return _moment(datetime.fromtimestamp(at_ms / 1000, UTC))


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
