"""Where `nanoctl` finds the gateway."""

from pathlib import Path

import pytest

from nano.cli.settings import Settings, find, read
from nano.model.errors import Invalid, NotFound


def test_settings_are_read_and_a_typo_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nanoctl.toml"
    file.write_text('url = "https://h:5850"\nid = "a"\nkey = "b"\n')
    assert read(file) == Settings("https://h:5850", "a", "b")
    file.write_text('url = "https://h:5850"\nid = "a"\nkey = "b"\nkeyy = "c"\n')
    with pytest.raises(Invalid, match="keyy"):
        read(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.toml"):
        read(tmp_path / "nowhere.toml")


def test_what_is_no_text_or_no_id_is_refused_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "nanoctl.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match=r"nanoctl\.toml"):
        read(file)
    file.write_text('url = "https://h:5850"\nid = "\u00e9"\nkey = "b"\n', "utf-8")
    with pytest.raises(Invalid, match="API id"):
        read(file)


def test_a_file_named_by_the_environment_is_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another zone's settings are no substitute for those that were meant."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "var" / "nanoctl.toml"
    here.parent.mkdir()
    here.touch()
    monkeypatch.setenv("NANO_CONFIG", "nowhere.toml")
    assert find(None) == Path("nowhere.toml")


def test_the_environment_comes_before_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NANO_CONFIG", raising=False)
    with pytest.raises(NotFound, match=r"\./dev up"):
        find(None)
    here = tmp_path / "var" / "nanoctl.toml"
    here.parent.mkdir()
    here.touch()
    assert find(None) == Path("var/nanoctl.toml")
    named = tmp_path / "mine.toml"
    named.touch()
    monkeypatch.setenv("NANO_CONFIG", str(named))
    assert find(None) == named
    assert find(Path("given")) == Path("given")
