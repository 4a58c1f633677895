"""The address pool's configuration: an empty file starts a sane service, a typo does not."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from nano.service import read_config
from services.addresspool.config import Config


def test_an_empty_file_starts_a_sane_service(tmp_path: Path) -> None:
    config = read_config(tmp_path / "none", Config)
    assert (config.id, config.fabric.port) == ("main", 5602)


def test_a_typo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "addresspool.toml"
    path.write_text('[paths]\ndatta = "/tmp"\n')
    with pytest.raises(Invalid, match="datta"):
        read_config(path, Config)
