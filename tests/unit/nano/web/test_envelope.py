"""Answers as the documented server writes them, and as RFC 9457 wants them for those who ask."""

import json

import pytest

from nano.model import errors
from nano.web import envelope


def test_a_result_is_written_as_documented() -> None:
    answer = envelope.success({"name": "云 <a&b>", "tags": [], "size": 3})
    assert answer.body.decode() == (
        '{\n  "error_code": 0,\n  "message": "",\n  "data": {\n    "name": "云 \\u003ca\\u0026b\\u003e",\n'
        '    "tags": [],\n    "size": 3\n  }\n}\n'
    )
    assert (answer.status, answer.media_type) == (200, "text/plain; charset=utf-8")


def test_an_operation_without_result_answers_an_empty_text() -> None:
    assert json.loads(envelope.success().body) == {"error_code": 0, "message": "", "data": ""}


def test_line_separators_are_escaped_and_read_back() -> None:
    body = envelope.success("a\u2028b\u2029").body
    assert b"\\u2028" in body
    assert json.loads(body)["data"] == "a\u2028b\u2029"


def test_an_old_client_gets_status_200_and_the_fitting_number() -> None:
    answer = envelope.failure(errors.Invalid("cores", "cores is 3: give 1 or an even number"), accept="*/*")
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "error_code": 400,
        "message": "cores is 3: give 1 or an even number",
        "data": {},
    }


@pytest.mark.parametrize("accept", ["application/problem+json", "text/html, Application/Problem+JSON;q=0.9"])
def test_a_client_that_asks_for_problems_gets_them(accept: str) -> None:
    answer = envelope.failure(errors.Invalid("cores", "cores is 3", subject="vm"), accept=accept)
    assert (answer.status, answer.media_type) == (400, "application/problem+json")
    assert json.loads(answer.body) == {
        "type": "urn:nano:error:invalid",
        "title": "invalid",
        "status": 400,
        "detail": "cores is 3",
        "code": "invalid",
        "field": "cores",
        "subject": "vm",
    }


def test_an_error_that_passes_says_when_to_try_again() -> None:
    answer = envelope.failure(errors.Unreachable("the scheduler is not there", retry_after_s=0.2))
    assert answer.headers == {"Retry-After": "1"}


@pytest.mark.parametrize("kind", errors.BY_CODE.values(), ids=lambda kind: kind.code)
def test_each_kind_of_error_has_a_number_of_its_own_family(kind: type[errors.NanoError]) -> None:
    number = envelope.status_of(errors.from_code(kind.code, "what happened", field="field"))
    assert 400 <= number <= 599
    assert (number == 500) == (kind in {errors.NanoError, errors.Internal})


def test_a_child_is_not_taken_for_its_parent() -> None:
    assert envelope.status_of(errors.Untrusted("")) == 401
    assert envelope.status_of(errors.Forbidden("")) == 403
    assert envelope.status_of(errors.NoRoom("")) == 409
    assert envelope.status_of(errors.Exhausted("")) == 429
