"""Every row of the table holds, and docs/conformance.md says so."""

import collections

import pytest

from tests.conformance.row import Row
from tests.conformance.table import PAGE, PARTS, page

ROWS = [row for rows in PARTS.values() for row in rows]


@pytest.fixture(scope="module")
def observed() -> dict[str, str]:
    return {}


def _key(row: Row) -> str:
    return f"{row.section}: {row.does}"


@pytest.mark.parametrize("row", ROWS, ids=_key)
def test_a_peer_gets_what_it_must(row: Row, observed: dict[str, str]) -> None:
    outcome = row.observe()
    observed[_key(row)] = outcome
    assert row.flaw(outcome) == ""


def test_no_row_stands_there_twice() -> None:
    assert [key for key, count in collections.Counter(map(_key, ROWS)).items() if count > 1] == []


def test_the_page_is_what_the_code_does(observed: dict[str, str]) -> None:
    found = {
        part: [(row, observed.get(_key(row)) or row.observe()) for row in rows]
        for part, rows in PARTS.items()
    }
    assert PAGE.read_text() == page(found), "run: python -m tests.conformance --write"
