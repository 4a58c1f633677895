"""The table of routes: what the document has, and what each row says of itself."""

from services.portal.app import ROUTES

OWN = """
GET /monitor_channels/{id}
POST /monitor_channels/
GET /roles/
GET /roles/{role}
POST /roles/{role}
PUT /roles/{role}
DELETE /roles/{role}
GET /user_groups/
GET /user_groups/{group}
POST /user_groups/{group}
PUT /user_groups/{group}
DELETE /user_groups/{group}
GET /user_groups/{group}/members/
POST /user_groups/{group}/members/{user}
DELETE /user_groups/{group}/members/{user}
GET /users/
GET /users/{user}
POST /users/{user}
PUT /users/{user}
DELETE /users/{user}
PUT /users/{user}/password/
GET /user_search/*
GET /sessions/
POST /sessions/
PUT /sessions/{session}
GET /logs/
POST /logs/
DELETE /logs/
GET /resource_visibilities/
PUT /resource_visibilities/
GET /system/
POST /system/
"""
"""REST document, `rest-surface.yaml`: what FrontEnd answers itself."""


def test_every_documented_route_that_is_the_portals_own_is_there() -> None:
    rows = {f"{route.method} {route.path}" for route in ROUTES}
    assert set(OWN.split("\n")) - {""} - rows == set()
    assert len(OWN.strip().splitlines()) == 32


def test_no_two_rows_are_the_same() -> None:
    rows = [(route.method, route.path) for route in ROUTES]
    assert len(rows) == len(set(rows))


def test_what_changes_something_is_in_the_operation_log() -> None:
    """But for what a session does with itself, a search, and what the handler logs in its own words."""
    silent = {(route.method, route.path) for route in ROUTES if route.method != "GET" and route.said is None}
    assert silent == {
        ("POST", "/system/"),
        ("POST", "/sessions/"),
        ("PUT", "/sessions/{session}"),
        ("DELETE", "/sessions/{session}"),
        ("PUT", "/session/"),
        ("DELETE", "/session/"),
        ("POST", "/logs/"),
        ("POST", "/search/guests/"),
    }


def test_what_is_open_needs_no_menu() -> None:
    assert [route for route in ROUTES if route.is_open and route.menus] == []
