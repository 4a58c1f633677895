"""What may be set of a gateway, and what must not be."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from nano.service import read_config
from services.gateway.config import Config, check


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return read_config(path, Config)


def test_an_empty_file_is_a_sane_gateway(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    check(config)
    assert (config.port, config.tls, config.fabric.port) == (5850, True, 5603)


@pytest.mark.parametrize(
    "text",
    [
        'listen = "127.0.0.1"\ntls = false',
        'listen = "::1"\ntls = false',
        "tls = false\nallow_plain = true",
        'listen = "10.0.0.1"',
    ],
)
def test_plain_is_for_loopback_or_for_whoever_says_it_twice(tmp_path: Path, text: str) -> None:
    check(configured(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "field"),
    [("tls = false", "tls"), ('listen = "10.0.0.1"\ntls = false', "tls"), ('listen = "here"', "listen")],
)
def test_plain_on_a_network_is_refused(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(configured(tmp_path, text))
    assert refused.value.field == field


def test_a_misspelt_member_is_refused_by_file_and_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="tsl"):
        configured(tmp_path, "tsl = true")
