"""Lists of guests: who sees which, in what order, in which pages."""

from pathlib import Path
from typing import Any

from tests.support.zone import CELL, Zone, zone


async def made(z: Zone) -> dict[str, str]:
    """Guests by name: a and b are admin's, c belongs to somebody else."""
    ids = {name: await z.guest(name) for name in "ba"}
    ids["c"] = await z.guest("c", owner="else", group="others")
    await z.data("POST", f"/instances/{ids['b']}", {})
    return ids


def names(guests: list[dict[str, Any]]) -> list[str]:
    return [guest["name"] for guest in guests]


async def test_the_paged_search_finds_what_its_owner_or_group_may_see(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await made(z)
        found = await z.data("POST", "/search/guests/", {"owner": "admin"})
        assert names(found["result"]) == ["admin.a", "admin.b"]
        assert (found["total"], found["limit"], found["offset"]) == (2, 20, 0)
        assert found["result"][0]["host"] == "10.9.8.7"
        both = await z.data("POST", "/search/guests/", {"owner": "admin", "group": "others"})
        assert names(both["result"]) == ["admin.a", "admin.b", "others.c"]
        page = await z.data("POST", "/search/guests/", {"owner": "admin", "limit": 1, "offset": 1})
        assert (names(page["result"]), page["total"]) == (["admin.b"], 2)


async def test_the_paged_search_narrows(tmp_path: Path) -> None:
    expected: list[tuple[dict[str, str], list[str]]] = [
        ({"keyword": "n.b"}, ["admin.b"]),
        ({"keyword": "N.B"}, []),
        ({"keyword": "10.9.8"}, ["admin.a", "admin.b"]),
        ({"cell": CELL, "pool": "none"}, ["admin.a", "admin.b"]),
        ({"cell": "none"}, []),
        ({"pool": "none"}, []),
        ({"pool": "default"}, ["admin.a", "admin.b"]),
    ]
    async with zone(tmp_path) as z:
        await made(z)
        for more, visible in expected:
            found = await z.data("POST", "/search/guests/", {"owner": "admin", **more})
            assert (names(found["result"]), found["total"]) == (visible, len(visible)), more


async def test_an_offset_behind_the_end_is_refused_unless_nothing_was_found(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await z.guest()
        assert (await z.error("POST", "/search/guests/", {"owner": "admin", "offset": 1}))[0] == 400
        assert (await z.data("POST", "/search/guests/", {"owner": "nobody", "offset": 5}))["result"] == []
        assert "owner" in (await z.error("POST", "/search/guests/", {}))[1]


async def test_the_old_search_narrows(tmp_path: Path) -> None:
    expected = [
        ("pool=default&owner=admin", ["admin.a", "admin.b"]),
        ("pool=default&group=others", ["others.c"]),
        ("pool=default&owner=admin&group=others", ["admin.a", "admin.b", "others.c"]),
        ("pool=default", []),
        ("pool=default&owner=admin&status=1", ["admin.b"]),
        ("pool=default&owner=admin&status=0", ["admin.a"]),
        ("pool=default&owner=admin&cell=none", []),
        ("pool=default&owner=admin&created=T", ["admin.a", "admin.b"]),
        ("pool=default&owner=admin&created=0", []),
        ("pool=default&owner=ad%6Din", ["admin.a", "admin.b"]),
    ]
    async with zone(tmp_path) as z:
        await made(z)
        for query, visible in expected:
            assert names(await z.data("GET", f"/guest_search/?{query}")) == visible, query


async def test_the_old_search_refuses_by_parameter(tmp_path: Path) -> None:
    expected = [
        ("owner=admin", 400, "pool"),
        ("pool=none&owner=admin", 404, "pool"),
        ("pool=default&status=2", 400, "status"),
        ("pool=default&created=yes", 400, "created"),
    ]
    async with zone(tmp_path) as z:
        for query, number, word in expected:
            found = await z.error("GET", f"/guest_search/?{query}")
            assert (found[0], word in found[1]) == (number, True), found


async def test_guests_are_listed_by_pool_and_by_cell(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await made(z)
        everyone = ["admin.a", "admin.b", "others.c"]
        assert names(await z.data("GET", "/instance_status/default")) == everyone
        assert names(await z.data("GET", f"/instance_status/default/{CELL}")) == everyone
        assert (await z.error("GET", "/instance_status/none"))[0] == 404
        assert (await z.error("GET", "/instance_status/default/none"))[0] == 404
