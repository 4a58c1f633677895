"""What `./dev join` says of a server, and when it gives a token up."""

import asyncio
from pathlib import Path

import pytest

from nano.fabric.joining.join_token import TokenText, encode
from nano.fabric.joining.standing import Note, State
from nano.fleet.__main__ import _arguments
from nano.fleet.join import CONFIRMED_S, STRANGE_S, Server, Telling
from nano.fleet.stages import Stages
from nano.join_files import configure, kept_token
from nano.join_status import Told
from nano.model.errors import Forbidden, Untrusted
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone

BEGAN_MS = 1000
TOKEN = encode(TokenText(1, "0011", (bytes(32),), bytes(16), Role.CELL, "", 2**42, ("10.0.0.1:5600",)))


class Try:
    """One `./dev join`, at moments of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.identity = issue(make_zone(folder / "zone"), Role.CELL, "c1").certificate_file.parent
        self.server = Server("c1", folder / "cell.toml", self.identity, BEGAN_MS)
        configure(self.server.file, TOKEN)
        self._serves = asyncio.Event()
        self._started = asyncio.get_running_loop().create_task(self._until_it_serves())
        self.telling = Telling(self.server, Stages(), self._started)
        self.now_ms = BEGAN_MS
        self.note = Note(self.identity, lambda: self.now_ms)

    async def _until_it_serves(self) -> None:
        await self._serves.wait()

    async def serves(self) -> None:
        """From now on the cell does."""
        self._serves.set()
        await self._started

    def tell(self, at_s: float = 1.0) -> None:
        self.telling.tell(Told(self.identity, Role.CELL, "join"), at_s)


@pytest.fixture
async def one(tmp_path: Path) -> Try:
    return Try(tmp_path)


async def test_it_is_in_the_zone_once_the_cell_serves_and_the_scheduler_has_said_so(
    one: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    one.note.says(State.JOINED, heard_ms=BEGAN_MS - 1)
    one.tell()
    one.note.is_taken()
    one.tell()
    assert capsys.readouterr().out == ""
    await one.serves()
    one.tell()
    one.tell()
    assert capsys.readouterr().out.count("c1 is in the zone.") == 1


async def test_what_an_earlier_try_left_behind_is_not_said(
    one: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    one.now_ms = BEGAN_MS - 1
    one.note.says(State.REFUSED, why="an administrator refused c1")
    one.tell()
    assert capsys.readouterr().out == ""
    await one.serves()
    one.tell(1.0)
    one.tell(1.5 + CONFIRMED_S)
    assert "its scheduler is not heard now" in capsys.readouterr().out


async def test_who_is_removed_meanwhile_is_told_what_to_do(
    one: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    await one.serves()
    one.note.is_taken()
    one.tell()
    one.note.says(State.REMOVED, why="the scheduler says so")
    one.tell()
    said = capsys.readouterr().out
    assert said.index("is in the zone") < said.index("removed from the zone lab")


async def test_a_token_that_is_refused_ends_it_and_is_not_kept(one: Try) -> None:
    one.note.says(State.TOKEN_REFUSED, why="join token x was used by another server already")
    with pytest.raises(Forbidden, match="used by another server already; this token is not used again"):
        one.tell()
    assert kept_token(one.server.file) == ""


async def test_a_token_where_another_zone_answers_ends_it_after_a_while_and_is_kept(one: Try) -> None:
    """Who answers there may be anybody: only the zone's own scheduler makes a token useless."""
    one.note.says(State.ASKS, why="another authority", doubt="another authority")
    one.tell(1.0)
    one.tell(1.0 + STRANGE_S)
    with pytest.raises(Untrusted, match="another authority; its secret was not said, and it is kept"):
        one.tell(1.5 + STRANGE_S)
    assert kept_token(one.server.file) == TOKEN


async def test_another_zone_that_answers_now_and_then_ends_nothing(one: Try) -> None:
    for at_s in (1.0, 3.0 + STRANGE_S, 5.0 + 2 * STRANGE_S):
        one.note.says(State.ASKS, why="another authority", doubt="another authority")
        one.tell(at_s)
        one.tell(at_s + STRANGE_S)
        one.note.says(State.ASKS, why="did not answer")
        one.tell(at_s + STRANGE_S + 1)
    assert kept_token(one.server.file) == TOKEN


@pytest.mark.parametrize(
    "words",
    [
        ["join", "--simulated", "TOKEN"],
        ["join", "TOKEN", "--simulated", "--root", "x"],
        ["--root", "x", "join", "TOKEN", "--start-over"],
    ],
)
def test_the_words_of_a_verb_may_come_in_any_order(words: list[str]) -> None:
    found = _arguments(words)
    assert (found.verb, found.token) == ("join", "TOKEN")
    assert found.root == Path("x" if "x" in words else "var")
    assert (found.simulated, found.start_over) == ("--simulated" in words, "--start-over" in words)


def test_each_verb_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _arguments(["join", "--help"])
    said = capsys.readouterr().out
    assert "usage: ./dev join" in said
    assert "--start-over" in said
    assert "--open" not in said
    with pytest.raises(SystemExit):
        _arguments(["down", "--simulated"])
