"""systemd's own judgement of the units: no complaint, and no more exposed than docs/operations.md says."""

import re
import subprocess
from pathlib import Path

import pytest

from nano.fleet.tools import run_tool
from nano.fleet.units import UNITS, Layout, install

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
SYSTEM = "etc/systemd/system"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The units of all services, as systemd would find them; their program is this host's, which exists."""
    install(tmp_path, Layout(prefix="/usr"), "br0")
    return tmp_path / SYSTEM


def test_systemd_has_nothing_to_complain_of(system: Path) -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *sorted(system.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_a_complaint_would_be_seen(system: Path) -> None:
    unit = system / "nano-cell.service"
    unit.write_text(unit.read_text().replace("[Service]\n", "[Service]\nProtectEverything=yes\n"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode != 0
    assert "ProtectEverything" in verified.stderr


def documented() -> dict[str, str]:
    """The score of each unit in the table of docs/operations.md."""
    return dict(re.findall(r"^\| `(nano-\w+)` \| (\d+\.\d) \|", OPERATIONS.read_text(), re.MULTILINE))


def test_each_unit_has_its_score_written_down() -> None:
    assert set(documented()) == set(UNITS.values())


@pytest.mark.parametrize("unit", UNITS.values())
def test_no_unit_is_more_exposed_than_it_is_written_down(system: Path, unit: str) -> None:
    tenths = round(float(documented()[unit]) * 10)
    run_tool(
        *("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={tenths}"),
        str(system / f"{unit}.service"),
    )
