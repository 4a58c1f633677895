"""Which cell is in which pool, by the documented routes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nano.model.pool import Cell
from services.gateway.routes.compute_pool_cells import host_of
from tests.support.zone import CELL, GIB, Zone, zone

SHOWN = {
    "name": CELL,
    "address": "10.9.8.7",
    "enabled": True,
    "alive": True,
    "confirmed": True,
    "simulated": True,
    "state": "online",
    "instances": 0,
    "cores": 8,
    "memory": 32 * GIB,
    "instance_cores": 0,
    "instance_memory": 0,
}


async def shown(z: Zone, path: str) -> Any:
    """As it is answered, but for the time."""
    found = await z.data("GET", path)
    for one in found if isinstance(found, list) else [found]:
        assert one.pop("seen_ms") > 1_700_000_000_000
    return found


async def test_a_cell_leaves_its_pool_and_enters_it_again(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        assert await shown(z, "/compute_pool_cells/default") == [SHOWN]
        assert await shown(z, f"/compute_pool_cells/default/{CELL}") == SHOWN
        assert await z.data("GET", "/compute_pool_cells/") == []
        assert await z.data("DELETE", f"/compute_pool_cells/default/{CELL}") == ""
        assert await z.data("GET", "/compute_pool_cells/default") == []
        assert await shown(z, "/compute_pool_cells/") == [SHOWN]
        assert await z.data("POST", f"/compute_pool_cells/default/{CELL}") == ""
        assert (await z.error("POST", f"/compute_pool_cells/default/{CELL}"))[0] == 409


async def test_a_cell_is_disabled_and_enabled(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        path = f"/compute_pool_cells/default/{CELL}"
        assert await z.data("PUT", path, {"enable": False}) == ""
        assert (await z.data("GET", path))["enabled"] is False
        assert (await z.error("PUT", path, {}))[0] == 409  # a missing member disables, and it is already
        assert await z.data("PUT", path, {"enable": True}) == ""


async def test_a_cell_that_holds_guests_stays(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await z.guest(cores=2)
        (found,) = await shown(z, "/compute_pool_cells/default")
        assert (found["instances"], found["instance_cores"]) == (1, 2)
        assert found["instance_memory"] == 256 << 20
        assert (await z.error("DELETE", f"/compute_pool_cells/default/{CELL}"))[0] == 409
        assert (await z.error("GET", "/compute_pool_cells/default/none"))[0] == 404
        assert (await z.error("GET", "/compute_pool_cells/none"))[0] == 404


def test_the_address_of_a_host_is_shown_without_a_port() -> None:
    cell = Cell(CELL, None)
    for address, host in (
        ("10.0.0.1:5604", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1", "fe80::1"),
        ("", ""),
    ):
        assert host_of(replace(cell, address=address)) == host
