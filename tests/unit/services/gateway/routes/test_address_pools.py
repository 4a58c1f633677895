"""Address pools and their ranges, by the documented routes."""

from pathlib import Path

from tests.support.zone import Zone, zone

POOL = {"gateway": "10.0.0.1", "dns": ["10.0.0.2", "8.8.8.8"], "provider": "dhcp"}
RANGE = {"end": "10.0.0.19", "netmask": "255.255.255.0"}


async def made(z: Zone) -> None:
    await z.data("POST", "/address_pools/lan", POOL)
    await z.data("POST", "/address_pools/lan/internal/ranges/10.0.0.10", RANGE)


async def test_a_pool_is_created_read_changed_and_deleted(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        assert await z.data("GET", "/address_pools/") == []
        assert await z.data("POST", "/address_pools/lan", POOL | {"mode": "internal"}) == ""
        assert await z.data("GET", "/address_pools/") == [
            {**POOL, "name": "lan", "addresses": 0, "allocated": 0}
        ]
        assert (
            await z.data("PUT", "/address_pools/lan", {"gateway": "10.0.0.9", "provider": "cloudinit"}) == ""
        )
        assert await z.data("GET", "/address_pools/lan") == {
            "name": "lan",
            "gateway": "10.0.0.9",
            "provider": "cloudinit",
        }
        assert await z.data("DELETE", "/address_pools/lan") == ""
        assert (await z.error("GET", "/address_pools/lan"))[0] == 404


async def test_ranges_are_added_read_and_removed(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await made(z)
        plain = {"start": "10.0.0.10", **RANGE}
        assert await z.data("GET", "/address_pools/lan/internal/ranges/") == [plain]
        one = await z.data("GET", "/address_pools/lan/internal/ranges/10.0.0.10")
        assert one == {**plain, "capacity": 10}
        assert (await z.data("GET", "/address_pools/lan"))["ranges"] == [{**plain, "capacity": 10}]
        assert await z.data("DELETE", "/address_pools/lan/internal/ranges/10.0.0.10") == ""
        assert await z.data("GET", "/address_pools/lan/internal/ranges/") == []


async def test_who_holds_an_address_is_shown_and_keeps_its_range(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await made(z)
        await z.data("PUT", "/compute_pools/default", {"network": "lan"})
        guest = await z.guest()
        held = (await z.data("GET", f"/guests/{guest}"))["internal"]["allocated_address"]
        address = held.removesuffix("/24")
        allocated = [{"address": address, "instance": guest}]
        assert (await z.data("GET", "/address_pools/lan"))["allocated"] == allocated
        one = await z.data("GET", "/address_pools/lan/internal/ranges/10.0.0.10")
        assert one["allocated"] == allocated
        assert (await z.data("GET", "/address_pools/"))[0]["allocated"] == 1
        assert (await z.error("DELETE", "/address_pools/lan/internal/ranges/10.0.0.10"))[0] == 409
        number, text = await z.error("DELETE", "/address_pools/lan")
        assert number == 409
        assert "default" in text


REFUSED: list[tuple[str, str, object, int, str]] = [
    ("POST", "lan", POOL, 409, "lan"),
    ("POST", "new", {"gateway": "x", "provider": "dhcp"}, 400, "gateway"),
    ("POST", "new", {"gateway": "10.0.0.1"}, 400, "provider"),
    ("POST", "new", POOL | {"provider": "static"}, 400, "provider"),
    ("POST", "new", POOL | {"dns": ["10.0.0.1", "x"]}, 400, "dns[1]"),
    ("POST", "new", POOL | {"mode": "none"}, 400, "mode"),
    ("PUT", "none", POOL, 404, "none"),
    ("DELETE", "none", None, 404, "none"),
    ("GET", "lan/external/ranges/", None, 501, "external"),
    ("GET", "lan/internal/ranges/10.0.0.11", None, 404, "10.0.0.11"),
    ("GET", "lan/internal/ranges/x", None, 400, "start"),
    ("POST", "lan/internal/ranges/10.0.0.15", RANGE, 409, "10.0.0.1"),
    ("POST", "lan/internal/ranges/10.0.0.30", RANGE, 400, "end"),
    ("POST", "lan/internal/ranges/10.0.0.30", {"end": "10.0.0.31"}, 400, "netmask"),
    ("DELETE", "lan/internal/ranges/10.0.0.11", None, 404, "10.0.0.11"),
]
"""Method, path, body; the number and a word of the refusal."""


async def test_what_cannot_be_is_refused_by_its_member(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await made(z)
        for method, path, body, number, word in REFUSED:
            found = await z.error(method, f"/address_pools/{path}", body)
            assert (found[0], word in found[1]) == (number, True), (method, path, found)
