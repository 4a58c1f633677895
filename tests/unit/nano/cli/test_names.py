"""What is said of names that nobody has."""

import pytest

from nano.cli.names import instance_named, known_as, near
from nano.model.errors import Invalid, NotFound

CELLS = ["Cell_02aa", "Cell_02ab", "Cell_03cc"]
GUESTS = [
    {"id": "1", "name": "a.web", "pool": "default"},
    {"id": "2", "name": "b.web", "pool": "edge"},
    {"id": "3", "name": "b.data", "pool": "edge"},
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cell_02", ["Cell_02aa", "Cell_02ab"]),
        ("cc", ["Cell_03cc"]),
        ("Cel_03cc", ["Cell_03cc"]),
        ("printer", []),
        ("", []),
    ],
)
def test_candidates_have_the_text_or_look_like_it(name: str, found: list[str]) -> None:
    assert [one for one in near(name, CELLS) if one in found] == found
    assert bool(near(name, CELLS)) == bool(found)


def test_a_part_of_a_name_is_not_the_name() -> None:
    assert known_as("cell", "Cell_02aa", CELLS, "list") == "Cell_02aa"
    with pytest.raises(NotFound, match="do you mean Cell_03cc"):
        known_as("cell", "Cell_03", CELLS, "list")
    with pytest.raises(NotFound, match="do you mean one of Cell_02aa, Cell_02ab"):
        known_as("cell", "Cell_02", CELLS, "list")
    with pytest.raises(NotFound, match="no cell 'printer': see list"):
        known_as("cell", "printer", CELLS, "list")


@pytest.mark.parametrize(("name", "found"), [("2", "2"), ("b.web", "2"), ("data", "3")])
def test_an_instance_is_named_by_id_full_or_short_name(name: str, found: str) -> None:
    assert instance_named(name, GUESTS)["id"] == found


def test_an_instance_that_is_not_one_is_answered_with_candidates() -> None:
    with pytest.raises(Invalid, match=r"2 instances: give the id of a\.web \(1, pool default\) or b\.web"):
        instance_named("web", GUESTS)
    for typed in ("dat", "b.dta", "dtaa"):
        with pytest.raises(NotFound, match=r"do you mean b\.data \(3, pool edge\)"):
            instance_named(typed, GUESTS)
    with pytest.raises(NotFound, match="see nanoctl instance list"):
        instance_named("zzz", GUESTS)
