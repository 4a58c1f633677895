"""Paths are served, redirected or refused as the documented router does it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.web.paths import Found, Missing, NotAllowed, Options, Redirect, Routes

API = "/api/v1"
ROUTES = Routes(
    [
        ("GET", f"{API}/compute_pools/", "pools"),
        ("GET", f"{API}/compute_pools/{{pool}}", "pool"),
        ("DELETE", f"{API}/compute_pools/{{pool}}", "delete pool"),
        ("GET", f"{API}/guest_search/*", "search"),
        ("POST", f"{API}/guests/", "create"),
        ("POST", f"{API}/media_images/{{id}}/file/", "upload"),
        ("GET", f"{API}/address_pools/{{pool}}/{{type}}/ranges/{{start}}", "range"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "params"),
    [
        ("GET", "/compute_pools/", "pools", {}),
        ("GET", "/compute_pools/a b+c", "pool", {"pool": "a b+c"}),
        ("DELETE", "/compute_pools/x", "delete pool", {"pool": "x"}),
        ("GET", "/guest_search/", "search", {}),
        ("GET", "/guest_search/any/thing", "search", {}),
        ("POST", "/media_images/7/file/", "upload", {"id": "7"}),
        (
            "GET",
            "/address_pools/p/internal/ranges/10.0.0.1",
            "range",
            {"pool": "p", "type": "internal", "start": "10.0.0.1"},
        ),
    ],
)
def test_a_path_is_served_as_it_is_written(
    method: str, path: str, route: str, params: dict[str, str]
) -> None:
    assert ROUTES.judge(method, API + path) == Found(route, params)


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", f"{API}/compute_pools", 301, f"{API}/compute_pools/"),
        ("GET", f"{API}/compute_pools/x/", 301, f"{API}/compute_pools/x"),
        ("DELETE", f"{API}/compute_pools/x/", 307, f"{API}/compute_pools/x"),
        ("POST", f"{API}/guests", 307, f"{API}/guests/"),
        ("GET", "/API/v1/Compute_Pools/MiXed", 301, f"{API}/compute_pools/MiXed"),
        ("GET", "/api//v1/./compute_pools/../compute_pools", 301, f"{API}/compute_pools/"),
        ("GET", f"{API}/compute_pools/云 +/", 301, f"{API}/compute_pools/%E4%BA%91%20%2B"),
        ("GET", f"{API}/guest_search", 301, f"{API}/guest_search/"),
    ],
)
def test_another_spelling_is_redirected(method: str, path: str, status: int, location: str) -> None:
    assert ROUTES.judge(method, path) == Redirect(status, location)


def test_a_redirect_keeps_the_query() -> None:
    assert ROUTES.judge("GET", f"{API}/compute_pools", "a=%20&b") == Redirect(
        301, f"{API}/compute_pools/?a=%20&b"
    )


@pytest.mark.parametrize(
    "path", ["/", "", "/api/v1", f"{API}//nothing", f"{API}/guests/1/2", "//evil.example/"]
)
def test_an_unknown_path_is_missing(path: str) -> None:
    assert ROUTES.judge("GET", path) == Missing()


def test_a_known_path_with_another_method_names_those_it_takes() -> None:
    assert ROUTES.judge("PUT", f"{API}/compute_pools/x") == NotAllowed("DELETE, GET, OPTIONS")
    assert ROUTES.judge("HEAD", f"{API}/compute_pools/") == NotAllowed("GET, OPTIONS")


def test_options_names_the_methods_of_a_known_path() -> None:
    assert ROUTES.judge("OPTIONS", f"{API}/compute_pools/x") == Options("DELETE, GET, OPTIONS")
    assert ROUTES.judge("OPTIONS", f"{API}/nothing") == Missing()


def test_fixed_words_win_over_names() -> None:
    routes = Routes([("GET", "/a/{id}", "any"), ("GET", "/a/mine", "mine")])
    assert routes.judge("GET", "/a/mine") == Found("mine", {})
    assert routes.judge("GET", "/a/other") == Found("any", {"id": "other"})


@given(
    st.sampled_from(["GET", "POST", "OPTIONS", "BREW"]),
    st.lists(st.sampled_from(["", ".", "..", "api", "v1", "GUESTS", "compute_pools", "é", "x"])).map("/".join)
    | st.text(),
)
def test_a_redirect_always_leads_to_a_route_of_ours(method: str, path: str) -> None:
    judged = ROUTES.judge(method, path)
    if isinstance(judged, Redirect):
        assert judged.location.startswith(f"{API}/")
        assert judged.location.isascii()
