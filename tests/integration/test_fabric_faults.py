"""Real fabrics with a bad network between them, by a seed; the long outages are in tests/simulation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nano.fabric.calls.codec import MessageCodec
from nano.fabric.fabric import Fabric
from nano.model.errors import NanoError
from nano.model.peers import Role
from tests.support.address_calls import Follower, Pool, Tenant, check
from tests.support.bodies import Bodies
from tests.support.fabrics import Lab
from tests.support.udp_faults import Faults, Proxy
from tests.support.udp_faults import Path as NetworkPath

LEASES = 60
BODY = bytes(range(256)) * 4096
"""One MiB."""

GAPS = (range(20, 27), range(70, 78), range(120, 127))
NETWORKS: dict[str, Faults] = {
    "lossy": Faults(loss=0.05),
    "reordering": Faults(reordering=0.3, reordering_s=0.003, delay_s=0.001),
    "doubling": Faults(duplication=0.5, reordering_s=0.002),
    "all, with outages": Faults(
        loss=0.03, duplication=0.1, reordering=0.1, reordering_s=0.003, delay_s=0.002, gaps=GAPS
    ),
}


@contextlib.asynccontextmanager
async def _through(
    lab: Lab, server: Fabric, role: Role, faults: Faults, seed: int
) -> AsyncIterator[tuple[Fabric, NetworkPath]]:
    """A client whose way to `server` has faults."""
    path = NetworkPath(seed, faults)
    with Proxy.to(server.address, path) as proxy:
        key = next(name for name, at in lab.addresses.items() if at.endswith(f":{server.address[1]}"))
        lab.addresses[key] = proxy.address
        async with lab.join(role, "main") as client:
            yield client, path


@pytest.mark.parametrize("network_is", NETWORKS)
async def test_calls_act_once_and_a_watch_has_no_gap(tmp_path: Path, network_is: str) -> None:
    lab = Lab(tmp_path, MessageCodec())
    async with (
        asyncio.timeout(60),
        Pool.open() as pool,
        lab.join(Role.ADDRESSPOOL, "main") as server,
        _through(lab, server, Role.SCHEDULER, NETWORKS[network_is], seed=11) as (scheduler, path),
        asyncio.TaskGroup() as jobs,
    ):
        pool.serve(server)
        tenant, follower = Tenant(scheduler), Follower(scheduler)
        following = jobs.create_task(follower.follow())
        for number in range(LEASES):
            await tenant.lease(number)
        await follower.until(pool.shelf.revision)
        following.cancel()
        check(pool, tenant, follower, LEASES)
        assert path.passed > LEASES


@pytest.mark.parametrize("network_is", NETWORKS)
async def test_a_body_goes_on_where_it_broke_off(tmp_path: Path, network_is: str) -> None:
    lab = Lab(tmp_path)
    bodies = Bodies(BODY, answer_pieces=6)
    async with (
        asyncio.timeout(60),
        lab.join(Role.IMAGESTORE, "main") as store,
        _through(lab, store, Role.CELL, NETWORKS[network_is], seed=12) as (cell, _),
    ):
        store.serve_bulk(bodies, {("GET", "/"): frozenset(Role)})
        got = bytearray()
        while len(got) < len(BODY):
            with contextlib.suppress(NanoError):
                async for part in cell.bulk(Role.IMAGESTORE).get("/image", len(got)):
                    got += part
        assert bytes(got) == BODY
        assert len(bodies.offsets) >= 3
        assert bodies.offsets == sorted(bodies.offsets), "nothing is begun anew"


async def test_twenty_clients_behind_one_bad_network_all_get_their_answers(tmp_path: Path) -> None:
    lab = Lab(tmp_path, MessageCodec())
    async with (
        asyncio.timeout(60),
        Pool.open() as pool,
        lab.join(Role.ADDRESSPOOL, "main") as server,
        contextlib.AsyncExitStack() as up,
    ):
        proxy = up.enter_context(Proxy.to(server.address, NetworkPath(3, NETWORKS["all, with outages"])))
        pool.serve(server)
        lab.addresses["addresspool/main"] = proxy.address
        peers: dict[str, Any] = {"peers": {"addresspool/main": proxy.address}}
        clients = [
            await up.enter_async_context(lab.join(Role.SCHEDULER, f"s{number}", **peers))
            for number in range(20)
        ]
        tenants = [Tenant(client) for client in clients]
        await asyncio.gather(*(tenant.lease(number) for number, tenant in enumerate(tenants)))
        assert pool.acted == {f"i-{number}": 1 for number in range(20)}
        assert len(server.links) == 20
