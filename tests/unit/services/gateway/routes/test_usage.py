"""What the zone, its pools and its cells have and use."""

from pathlib import Path

from nano.model.pool import Usage
from tests.support.zone import CELL, zone


def usage(at_ms: int, read: int, sent: int) -> Usage:
    return Usage(CELL, at_ms, 25.75, 3 << 30, 8 << 30, 10 << 30, 100 << 30, read, 0, 0, sent)


MEASURED = {
    "cpu_usage": 25.75,
    "max_cpu": 8,
    "available_memory": 5 << 30,
    "max_memory": 8 << 30,
    "available_disk": 90 << 30,
    "max_disk": 100 << 30,
    "read_speed": 500,
    "write_speed": 0,
    "receive_speed": 0,
    "send_speed": 7,
}


async def test_usage_is_summed_over_what_was_measured(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest("a")
        await z.guest("b")
        await z.data("POST", f"/instances/{guest}", {})
        z.gateway.view.sample([usage(1000, 0, 0)])
        z.gateway.view.sample([usage(3000, 1000, 14)])
        whole = await z.data("GET", "/compute_zone_status/")
        assert whole.pop("start_time")
        assert whole == {
            **MEASURED,
            "name": "default",
            "pools": [0, 1],
            "cells": [0, 1],
            "instances": [1, 1, 0, 0],
        }
        pool = {**MEASURED, "name": "default", "enabled": True, "cells": [0, 1], "instances": [1, 1, 0, 0]}
        assert await z.data("GET", "/compute_pool_status/default") == pool
        assert await z.data("GET", "/compute_pool_status/") == [{**pool, "cpu_usage": 25}]
        cell = {
            **MEASURED,
            "name": CELL,
            "address": "10.9.8.7",
            "enabled": True,
            "alive": True,
            "instances": [1, 1, 0, 0],
        }
        assert await z.data("GET", f"/compute_cell_status/default/{CELL}") == cell
        assert await z.data("GET", "/compute_cell_status/default") == [{**cell, "cpu_usage": 25}]


async def test_what_was_never_measured_is_zero_and_not_guessed(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        found = await z.data("GET", "/compute_pool_status/default")
        assert found["max_cpu"] == 8  # the cell itself has said so
        assert [found[name] for name in ("cpu_usage", "max_memory", "read_speed")] == [0, 0, 0]
        assert (await z.error("GET", "/compute_pool_status/none"))[0] == 404
        assert (await z.error("GET", "/compute_cell_status/default/none"))[0] == 404
