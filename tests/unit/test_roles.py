"""Nobody unnamed: each method of each service says who may call it, and no table names a method that is not.

Both sides are found, not listed: the services of the contracts, the paths that stand in the code, the
handlers of image bytes and the like, and the tables of all modules. A new one fails here until it has its
other half.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from betterproto2.grpclib.grpclib_server import ServiceBase

from nano.contracts.nano import v1
from nano.model.peers import Role

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("nano", "services")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "contracts" not in path.parts
]
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}
SERVES = {"serve", "serve_bulk"}
BULK_METHODS = {"GET", "HEAD", "PUT"}
PATH = re.compile(r"/nano\.v1\.\w+/\w+", re.ASCII)


def methods() -> set[str]:
    """What the contracts offer, by full name."""
    services = [
        found
        for found in vars(v1).values()
        if isinstance(found, type) and issubclass(found, ServiceBase) and found is not ServiceBase
    ]
    assert len(services) >= 8
    return {method for service in services for method in service().__mapping__()}  # type: ignore[attr-defined]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def tables() -> Iterator[tuple[Path, str, dict[Any, frozenset[Role]]]]:
    """Each module's tables of roles: where, what they are called, and their rows."""
    for path, tree in TREES.items():
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and re.fullmatch(r"([A-Z]+_)*ROLES", target.id):
                yield path, target.id, getattr(importlib.import_module(module_of(path)), target.id)


CALLS = [found for found in tables() if all(isinstance(row, str) for row in found[2])]
BULK = [found for found in tables() if found not in CALLS]


def test_each_method_of_each_service_says_who_may_call_it() -> None:
    rows = {row for _, _, table in CALLS for row in table}
    assert methods() - rows == set()


def test_no_table_names_a_method_that_no_service_has() -> None:
    rows = {row for _, _, table in CALLS for row in table}
    assert rows - methods() == set()


def test_each_row_lets_in_somebody_and_stands_in_one_table() -> None:
    seen: set[str] = set()
    for path, name, table in CALLS:
        for row, roles in table.items():
            assert roles, f"{path}: {row} in {name} lets in nobody"
            assert roles <= set(Role), f"{path}: {row}"
            assert row not in seen, f"{path}: {row} has a second row in {name}"
            seen.add(row)


def test_each_table_is_used_by_a_module_that_serves() -> None:
    imported = {
        (node.module, alias.name)
        for tree in TREES.values()
        if any(isinstance(node, ast.Attribute) and node.attr in SERVES for node in ast.walk(tree))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for path, name, _ in [*CALLS, *BULK]:
        assert (module_of(path), name) in imported, f"{path}: nobody serves by {name}"


def test_each_method_that_is_made_by_hand_is_one_of_the_contracts() -> None:
    written = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PATH.fullmatch(node.value)
    }
    assert written
    assert written - methods() == set()


def test_only_who_asks_to_be_let_in_calls_the_door() -> None:
    """An applicant has proven nothing but that it has a key."""
    open_to_all = {row for _, _, table in CALLS for row, roles in table.items() if Role.APPLICANT in roles}
    assert open_to_all == {"/nano.v1.Door/Join"}
    assert not any(Role.APPLICANT in roles for _, _, table in BULK for roles in table.values())


def _takes_bulk(node: ast.AST) -> bool:
    """Whether it is a class that answers `BulkRequest`s."""
    if not isinstance(node, ast.ClassDef):
        return False
    answers = {one.name: ast.unparse(one.args) for one in node.body if isinstance(one, ast.AsyncFunctionDef)}
    return all("BulkRequest" in answers.get(name, "") for name in ("head", "get", "put"))


def test_each_handler_of_bulk_bodies_has_a_row_for_each_method() -> None:
    handlers = {
        path
        for path, tree in TREES.items()
        for node in tree.body
        if _takes_bulk(node) and "fabric" not in path.parts
    }
    assert handlers
    assert handlers == {path for path, _, _ in BULK}


@pytest.mark.parametrize("found", BULK, ids=lambda found: module_of(found[0]))
def test_each_bulk_table_is_whole(found: tuple[Path, str, dict[tuple[str, str], frozenset[Role]]]) -> None:
    path, name, table = found
    assert {method for method, _ in table} == BULK_METHODS, f"{path}: {name}"
    for (_, prefix), roles in table.items():
        assert prefix.startswith("/")
        assert roles
