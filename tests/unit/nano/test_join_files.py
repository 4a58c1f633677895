"""The files of a server that joins: the configuration of its service, its token, its identity folder."""

import errno
import os
import stat
import tomllib
from io import StringIO
from pathlib import Path

import pytest

from nano.fabric.joining import application
from nano.fabric.joining.join_token import TokenText, encode
from nano.fabric.joining.standing import Note, State
from nano.join_files import (
    changed,
    check_token,
    check_zone,
    configure,
    given_token,
    located,
    membership,
    scheduler_address,
    start_over,
)
from nano.model.errors import Conflict, Invalid
from nano.model.peers import Role
from nano.service import read_config
from services.cell.config import Config
from tests.support.certificates import issue, make_zone

FAR_MS = 2**42
WRITTEN = """# by hand
bridge = "br0"  # mine

[fabric] # how it is let in
enrolment = "/run/nano/scheduler/enrolment.sock"
enrolment_user = "nano-scheduler"

[paths]
data = "/srv/cell"
"""


def token(role: Role = Role.CELL, expires_ms: int = FAR_MS) -> str:
    return encode(TokenText(1, "0011", (bytes(32),), bytes(16), role, "", expires_ms, ("10.0.0.1:5600",)))


def test_a_token_may_be_read_where_no_list_of_processes_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_token(token()) == token()
    assert not given_token("")
    monkeypatch.setattr("sys.stdin", StringIO(f"{token()}\n"))
    assert given_token("-") == token()
    with pytest.raises(Invalid, match="no join token"):
        given_token("-")


def test_a_new_server_gets_its_configuration_and_a_token_for_its_own_eyes(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "cell.toml"
    configure(file, token(), "10.0.0.1:5600")
    found = tomllib.loads(file.read_text())
    kept = tmp_path / "etc" / "cell.join-token"
    assert found["fabric"]["enrolment"] == ""
    assert found["fabric"]["token_file"] == str(kept)
    assert found["fabric"]["discovery"]["peers"] == {"scheduler": "10.0.0.1:5600"}
    assert kept.read_text().strip() == token()
    assert read_config(file, Config).fabric.token_file == str(kept)
    assert kept.stat().st_mode & 0o077 == 0


def test_a_disk_that_is_full_leaves_the_configuration_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cell.toml"
    file.write_text(WRITTEN)
    file.chmod(0o640)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            configure(file, token())
    assert file.read_text() == WRITTEN
    assert not (tmp_path / "cell.join-token").exists()
    configure(file, token())
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "cell.join-token").stat().st_mode) == 0o600


def test_what_people_wrote_stays_and_a_second_join_replaces_the_first(tmp_path: Path) -> None:
    file = tmp_path / "cell.toml"
    file.write_text(WRITTEN)
    configure(file, token())
    configure(file, "")
    text = file.read_text()
    for line in WRITTEN.splitlines():
        assert line in text or line.startswith("enrolment =")
    found = tomllib.loads(text)
    assert (found["fabric"]["enrolment"], found["fabric"]["token_file"]) == ("", "")
    assert found["fabric"]["enrolment_user"] == "nano-scheduler"
    assert not (tmp_path / "cell.join-token").exists()


@pytest.mark.parametrize(
    "text",
    [
        'fabric = { enrolment = "/x" }\n',
        '[fabric]\ndiscovery.peers = { imagestore = "a:1" }\n',
        '[fabric]\nnote = """\nenrolment = 1\n"""\n',
    ],
)
def test_what_cannot_be_changed_line_by_line_is_left_to_a_person(tmp_path: Path, text: str) -> None:
    settings = {"fabric": {"enrolment": ""}, "fabric.discovery.peers": {"scheduler": "a:2"}}
    with pytest.raises(
        Invalid, match=r"set \[fabric\] enrolment, \[fabric.discovery.peers\] scheduler there"
    ):
        changed(text, settings, tmp_path / "cell.toml")
    with pytest.raises(Invalid, match="correct it"):
        changed("= 1", settings, tmp_path / "cell.toml")


