"""`nanoctl pool`: the compute pools, which cells share and instances are created in."""

from typing import Annotated, Any

import typer

from nano.cli import show
from nano.cli.client import Client
from nano.cli.commands import State, connect, report, yes
from nano.cli.names import known_as

pools = typer.Typer(no_args_is_help=True, help="Compute pools: cells that share addresses and policy.")

Pool = Annotated[str, typer.Argument(help="A compute pool, as nanoctl pool list shows it.")]
Network = Annotated[
    str, typer.Option(help="Address pool that its instances lease from; none: the physical network's DHCP.")
]
_PHYSICAL = "by the physical network"


def pool_named(client: Client, name: str) -> str:
    """The name itself; NotFound names candidates."""
    known = [pool["name"] for pool in client.call("GET", "/compute_pools/").data or []]
    return known_as("compute pool", name, known, "nanoctl pool list")


def network_named(client: Client, name: str) -> str:
    """An address pool, or none; NotFound names candidates."""
    if not name:
        return ""
    known = [pool["name"] for pool in client.call("GET", "/address_pools/").data or []]
    return known_as("address pool", name, known, "GET /api/v1/address_pools/")


@pools.command("list")
def pool_list() -> None:
    """All compute pools: their cells, their instances, where addresses come from."""
    with connect() as client:
        found: list[dict[str, Any]] = client.call("GET", "/compute_pools/").data or []
        used = {one["name"]: one for one in client.call("GET", "/compute_pool_status/").data or []}
    found = [{**pool, "status": used.get(pool["name"])} for pool in found]
    if State.json:
        show.document(found)
        return
    show.table(
        "compute pools",
        ("NAME", "ENABLED", "CELLS", "ONLINE", "INSTANCES", "ADDRESSES"),
        (
            (
                pool["name"],
                yes(pool["enabled"]),
                pool["cells"],
                pool["status"]["cells"][1] if pool["status"] else "-",
                sum(pool["status"]["instances"]) if pool["status"] else "-",
                pool["network"] or _PHYSICAL,
            )
            for pool in found
        ),
    )


@pools.command("create")
def pool_create(name: Annotated[str, typer.Argument(help="Of the new pool.")], network: Network = "") -> None:
    """Create a compute pool; put cells into it with nanoctl cell enter."""
    with connect() as client:
        wanted = network_named(client, network)
        client.call("POST", f"/compute_pools/{name}", body={"network": wanted})
    report({"id": name, "network": wanted}, f"{name}: created, addresses {_from(wanted)}")


@pools.command("change")
def pool_change(
    name: Pool,
    network: Annotated[str, typer.Option(help="Address pool; - for the physical network's DHCP.")],
) -> None:
    """Give a pool another address pool, while none of its instances holds an address of the old one."""
    with connect() as client:
        found = pool_named(client, name)
        wanted = network_named(client, "" if network == "-" else network)
        client.call("PUT", f"/compute_pools/{found}", body={"network": wanted})
    report({"id": found, "network": wanted}, f"{found}: addresses {_from(wanted)}")


@pools.command("delete")
def pool_delete(name: Pool) -> None:
    """Delete a compute pool that has no cells."""
    with connect() as client:
        found = pool_named(client, name)
        client.call("DELETE", f"/compute_pools/{found}")
    report({"id": found}, f"{found}: gone")


def _from(network: str) -> str:
    return f"from {network}" if network else _PHYSICAL
