"""The tree keeps its promise: whoever has read one service finds the doors of all others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__init__.py"))
REST = {"gateway", "portal"}


def test_the_services_of_the_design_are_there() -> None:
    assert set(SERVICES) == {"addresspool", "cell", "gateway", "imagestore", "portal", "scheduler"}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_the_same_doors(service: str) -> None:
    folder = ROOT / "services" / service
    doors = {"__init__.py", "__main__.py", "config.py"} | (
        {"app.py", "routes"} if service in REST else {"rpc.py"}
    )
    assert doors <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_says_what_it_owns(service: str) -> None:
    words = ast.get_docstring(ast.parse((ROOT / "services" / service / "__init__.py").read_text()))
    assert words
    assert "writer" in words or service in REST
    assert "not" in words  # and what it does not


@pytest.mark.parametrize("service", SERVICES)
def test_wiring_is_imported_by_nobody(service: str) -> None:
    name = f"services.{service}.__main__"
    importers = [
        path
        for path in [*ROOT.glob("nano/**/*.py"), *ROOT.glob("services/**/*.py")]
        if name in path.read_text() or f"from services.{service} import __main__" in path.read_text()
    ]
    assert importers == []


def _module_of(test: Path) -> Path:
    return ROOT / test.parent.relative_to(ROOT / "tests" / "unit") / test.name.removeprefix("test_")


@pytest.mark.parametrize(
    "test",
    sorted((ROOT / "tests" / "unit" / "services").glob("**/test_*.py")),
    ids=lambda test: str(test.relative_to(ROOT)),
)
def test_unit_tests_mirror_the_services(test: Path) -> None:
    module = _module_of(test)
    assert module.is_file() or module.with_suffix("").is_dir(), f"{test} tests no module of that name"


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path.relative_to(ROOT)
        for path in [*ROOT.glob("nano/**/*.py"), *ROOT.glob("services/**/*.py")]
        if "contracts" not in path.parts
        and path.stat().st_size
        and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
