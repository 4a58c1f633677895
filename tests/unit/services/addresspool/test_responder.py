"""The responder's configuration: three lines, each checked."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from services.addresspool.responder import Config, read_config


def test_an_absent_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none") == Config()


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "responder.toml"
    path.write_text('bridge = "lan0"\n')
    assert read_config(path) == Config(bridge="lan0")


@pytest.mark.parametrize("text", ['brigde = "br0"', "bridge = 1", 'bridge = ""', "bridge =", "\x00"])
def test_what_is_mistyped_is_refused_and_the_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "responder.toml"
    path.write_text(text)
    with pytest.raises(Invalid, match=str(path)):
        read_config(path)
