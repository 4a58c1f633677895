"""A service's words for the fabric, and the fabric's own."""

from nano.fabric.fabric import FabricConfig
from nano.joining import fabric_config
from nano.model.peers import PORTS, Role
from nano.service import Discovery, FabricSettings


def test_a_service_listens_on_the_port_of_its_role_unless_told_otherwise() -> None:
    assert fabric_config(FabricSettings(), Role.CELL).port == 5604
    assert fabric_config(FabricSettings(port=7), Role.CELL).port == 7
    assert PORTS.keys() == set(Role) - {Role.ADMIN, Role.APPLICANT}


def test_every_setting_reaches_the_fabric() -> None:
    discovery = Discovery("lab", "239.0.0.1", 6000, ("127.0.0.1",), {"scheduler": "10.0.0.1:5600"})
    assert fabric_config(FabricSettings("127.0.0.1", 1, discovery), Role.GATEWAY) == FabricConfig(
        host="127.0.0.1",
        port=1,
        domain="lab",
        group="239.0.0.1",
        group_port=6000,
        interfaces=("127.0.0.1",),
        peers={"scheduler": "10.0.0.1:5600"},
    )


def test_without_settings_both_mean_the_same() -> None:
    assert fabric_config(FabricSettings(port=1), Role.GATEWAY) == FabricConfig(port=1)
