"""The units as text: every process has one, everything is put in, and the settings name each other."""

import configparser
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from nano.fleet.configuration import SERVICES, toml
from nano.fleet.units import GROUPING, TEMPLATES, UNITS, Layout, install, rendered, settings
from nano.model.errors import Invalid
from nano.service import read_config
from services.addresspool import responder
from services.addresspool.config import Config as AddressPoolConfig
from services.cell.config import Config as CellConfig
from services.gateway.config import Config as GatewayConfig
from services.imagestore.config import Config as ImageStoreConfig
from services.portal.config import Config as PortalConfig
from services.scheduler.config import Config as SchedulerConfig

CONFIGS: dict[str, type[msgspec.Struct]] = {
    "scheduler": SchedulerConfig,
    "imagestore": ImageStoreConfig,
    "addresspool": AddressPoolConfig,
    "gateway": GatewayConfig,
    "portal": PortalConfig,
    "cell": CellConfig,
}
LAYOUT = Layout()
SYSTEM = "etc/systemd/system"


def unit(name: str, layout: Layout = LAYOUT) -> str:
    return rendered(layout)[f"{SYSTEM}/{UNITS[name]}.service"]


def members(text: str) -> configparser.ConfigParser:
    """The last of each assignment, which is enough for those that are made once."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#", delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_every_process_has_a_unit_that_runs_it() -> None:
    assert set(UNITS) == set(SERVICES)
    for name, module in SERVICES.items():
        command = members(unit(name))["Service"]["ExecStart"]
        assert command == f"/opt/nano/bin/python3 -I -m {module} --config /etc/nano/{name}.toml"


def test_nothing_is_left_to_put_in_and_no_template_is_left_out() -> None:
    made = rendered(LAYOUT)
    assert not [name for name, text in made.items() if re.search(r"@[A-Z_]+@", text)]
    fragments = {"hardening.conf", "supervision.conf"}
    assert len(made) == len(list(TEMPLATES.iterdir())) - len(fragments)


@pytest.mark.parametrize("name", UNITS)
def test_each_has_a_user_and_folders_of_its_own_and_comes_back_for_ever(name: str) -> None:
    read = members(unit(name))
    service = read["Service"]
    assert service["User"] == UNITS[name]
    assert service["StateDirectory"] == UNITS[name].replace("nano-", "nano/")
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert int(service["WatchdogSec"]) > 0
    assert read["Unit"]["StartLimitIntervalSec"] == "0"
    assert read["Install"]["WantedBy"] in GROUPING


@pytest.mark.parametrize("name", UNITS)
def test_none_needs_another_to_start(name: str) -> None:
    assert not re.search(r"^(Requires|Requisite|BindsTo|Wants)=", unit(name), re.MULTILINE)
    behind = re.findall(r"nano-[a-z]+\.service", members(unit(name))["Unit"]["After"])
    assert behind == (["nano-gateway.service"] if name == "portal" else [])


def test_only_the_responder_has_a_capability_and_only_the_cell_a_device() -> None:
    kept = {name: members(unit(name))["Service"] for name in UNITS}
    assert {name for name, service in kept.items() if service["CapabilityBoundingSet"]} == {"responder"}
    assert kept["responder"]["CapabilityBoundingSet"] == "CAP_NET_RAW"
    assert {name for name, service in kept.items() if "DeviceAllow" in service} == {"cell"}


def test_every_user_and_group_that_a_unit_names_is_made() -> None:
    made = rendered(LAYOUT)
    told = made["etc/sysusers.d/nano.conf"] + made["etc/sysusers.d/nano-cell.conf"]
    there = set(re.findall(r"^[ug]\s+(\S+)", told, re.MULTILINE)) | {"kvm", LAYOUT.libvirt_group}
    for name in UNITS:
        service = members(unit(name))["Service"]
        groups = {service["Group"], *service.get("SupplementaryGroups", "").split()}
        assert {service["User"], *groups} <= there
        for group in groups - {UNITS[name]}:
            assert re.search(rf"^m\s+{UNITS[name]}\s+{group}$", told, re.MULTILINE), (name, group)


def test_a_host_without_a_cell_gets_nothing_of_libvirts() -> None:
    made = rendered(LAYOUT, ("scheduler", "gateway"))
    assert f"{SYSTEM}/nano-cell.service" not in made
    assert not [text for text in made.values() if "libvirt" in text]


def test_places_and_names_are_put_in() -> None:
    layout = Layout("/srv/nano", "/etc/cloud", "libvirt-admins", "qemu")
    assert "ExecStart=/srv/nano/bin/python3 " in unit("cell", layout)
    assert "--config /etc/cloud/cell.toml" in unit("cell", layout)
    assert "SupplementaryGroups=nano libvirt-admins kvm nano-dhcp\n" in unit("cell", layout)
    assert re.search(
        r"^m qemu\s+nano-volumes$", rendered(layout)["etc/sysusers.d/nano-cell.conf"], re.MULTILINE
    )


def test_a_systemd_that_knows_how_waits_longer_from_start_to_start() -> None:
    assert "RestartSteps" not in unit("cell", Layout(systemd=252))
    assert "\nRestartSec=1\nRestartSteps=5\nRestartMaxDelaySec=30\n" in unit("cell", Layout(systemd=254))


@pytest.mark.parametrize(
    ("layout", "field"),
    [
        (Layout(prefix="opt/nano"), "prefix"),
        (Layout(prefix="/opt/na no"), "prefix"),
        (Layout(prefix="/opt/%n"), "prefix"),
        (Layout(prefix="/root/nano"), "prefix"),
        (Layout(config="/home/me"), "config"),
    ],
)
def test_a_folder_that_no_unit_could_use_is_named(layout: Layout, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        rendered(layout)
    assert refused.value.field == field


def test_a_process_without_a_unit_is_named() -> None:
    with pytest.raises(Invalid, match="sceduler"):
        rendered(LAYOUT, ("sceduler",))


@pytest.mark.parametrize("name", UNITS)
def test_settings_are_what_the_service_reads(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(toml(settings("br7")[name]))
    if name == "responder":
        read = responder.read_config(file)
        assert (read.bridge, read.cell_user) == ("br7", "nano-cell")
    else:
        read_config(file, CONFIGS[name])


def test_sockets_are_where_their_units_make_the_folder() -> None:
    told = settings("br0")
    for name, path in (
        ("scheduler", told["scheduler"]["fabric"]["enrolment"]),
        ("responder", told["responder"]["socket"]),
    ):
        assert Path(path).parent == Path("/run", members(unit(name))["Service"]["RuntimeDirectory"])


def test_the_portal_is_told_the_names_of_its_credentials() -> None:
    loaded = dict(re.findall(r"^LoadCredential=(\S+?):(\S+)$", unit("portal"), re.MULTILINE))
    told = settings("br0")["portal"]
    assert set(loaded) == {told["gateway_credentials"], told["gateway_certificate"]}


def test_what_people_edited_stays_and_units_are_written_anew(tmp_path: Path) -> None:
    install(tmp_path, LAYOUT, "br0")
    edited, stale = tmp_path / "etc/nano/cell.toml", tmp_path / SYSTEM / "nano-cell.service"
    edited.write_text('bridge = "lan"\n')
    stale.write_text("")
    written = install(tmp_path, LAYOUT, "br0")
    assert edited not in written
    assert tomllib.loads(edited.read_text()) == {"bridge": "lan"}
    assert stale.read_text()
    assert {path.stat().st_mode & 0o777 for path in written} == {0o644}
