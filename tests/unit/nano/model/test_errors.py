"""Errors are facts with fields, and survive every border."""

import pickle

import pytest

from nano.model.errors import BY_CODE, Busy, Conflict, Invalid, NanoError, from_code


def test_every_kind_has_a_code_of_its_own() -> None:
    kinds = set()

    def collect(kind: type[NanoError]) -> None:
        kinds.add(kind)
        for child in kind.__subclasses__():
            if child.__module__ == NanoError.__module__:
                collect(child)

    collect(NanoError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert kinds <= set(BY_CODE.values())


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_comes_back_from_its_code_with_all_its_fields(code: str) -> None:
    made = from_code(code, "what happened", field="cores", subject="vm", retry_after_s=2.5)
    assert type(made) is BY_CODE[code]
    assert (made.message, made.field, made.subject, made.retry_after_s) == (
        "what happened",
        "cores",
        "vm",
        2.5,
    )
    copied = pickle.loads(pickle.dumps(made))
    assert (type(copied), vars(copied)) == (type(made), vars(made))


def test_an_unknown_code_is_a_plain_error_and_not_a_crash() -> None:
    assert type(from_code("of a newer version", "what happened")) is NanoError


def test_a_busy_thing_is_a_conflict_and_an_invalid_one_names_its_field() -> None:
    assert issubclass(Busy, Conflict)
    assert Invalid("cores", "cores 3 is not allowed").field == "cores"
