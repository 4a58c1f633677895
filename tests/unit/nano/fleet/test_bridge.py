from ipaddress import IPv4Network

import pytest

from nano.fleet.bridge import (
    Bridge,
    bridge_is_there,
    ensure_bridge,
    free_subnet,
    networks_in_use,
    remove_bridge,
)
from nano.fleet.tools import run_tool
from nano.model.errors import Conflict, NoAddress
from tests.support.netns import fresh_network

__all__ = ["fresh_network"]

SUBNET = IPv4Network("10.57.0.0/24")


def test_the_preferred_subnet_is_taken_when_free() -> None:
    assert free_subnet([IPv4Network("192.168.1.0/24"), IPv4Network("127.0.0.0/8")]) == SUBNET


def test_a_subnet_in_use_is_passed_over_whether_wider_or_narrower() -> None:
    assert free_subnet([IPv4Network("10.57.0.128/25"), IPv4Network("10.57.1.7/32")]) == IPv4Network(
        "10.57.2.0/24"
    )


def test_no_subnet_left_names_the_setting() -> None:
    with pytest.raises(NoAddress, match=r"fleet\.toml"):
        free_subnet([IPv4Network("10.0.0.0/8")])


def test_routes_are_read_and_the_default_is_no_network() -> None:
    routes = (
        '[{"dst":"default","gateway":"10.1.1.1"},{"dst":"10.1.1.0/24"},{"type":"local","dst":"10.1.1.7"}]'
    )
    assert networks_in_use(routes) == [IPv4Network("10.1.1.0/24"), IPv4Network("10.1.1.7/32")]


def test_bridge_has_the_first_address_and_a_local_mac() -> None:
    bridge = Bridge("nano0", SUBNET)
    assert str(bridge.gateway) == "10.57.0.1/24"
    assert bridge.mac == "02:4e:0a:39:00:00"


@pytest.mark.hypervisor
def test_bridge_is_made_once_and_removed_by_its_maker_only(fresh_network: None) -> None:
    bridge = Bridge("nano0", SUBNET)
    ensure_bridge(bridge, "/one")
    ensure_bridge(bridge, "/one")
    assert bridge.mac in run_tool("ip", "link", "show", "nano0")
    with pytest.raises(Conflict, match="/one"):
        ensure_bridge(bridge, "/two")
    assert not remove_bridge("nano0", "/two")
    assert bridge_is_there("nano0")
    assert remove_bridge("nano0", "/one")
    assert not bridge_is_there("nano0")


@pytest.mark.hypervisor
def test_somebody_elses_interface_is_left_alone(fresh_network: None) -> None:
    run_tool("ip", "link", "add", "nano0", "type", "bridge")
    with pytest.raises(Conflict, match="something else"):
        ensure_bridge(Bridge("nano0", SUBNET), "/one")
    assert not remove_bridge("nano0", "/one")
    assert bridge_is_there("nano0")
