"""What may be set of a portal, and what must not be."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from nano.service import read_config
from services.portal.config import Config, check, credential_path


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "portal.toml"
    path.write_text(text)
    return read_config(path, Config)


def test_an_empty_file_is_a_sane_portal(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    check(config)
    assert (config.port, config.tls, config.first_start_code) == (5870, True, True)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("tls = false", "tls"),
        ('listen = "here"', "listen"),
        ("max_disk = 1", "max_disk"),
        ('gateway = "127.0.0.1:5850"', "gateway"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(configured(tmp_path, text))
    assert refused.value.field == field


def test_a_bare_name_is_a_credential_of_the_unit() -> None:
    unit = {"CREDENTIALS_DIRECTORY": "/run/credentials/nano-portal.service"}
    assert credential_path("gateway", unit) == Path("/run/credentials/nano-portal.service/gateway")
    assert credential_path("/etc/key", unit) == Path("/etc/key")
    assert credential_path("gateway", {}) == Path("gateway")
