"""`nanoctl cell list`, `enter`, `leave`, `enable`, `disable`: where the servers work that were let in."""

from typing import Annotated, Any

import typer

from nano.cli import show
from nano.cli.client import Client
from nano.cli.commands import State, connect, report
from nano.cli.names import known_as
from nano.cli.pools import Pool, pool_named
from nano.model.errors import Conflict, Invalid

cells = typer.Typer(no_args_is_help=True, help="The servers that host instances, and those that want to.")

STATES = ("online", "unconfirmed", "lost", "left", "removed", "new")
"""New: let in, and not heard yet."""

Cell = Annotated[str, typer.Argument(help="As nanoctl cell list shows it.")]


def known_cells(client: Client) -> list[dict[str, Any]]:
    """Every cell on record and every one that was let in, by name, with its `pool` and its `member`."""
    pools = [pool["name"] for pool in client.call("GET", "/compute_pools/").data or []]
    found: dict[str, dict[str, Any]] = {}
    for pool in ("", *pools):
        for cell in client.call("GET", f"/compute_pool_cells/{pool}").data or []:
            found[cell["name"]] = {**cell, "pool": pool}
    members = {one["id"]: one for one in client.everything("/members/", "members", role="cell")}
    return [
        {"name": name, "pool": "", "state": "new", **found.get(name, {}), "member": members.get(name)}
        for name in sorted(found.keys() | members.keys())
    ]


def cell_named(client: Client, name: str) -> dict[str, Any]:
    """One of them; NotFound names candidates."""
    known = {cell["name"]: cell for cell in known_cells(client)}
    return known[known_as("cell", name, list(known), "nanoctl cell list")]


def state_of(cell: dict[str, Any]) -> str:
    """One of STATES."""
    if cell["state"] == "online" and not cell["confirmed"]:
        return "unconfirmed"
    return str(cell["state"])


@cells.command("list")
def cell_list(
    pool: Annotated[str, typer.Option(help="Only of this compute pool; - for those in none.")] = "",
    state: Annotated[str, typer.Option(help=f"Only of this state: {', '.join(STATES)}.")] = "",
) -> None:
    """Cells: their pool, how they are, what their instances take. How they came in: nanoctl zone members."""
    if state and state not in STATES:
        raise Invalid("state", f"state {state!r} is unknown: give one of {', '.join(STATES)}")
    with connect() as client:
        wanted = "" if pool in {"", "-"} else pool_named(client, pool)
        found = [
            cell
            for cell in known_cells(client)
            if (not pool or cell["pool"] == wanted) and state in {"", state_of(cell)}
        ]
    if State.json:
        show.document(found)
        return
    columns = ("NAME", "POOL", "ADDRESS", "STATE", "INSTANCES", "CORES", "MEMORY")
    show.table("cells", columns, map(_row, found))


def _row(cell: dict[str, Any]) -> tuple[object, ...]:
    """Cores and memory: what the instances have of what is there."""
    is_disabled = cell["state"] != "new" and not cell.get("enabled")
    has = cell.get("cores", 0)
    return (
        cell["name"],
        cell["pool"] or "-",
        cell.get("address") or "-",
        state_of(cell) + (", disabled" if is_disabled else ""),
        cell.get("instances", 0),
        f"{cell.get('instance_cores', 0)} of {has}" if has else "-",
        f"{show.size(cell.get('instance_memory', 0))} of {show.size(cell['memory'])}" if has else "-",
    )


@cells.command("enter")
def cell_enter(
    cell: Annotated[str, typer.Argument(help="A cell that is in no pool, as nanoctl cell list shows it.")],
    pool: Pool,
) -> None:
    """Put a cell into a compute pool: it takes new instances from then on."""
    with connect() as client:
        waiting = [one["id"] for one in client.everything("/applicants/", "applicants")]
        known = [one["name"] for one in known_cells(client)]
        # Of one that waits to be let in, the zone says itself what is to be done first.
        name = known_as("cell", cell, [*known, *waiting], "nanoctl cell list and nanoctl cell pending")
        where = pool_named(client, pool)
        client.call("POST", f"/compute_pool_cells/{where}/{name}")
    report({"id": name, "pool": where}, f"{name}: in pool {where}")


@cells.command("leave")
def cell_leave(cell: Cell) -> None:
    """Take a cell that holds no instances out of its compute pool. It stays in the zone: see cell remove."""
    with connect() as client:
        found = in_a_pool(client, cell)
        client.call("DELETE", f"/compute_pool_cells/{found['pool']}/{found['name']}")
    report({"id": found["name"], "pool": ""}, f"{found['name']}: in no pool, it was in {found['pool']}")


@cells.command("enable")
def cell_enable(cell: Cell) -> None:
    """Let new instances be placed on a cell."""
    _switch(cell, enable=True)


@cells.command("disable")
def cell_disable(cell: Cell) -> None:
    """Place no new instances on a cell. Those that it holds are not touched, and can be used as before."""
    _switch(cell, enable=False)


def _switch(cell: str, *, enable: bool) -> None:
    with connect() as client:
        found = in_a_pool(client, cell)
        client.call("PUT", f"/compute_pool_cells/{found['pool']}/{found['name']}", body={"enable": enable})
    said = "enabled" if enable else "disabled: it takes no new instances"
    report({"id": found["name"], "enabled": enable}, f"{found['name']}: {said}")


def in_a_pool(client: Client, name: str) -> dict[str, Any]:
    """A cell by name; Conflict when it is in no pool."""
    found = cell_named(client, name)
    if not found["pool"]:
        raise Conflict(f"cell {name} is in no pool: put it into one with: nanoctl cell enter {name} POOL")
    return found
