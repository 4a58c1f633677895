"""Errors of the model to statuses and back."""

import pytest
from grpclib.const import Status
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.calls.status import detail_of, error_of, http_status_of, message_of, status_of
from nano.model.errors import BY_CODE, Busy, Conflict, NanoError, NoRoom, NotFound, from_code


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_each_kind_of_error_comes_back_as_itself(code: str) -> None:
    error = from_code(code, "what happened", field="cores", subject="i-7", retry_after_s=1.5)
    again = error_of(status_of(error), message_of(error), detail_of(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.OK])
def test_a_status_without_a_detail_gives_an_error_of_the_same_status(status: Status) -> None:
    error = error_of(status, None, None)
    assert isinstance(error, NanoError)
    assert status_of(error) is status
    assert error.message


def test_a_kind_without_a_row_has_the_status_of_the_one_above_it() -> None:
    assert status_of(NoRoom("full")) is Status.RESOURCE_EXHAUSTED
    assert status_of(Conflict("no")) is Status.FAILED_PRECONDITION
    assert status_of(Busy("held")) is Status.ABORTED


@given(st.binary(max_size=200))
def test_a_detail_that_cannot_be_read_counts_as_none(garbage: bytes) -> None:
    error = error_of(Status.NOT_FOUND, "gone", garbage)
    assert isinstance(error, NanoError)
    assert error.message == "gone"


def test_a_code_of_a_newer_version_is_still_an_error() -> None:
    error = error_of(Status.NOT_FOUND, "gone", b'{"code": "not_invented_yet", "subject": "x"}')
    assert type(error) is NanoError
    assert error.subject == "x"


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_each_kind_has_an_unsuccessful_http_status(code: str) -> None:
    assert 400 <= http_status_of(from_code(code, "x")) < 600


def test_a_long_message_is_cut_to_what_a_header_may_hold() -> None:
    assert len(message_of(NotFound("x" * 100_000))) == 2_000
