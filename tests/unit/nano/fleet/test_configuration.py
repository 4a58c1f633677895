import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fleet.bridge import Bridge
from nano.fleet.configuration import (
    JOINING,
    SERVICES,
    change_fabric,
    joining_settings,
    service_settings,
    toml,
    write_configuration,
)
from nano.model.errors import Conflict

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
PLAIN = TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans()
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TABLES = st.recursive(
    st.dictionaries(KEYS, PLAIN | st.lists(TEXT, max_size=3), max_size=4),
    lambda inner: st.dictionaries(KEYS, PLAIN | inner, max_size=4),
    max_leaves=8,
)
BRIDGE = Bridge("nano0", IPv4Network("10.57.0.0/24"))


@given(TABLES)
def test_what_is_written_reads_back_the_same(settings: dict[str, Any]) -> None:
    assert tomllib.loads(toml(settings)) == settings


def test_each_process_is_configured_below_the_root_and_on_loopback(tmp_path: Path) -> None:
    write_configuration(tmp_path, service_settings(tmp_path, BRIDGE, None))
    for name in SERVICES:
        found = tomllib.loads((tmp_path / "config" / f"{name}.toml").read_text())
        if "fabric" in found:
            assert found["paths"]["data"].startswith(str(tmp_path))
            assert found["fabric"]["listen"] == "127.0.0.1"
            assert found["fabric"]["discovery"]["interfaces"] == ["127.0.0.1"]


def test_what_people_edited_is_kept(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.toml").write_text("port = 8443\n")
    write_configuration(tmp_path, service_settings(tmp_path, BRIDGE, None))
    assert (tmp_path / "config" / "gateway.toml").read_text() == "port = 8443\n"
    assert (tmp_path / "config" / "cell.toml").exists()


def test_a_fleet_is_opened_without_a_word_of_anybody_lost(tmp_path: Path) -> None:
    closed = service_settings(tmp_path, BRIDGE, None)
    opened = service_settings(tmp_path, BRIDGE, None, is_open=True)
    write_configuration(tmp_path, closed)
    gateway, cell = (tmp_path / "config" / f"{name}.toml" for name in ("gateway", "cell"))
    gateway.write_text(gateway.read_text().replace("port = 5850", "port = 8443"))
    change_fabric(tmp_path, closed, opened)
    found = tomllib.loads(gateway.read_text())
    assert (found["port"], found["fabric"]) == (8443, tomllib.loads(toml(opened["gateway"]))["fabric"])
    change_fabric(tmp_path, closed, opened)  # as after a death half-way
    before = gateway.read_text()
    cell.write_text(cell.read_text().replace("5604", "5704"))
    with pytest.raises(Conflict, match=r"cell\.toml: \[fabric\] was changed by hand"):
        change_fabric(tmp_path, opened, closed)
    assert gateway.read_text() == before, "all, or none"


def test_where_others_may_join_the_fabric_is_everywhere_and_rest_is_not(tmp_path: Path) -> None:
    found = service_settings(tmp_path, BRIDGE, None, is_open=True)
    for name, settings in found.items():
        if "fabric" in settings:
            assert "listen" not in settings["fabric"]
            assert name not in settings["fabric"]["discovery"]["peers"]
    assert found["gateway"]["listen"] == found["portal"]["listen"] == "127.0.0.1"


def test_a_cell_that_joins_is_named_by_its_own_bridge_and_enrols_nowhere_here(tmp_path: Path) -> None:
    found = joining_settings(tmp_path, Bridge("nano0", BRIDGE.subnet, "02:4e:01:02:03:04"), None)
    assert tuple(found) == JOINING
    assert found["cell"]["id"] == "Cell_024e01020304"
    assert found["cell"]["fabric"]["enrolment"] == ""
