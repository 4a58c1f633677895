"""What a fleet was made as stays: whole or joined, real or pretended; closed or open, until it is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from nano.fleet.host import Place, Settled, clear, prepare, read_fleet, settle_open
from nano.model.errors import Conflict, Invalid


def place(root: Path, **more: bool) -> Place:
    return Place(root, root / "cache", simulated=True, **more)


def settled(root: Path) -> Settled:
    return read_fleet(root / "config" / "fleet.toml")


def test_a_joined_server_keeps_a_name_that_no_other_has(tmp_path: Path) -> None:
    macs = set()
    for name in ("one", "two"):
        here = place(tmp_path / name, joined=True)
        first = prepare(here, print).bridge
        assert prepare(here, print).bridge == first
        macs.add(first.mac)
    assert len(macs) == 2


@pytest.mark.parametrize(
    ("made", "asked", "why"),
    [
        ({"joined": True}, {}, "./dev join"),
        ({}, {"joined": True}, "./dev up"),
    ],
)
def test_a_fleet_stays_what_it_was_made_as(
    tmp_path: Path, made: dict[str, bool], asked: dict[str, bool], why: str
) -> None:
    prepare(place(tmp_path, **made), print)
    with pytest.raises(Conflict, match=why):
        prepare(place(tmp_path, **asked), print)
    with pytest.raises(Conflict, match="--simulated"):
        prepare(replace(place(tmp_path, **made), simulated=False), print)


def test_an_open_fleet_stays_open_without_being_told_again(tmp_path: Path) -> None:
    assert prepare(place(tmp_path, open=True), print).open
    assert prepare(place(tmp_path), print).open
    assert settled(tmp_path).open
    clear(place(tmp_path), print)


def test_a_fleet_is_opened_and_closed_again(tmp_path: Path) -> None:
    assert not prepare(place(tmp_path), print).open
    assert prepare(place(tmp_path, open=True), print).open
    assert not settled(tmp_path).open, "not before its services are told"
    settle_open(tmp_path, is_open=True)
    assert prepare(place(tmp_path), print).open
    assert not prepare(place(tmp_path, open=False), print).open
    settle_open(tmp_path, is_open=False)
    assert not prepare(place(tmp_path), print).open


def test_a_file_that_cannot_be_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "fleet.toml").write_text("bridge = 1\n")
    with pytest.raises(Invalid, match=r"fleet\.toml"):
        settled(tmp_path)
