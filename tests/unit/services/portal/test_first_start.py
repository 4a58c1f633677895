"""The code that the first user must know."""

from pathlib import Path

import pytest

from nano.model.errors import Forbidden
from services.portal.first_start import FILE, FirstStart


def test_a_code_is_for_its_owner_only_and_stays_over_restarts(tmp_path: Path) -> None:
    FirstStart(tmp_path).prepare()
    file = tmp_path / FILE
    code = file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    FirstStart(tmp_path).prepare()
    assert file.read_text() == code


def test_it_is_taken_however_it_is_typed_and_nothing_else_is(tmp_path: Path) -> None:
    first = FirstStart(tmp_path)
    first.prepare()
    code = (tmp_path / FILE).read_text().strip()
    first.check(code)
    first.check(f" {code.lower().replace('-', ' ')} ")
    for wrong in ("", code[:-1], code + "2", "AAAA-AAAA", "é"):
        with pytest.raises(Forbidden) as refused:
            first.check(wrong)
        assert refused.value.field == "code"
        assert code not in refused.value.message


def test_it_goes_when_it_has_served(tmp_path: Path) -> None:
    first = FirstStart(tmp_path)
    first.prepare()
    first.done()
    first.done()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", [None, "", " - \n"])
def test_without_a_code_nobody_comes_in(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    for code in ("", "-", "ABCD-EFGH"):
        with pytest.raises(Forbidden, match="holds no code"):
            FirstStart(tmp_path).check(code)
    FirstStart(tmp_path).prepare()
    assert len((tmp_path / FILE).read_text()) == 10