def test_a_token_for_another_role_or_of_the_past_is_refused_before_anything_is_written() -> None:
    check_token(token(), "cell")
    with pytest.raises(Invalid, match=r"is not for a gateway.*nanoctl token create --role gateway"):
        check_token(token(), "gateway")
    with pytest.raises(Invalid, match="has expired"):
        check_token(token(expires_ms=1), "cell")
    with pytest.raises(Invalid):
        check_token("nano-x", "cell")


def test_a_token_of_another_zone_takes_no_member_away_unless_it_starts_over(tmp_path: Path) -> None:
    identity = issue(make_zone(tmp_path / "zone"), Role.CELL, "c1").certificate_file.parent
    zone = membership(identity)
    assert zone is not None
    with pytest.raises(Conflict, match=f"in the zone lab \\({zone.zone}\\).*--start-over"):
        check_zone(identity, token())
    Note(identity, lambda: 1).says(State.REMOVED)
    check_zone(identity, token())  # out of it anyway
    check_zone(tmp_path / "nowhere", token())


def test_the_file_of_this_folder_is_found_where_it_joined_a_zone_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system, here = Path("/etc/nano/cell.toml"), Path("var/config/cell.toml")
    assert located("cell", None) == system
    here.parent.mkdir(parents=True)
    here.write_text("")
    (here.parent / "fleet.toml").write_text("joined = false")  # a whole zone: its cell joins nothing
    assert located("cell", None) == system
    (here.parent / "fleet.toml").write_text("joined = true")
    assert located("cell", None) == here
    assert located("cell", Path("x")) == Path("x")
    assert located("gateway", None) == Path("/etc/nano/gateway.toml")


def _asked(identity: Path) -> application.Application:
    return application.Application(
        role=Role.CELL,
        id="Cell_1",
        fingerprint="a1" * 32,
        zone="0011",
        authority="b1" * 32,
        scheduler="10.0.0.1:5600",
        scheduler_id="main",
        nonce=application.new_nonce(),
        code="7K2M-Q0XD",
    )


@pytest.mark.parametrize("removed", [True, False])
def test_starting_over_says_what_goes_and_touches_nothing_else(tmp_path: Path, *, removed: bool) -> None:
    identity = issue(make_zone(tmp_path / "zone"), Role.CELL, "c1").certificate_file.parent
    for name in ("trust.json", "key.pem.before", "certificate.pem.before"):
        (identity / name).write_text("{}")
    (identity.parent / "storage").mkdir()
    note = Note(identity, lambda: 1)
    note.says(State.REMOVED if removed else State.JOINED)
    application.write(identity, _asked(identity))
    said = "\n".join(start_over(identity))
    assert "discarded: its certificate of the zone lab" in said
    assert "to zone 0011 at 10.0.0.1:5600, with the code 7K2M-Q0XD" in said
    assert ("discarded: its key" in said) == removed
    assert {path.name for path in identity.iterdir()} == (set() if removed else {"key.pem"})
    assert (identity.parent / "storage").is_dir()
    assert start_over(identity)[-1] == "kept: its instances and their disks"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("10.92.0.1", "10.92.0.1:5600"),
        (" nano.example ", "nano.example:5600"),
        ("10.92.0.1:5700", "10.92.0.1:5700"),
        ("[::1]:5600", "[::1]:5600"),
    ],
)
def test_a_scheduler_is_written_with_its_port(tmp_path: Path, said: str, meant: str) -> None:
    configure(tmp_path / "cell.toml", "", said)
    written = tomllib.loads((tmp_path / "cell.toml").read_text())
    assert written["fabric"]["discovery"]["peers"] == {"scheduler": meant}
    assert scheduler_address(meant) == meant


@pytest.mark.parametrize("said", ["10.92.0.1:", "host:port", ":5600", "10.92.0.1:70000", " "])
def test_what_is_no_address_is_refused_before_anything_is_written(tmp_path: Path, said: str) -> None:
    path = tmp_path / "config" / "cell.toml"
    with pytest.raises(Invalid, match="is no address"):
        configure(path, "", said)
    assert not path.parent.exists()
