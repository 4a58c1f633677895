"""The pages are served packed, with what keeps them to themselves."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from services.portal.pages import POLICY, Pages


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "main-1a2b.js").write_text("let x")
    (tmp_path / "assets" / "main-1a2b.js.gz").write_bytes(b"packed")
    return Pages(tmp_path)


def test_a_folder_without_pages_says_how_to_build_them(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"\./dev pages"):
        Pages(tmp_path)


@pytest.mark.parametrize("path", ["/", "/index.html", "/login"])
def test_the_index_is_asked_for_each_time_and_has_a_policy(pages: Pages, path: str) -> None:
    found = pages.answer(path, "gzip")
    assert found is not None
    assert found.headers["content-security-policy"] == POLICY
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["content-type"] == "text/html; charset=utf-8"


def test_what_has_a_hashed_name_is_kept_for_ever_and_comes_packed(pages: Pages) -> None:
    packed = pages.answer("/assets/main-1a2b.js", "br;q=1, gzip")
    assert packed is not None
    assert (packed.body, packed.headers["content-encoding"]) == (b"packed", "gzip")
    assert "immutable" in packed.headers["cache-control"]
    plain = pages.answer("/assets/main-1a2b.js", "")
    assert plain is not None
    assert (plain.body, plain.headers.get("content-encoding")) == (b"let x", None)


@pytest.mark.parametrize(
    "path", ["/assets/", "/assets/other.js", "/../etc/passwd", "/a/b", "/x.js", "/assets/main-1a2b.js.gz"]
)
def test_what_is_no_page_is_not_there(pages: Pages, path: str) -> None:
    assert pages.answer(path, "") is None


def test_the_policy_knows_no_other_origin() -> None:
    assert "unsafe" not in POLICY
    assert "*" not in POLICY
    assert "http" not in POLICY
