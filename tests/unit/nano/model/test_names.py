"""Which names are allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model import names
from nano.model.errors import Invalid


@pytest.mark.parametrize("name", ["a", "Web-01", "under_score", "x" * 64])
def test_plain_names_pass_as_they_are(name: str) -> None:
    assert names.plain("name", name) == name


@pytest.mark.parametrize("name", ["", "two words", "a.b", "ö", "x" * 65, "a/b", "a\n"])
def test_other_names_are_refused_by_their_field(name: str) -> None:
    with pytest.raises(Invalid, match="A-Z a-z 0-9") as refused:
        names.plain("owner", name)
    assert refused.value.field == "owner"


def test_dots_are_for_images_and_any_text_of_one_line_for_media() -> None:
    assert names.dotted("name", "debian-12.qcow2") == "debian-12.qcow2"
    assert names.free("name", "Debian 12 (云)") == "Debian 12 (云)"
    with pytest.raises(Invalid):
        names.free("name", "two\nlines")


@given(st.text())
def test_a_plain_name_can_stand_in_a_path_and_a_header(text: str) -> None:
    try:
        passed = names.plain("name", text)
    except Invalid:
        return
    assert passed.isascii()
    assert not set(passed) & set("/.\r\n\0 ")
