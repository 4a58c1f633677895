"""What `./dev up --open` says about who can reach it."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from nano.fleet.bridge import Bridge
from nano.fleet.configuration import SERVICES, service_settings, write_configuration
from nano.fleet.openings import configured, openings
from nano.model.errors import Invalid

BRIDGE = Bridge("nano0", IPv4Network("10.57.0.0/24"))
WIDE = "open on every address of this host (10.57.0.1, 192.0.2.7):"
HERE = "open on 127.0.0.1, to this host alone:"
ADDRESSES = ("10.57.0.1", "192.0.2.7")


def told(root: Path, *, is_open: bool = True) -> dict[str, list[str]]:
    """The ports, as `UDP 5600`, by the line that says where."""
    write_configuration(root, service_settings(root, BRIDGE, None, is_open=is_open))
    found: dict[str, list[str]] = {}
    for line in openings(configured(root, tuple(SERVICES)), ADDRESSES):
        if line.startswith("open"):
            ports = found[line] = []
        else:
            ports.append(line.strip().partition("  ")[0])
    return found


def test_the_fabric_is_open_to_others_and_rest_is_not(tmp_path: Path) -> None:
    assert told(tmp_path) == {
        WIDE: ["UDP 5600", "UDP 5601", "UDP 5602", "UDP 5603", "UDP 5604"],
        "open on the multicast group 224.0.0.226:": ["UDP 5599"],
        HERE: ["TCP 5850", "TCP 5870"],
    }


def test_what_people_edited_counts(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.toml").write_text('listen = "0.0.0.0"\nport = 8443\n')
    (tmp_path / "config" / "cell.toml").write_text('[fabric]\nlisten = "192.0.2.7"\nport = 7000\n')
    found = told(tmp_path)
    assert found[WIDE] == ["TCP 8443", "UDP 5600", "UDP 5601", "UDP 5602", "UDP 5603"]
    assert found["open on 192.0.2.7:"] == ["UDP 7000"]
    assert found[HERE] == ["TCP 5870"]


def test_a_closed_fleet_is_open_to_nobody_else(tmp_path: Path) -> None:
    assert WIDE not in told(tmp_path, is_open=False)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    told(tmp_path)
    (tmp_path / "config" / "portal.toml").write_text("port = = 1\n")
    with pytest.raises(Invalid, match=r"portal\.toml"):
        configured(tmp_path, tuple(SERVICES))
