"""What a server says of itself: the truth as far as it knows it, and the next step."""

from pathlib import Path

import pytest

from nano.fabric.joining import application
from nano.fabric.joining.standing import Note, State
from nano.join_status import state
from nano.model.errors import NotFound
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone

KEY = "a1" * 32


class Server:
    """One whose configuration is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "cell.toml"
        self.file.write_text(f'[paths]\ndata = "{folder / "data"}"\n')
        self.identity = folder / "data" / "identity"
        self.note = Note(self.identity, lambda: 1_700_000_000_000)

    def asked(self, code: str = "7K2M-Q0XD") -> None:
        self.identity.mkdir(parents=True, exist_ok=True)
        application.write(
            self.identity,
            application.Application(
                role=Role.CELL,
                id="Cell_1",
                fingerprint=KEY,
                zone="0011",
                authority="b1" * 32,
                scheduler="10.0.0.1:5600",
                scheduler_id="main",
                nonce=application.new_nonce(),
                code=code,
            ),
        )

    def joined(self, folder: Path) -> str:
        """The zone's id."""
        authority = make_zone(folder / "zone")
        made = issue(authority, Role.CELL, "c1")
        self.identity.parent.mkdir(exist_ok=True)
        self.identity.symlink_to(made.certificate_file.parent)
        return authority.zone.id

    @property
    def said(self) -> str:
        return str(state(self.file, "cell")["said"])


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_without_a_configuration_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nanoctl join first"):
        state(tmp_path / "cell.toml", "cell")


def test_who_has_not_asked_says_so(server: Server) -> None:
    assert state(server.file, "cell") == {"state": "new", "said": "has not asked yet: is nano-cell started?"}


def test_who_waits_shows_its_code_and_the_command_that_lets_it_in(server: Server) -> None:
    server.asked()
    server.note.says(State.WAITS)
    found = state(server.file, "cell")
    assert (found["state"], found["code"], found["fingerprint"]) == ("waits", "7K2M-Q0XD", KEY)
    assert "7K2M-Q0XD" in found["said"]
    assert f"nanoctl cell admit {KEY[:16]}" in found["said"]


def test_the_code_of_an_earlier_try_is_not_shown(server: Server) -> None:
    server.asked()
    server.note.says(State.ASKS, why="10.0.0.1:5600 did not answer")
    found = state(server.file, "cell")
    assert (found["state"], "code" in found) == ("asks", False)
    assert "10.0.0.1:5600 did not answer" in found["said"]
    assert "7K2M" not in found["said"]


def test_who_is_refused_hears_by_whom_and_what_to_do(server: Server) -> None:
    server.asked()
    server.note.says(State.REFUSED, why="an administrator refused cell/Cell_1")
    assert server.said.startswith("refused since 2023-11-14")
    assert "an administrator refused" in server.said
    assert f"nanoctl cell admit {KEY[:16]}" in server.said


def test_whose_token_is_refused_hears_which_command_makes_another(server: Server) -> None:
    server.asked()
    server.note.says(State.TOKEN_REFUSED, why="join token x was used by another server already", token="x")
    assert "was used by another server already" in server.said
    assert "nanoctl token create --role cell" in server.said


def test_who_is_in_the_zone_says_since_when_and_who_said_so(server: Server, tmp_path: Path) -> None:
    zone = server.joined(tmp_path)
    assert state(server.file, "cell")["state"] == "joined"  # as an earlier version left it
    server.note.says(State.JOINED, heard_ms=1_700_000_000_000)
    found = state(server.file, "cell")
    assert (found["state"], found["zone"]) == ("joined", zone)
    assert f"in the zone lab ({zone}) since 2023-11-14 22:13:20 UTC" in found["said"]


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (State.REMOVED, ("removed from the zone lab", "by an operator", "with another key")),
        (State.LEFT_BEHIND, ("left behind from the zone lab", "by its key")),
    ],
)
def test_whose_membership_is_over_does_not_call_itself_in_the_zone(
    server: Server, tmp_path: Path, standing: State, words: tuple[str, ...]
) -> None:
    server.joined(tmp_path)
    server.note.says(standing, why="the scheduler says so")
    assert state(server.file, "cell")["state"] == str(standing)
    assert not server.said.startswith("in the zone")
    assert "nanoctl token create" in server.said
    for word in words:
        assert word in server.said


def test_a_doubt_is_told_as_one(server: Server, tmp_path: Path) -> None:
    server.joined(tmp_path)
    server.note.says(State.JOINED)
    assert server.note.doubts("not signed by this zone's authority")
    assert "as far as it knows" in server.said
    assert "not signed by this zone's authority" in server.said
    assert "else somebody else answers there" in server.said


def test_a_checkout_is_told_its_own_command(server: Server) -> None:
    server.file.with_name("fleet.toml").write_text("joined = true")
    server.asked()
    server.note.says(State.TOKEN_REFUSED, why="x")
    assert "./dev join -" in server.said
