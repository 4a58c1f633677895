"""Compute pools by the documented routes."""

from pathlib import Path

from tests.support.zone import zone

DEFAULT = {"name": "default", "enabled": True, "cells": 1, "network": "", "storage": "", "failover": False}


async def test_a_pool_is_created_read_changed_and_deleted(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        assert await z.data("GET", "/compute_pools/") == [DEFAULT]
        assert await z.data("POST", "/compute_pools/a") == ""  # an entirely empty body is accepted
        assert [pool["name"] for pool in await z.data("GET", "/compute_pools/")] == ["a", "default"]
        await z.data("POST", "/address_pools/lan", {"gateway": "10.0.0.1", "provider": "dhcp"})
        assert await z.data("PUT", "/compute_pools/default", {"network": "lan"}) == ""
        assert await z.data("GET", "/compute_pools/default") == DEFAULT | {"network": "lan"}
        assert await z.data("PUT", "/compute_pools/default", {}) == ""  # a full replacement
        assert await z.data("GET", "/compute_pools/default") == DEFAULT
        assert await z.data("DELETE", "/compute_pools/a") == ""
        assert (await z.error("GET", "/compute_pools/a"))[0] == 404


REFUSED: list[tuple[str, str, object, int, str]] = [
    ("POST", "default", {}, 409, "default"),
    ("POST", "a b", {}, 400, "name"),
    ("POST", "new", {"storage": "nfs"}, 501, "storage"),
    ("POST", "new", {"failover": True}, 400, "failover"),
    ("POST", "new", {"network": "nowhere"}, 404, "nowhere"),
    ("PUT", "default", {"network": "nowhere"}, 404, "nowhere"),
    ("PUT", "none", {}, 404, "none"),
    ("PUT", "default", {}, 409, "already"),
    ("PUT", "default", None, 400, "body"),
    ("DELETE", "default", None, 409, "cells"),
    ("DELETE", "none", None, 404, "none"),
    ("GET", "none", None, 404, "none"),
]
"""Method, name, body; the number and a word of the refusal."""


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        for method, name, body, number, word in REFUSED:
            found = await z.error(method, f"/compute_pools/{name.replace(' ', '%20')}", body)
            assert (found[0], word in found[1]) == (number, True), (method, name, found)


async def test_a_pool_keeps_its_network_while_an_instance_holds_an_address_of_it(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await z.data("POST", "/address_pools/lan", {"gateway": "10.0.0.1", "provider": "dhcp"})
        span = {"end": "10.0.0.9", "netmask": "255.255.255.0"}
        await z.data("POST", "/address_pools/lan/internal/ranges/10.0.0.5", span)
        await z.data("PUT", "/compute_pools/default", {"network": "lan"})
        guest = await z.guest()
        number, text = await z.error("PUT", "/compute_pools/default", {})
        assert (number, guest in text) == (409, True), text
        await z.data("DELETE", f"/guests/{guest}", {})
        assert await z.data("PUT", "/compute_pools/default", {}) == ""
