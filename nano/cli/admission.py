"""The commands that let servers in and shut them out: `nanoctl cell`, `token` and `zone`."""

import re
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Any

import typer

from nano.cli import show
from nano.cli.cells import cell_named, cells, known_cells
from nano.cli.client import Client
from nano.cli.commands import State, connect, report, yes
from nano.cli.joining import how_to_join
from nano.cli.names import NEAR, known_as
from nano.cli.pools import pool_named
from nano.model.errors import Conflict, Invalid, NotFound

tokens = typer.Typer(no_args_is_help=True, help="What lets one server in without a question.")
zone = typer.Typer(no_args_is_help=True, help="Who is in the zone, and which authority it trusts.")

SHORT = 16
"""Digits of a fingerprint that are shown, and are enough to name it."""
KNOWN_S = 5.0
"""How long a removal waits until everybody who is there knows of it."""
LOOK_S = 0.2
RENEWS_MS = int(6.5 * 86_400_000)
"""Who is there has renewed its certificate by then: it does so when that is six days old."""
_SPAN = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(field: str, text: str) -> int:
    """Of `90`, `15m`, `1h`, `7d`; Invalid names the option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise Invalid(field, f"{field} {text!r} is no span of time: give a number with s, m, h or d, as 15m")
    return int(found["number"]) * _SECONDS[found["unit"]]


# ------------------------------------------------------------------ join tokens


@tokens.command("create")
def token_create(
    role: Annotated[str, typer.Option(help="cell, imagestore, addresspool or gateway.")] = "cell",
    name: Annotated[str, typer.Option(help="The one name that may join by it; default: any.")] = "",
    lifetime: Annotated[str, typer.Option(help="Such as 15m, 1h or 7d.")] = "1h",
) -> None:
    """Make a token by which one server joins; it is shown this once."""
    body = {"role": role, "id": name, "lifetime": seconds("lifetime", lifetime)}
    with connect() as client:
        made = client.call("POST", "/join_tokens/", body=body).data
    if State.json:
        show.document(made)
        return
    print(made["token"])
    until = show.moment(made["expires_ms"])
    typer.echo(
        f"Token {made['id']}, for one {role}{' ' + name if name else ''}, until {until} UTC. On the other "
        f"server run: {how_to_join(role)} and paste it, then Ctrl-D",
        err=True,
    )
    if warning := unreachable_from_elsewhere(made["token"]):
        typer.echo(warning, err=True)


def unreachable_from_elsewhere(token: str) -> str:
    """What to say of a token that names this host's own addresses only; empty of others."""
    # Dear to load, and no other command reads any.
    from nano.fabric.joining import join_token  # noqa: PLC0415

    named = join_token.decode(token).schedulers
    hosts = [each.rpartition(":")[0].strip("[]") for each in named]
    if not hosts or not all(_is_loopback(host) for host in hosts):
        return ""
    return (
        f"No other server can use it: this zone is reached from its own host alone ({', '.join(named)}). "
        "Open it first: ./dev up --open, or `listen` of [fabric] in the services' files; then make another"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may be anybody's
        return False


@tokens.command("list")
def token_list(
    state: Annotated[str, typer.Option(help="Only open, used or expired ones.")] = "",
) -> None:
    """Join tokens, without what is secret of them."""
    with connect() as client:
        found = client.everything("/join_tokens/", "join_tokens", **({"state": state} if state else {}))
    if State.json:
        show.document(found)
        return
    show.table(
        "join tokens",
        ("ID", "ROLE", "FOR", "MADE", "EXPIRES", "USED BY"),
        (
            (
                one["id"],
                one["role"],
                one["name"] or "any",
                show.moment(one["created_ms"]),
                show.moment(one["expires_ms"]),
                one["used_by"][:SHORT] or "-",
            )
            for one in found
        ),
    )


@tokens.command("revoke")
def token_revoke(token: str) -> None:
    """Let nobody in by it any more. Whom it let in stays: see nanoctl cell remove."""
    with connect() as client:
        client.call("DELETE", f"/join_tokens/{token}")
    report({"id": token}, f"{token}: revoked")


# ------------------------------------------------------------------ cells


@cells.command("pending")
def cell_pending() -> None:
    """Servers that wait to be let in, each with the code that it must show as well."""
    with connect() as client:
        found = client.everything("/applicants/", "applicants")
    if State.json:
        show.document(found)
        return
    show.table(
        "servers wait",
        ("FINGERPRINT", "NAME", "CODE", "ADDRESS", "SINCE", "STATE"),
        (
            (
                one["fingerprint"][:SHORT],
                one["id"],
                one["code"],
                one["host"],
                show.moment(one["since_ms"]),
                state_of(one),
            )
            for one in found
        ),
    )


def state_of(applicant: dict[str, Any]) -> str:
    if applicant["refused_until_ms"]:
        return "refused"
    return "waits" if applicant["present"] else "away"


def waiting(client: Client, prefix: str) -> dict[str, Any]:
    """The applicant whose fingerprint begins like that; NotFound or Conflict when it is not exactly one."""
    known = client.everything("/applicants/", "applicants")
    found = [one for one in known if one["fingerprint"].startswith(prefix.lower())]
    if not found:
        raise NotFound(f"nobody waits with the fingerprint {prefix}: see nanoctl cell pending")
    if len(found) > 1:
        keys = ", ".join(f"{one['fingerprint'][:SHORT]} ({one['id']})" for one in found[:NEAR])
        raise Conflict(f"{prefix} begins {len(found)} fingerprints, give more of it: {keys}")
    return found[0]


Fingerprint = Annotated[str, typer.Argument(help="As nanoctl cell pending shows it, or its beginning.")]


@cells.command("admit")
def cell_admit(
    fingerprint: Fingerprint,
    code: Annotated[str, typer.Option(help="What the other server shows; without it you are asked.")] = "",
    pool: Annotated[str, typer.Option(help="Put it into this compute pool as well.")] = "",
) -> None:
    """Let a server in, after comparing the code here with the one that it shows."""
    with connect() as client:
        if pool:
            pool_named(client, pool)  # one that is none must not be found out too late
        found = waiting(client, fingerprint)
        if not code:
            if State.json:
                raise Invalid("code", "code is missing: give --code with what the other server shows")
            print(f"{found['id']} at {found['host']}, key {found['fingerprint'][:SHORT]}")
            print(f"code here: {found['code']}")
            typer.confirm(
                "does the other server show the same code (nanoctl join --status)?", abort=True, err=True
            )
        # The code goes along: had it changed since it was shown, somebody confirmed another one.
        path = f"/applicants/{found['fingerprint']}"
        client.call("POST", path, body={"code": code or found["code"]})
        if pool:
            client.call("POST", f"/compute_pool_cells/{pool}/{found['id']}")
    where = f"in pool {pool}" if pool else "in no pool yet"
    report(
        {"id": found["id"], "fingerprint": found["fingerprint"], "pool": pool},
        f"{found['id']}: admitted, {where}",
    )


@cells.command("refuse")
def cell_refuse(fingerprint: Fingerprint) -> None:
    """Tell a server that it is not let in; for a day it is told so whenever it asks."""
    with connect() as client:
        found = waiting(client, fingerprint)
        client.call("DELETE", f"/applicants/{found['fingerprint']}")
    report({"id": found["id"], "fingerprint": found["fingerprint"]}, f"{found['id']}: refused")


@cells.command("remove")
def cell_remove(
    name: Annotated[str, typer.Argument(help="As nanoctl cell list shows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Shut a cell out: its key is refused everywhere. What it holds stays on record."""
    with connect() as client:
        held = cell_named(client, name).get("instances", 0)
        loss = ""
        if held:
            loss = (
                f"; its {held} instance(s) stay on record as lost: they come back with that server, or are "
                "given up one by one with: nanoctl instance forget"
            )
        shut_out(client, "cell", name, loss, sure=yes)


def shut_out(client: Client, role: str, name: str, loss: str, *, sure: bool) -> None:
    """Remove a member, and say who knows of it, and what is lost by it."""
    if not sure:
        question = f"shut {role} {name} out of the zone? It comes back only with a new key{loss}"
        typer.confirm(question, abort=True, err=True)
    client.call("DELETE", f"/members/{role}/{name}")
    members, late = told(client)
    peers = [f"{one['role']}/{one['id']}" for one in late]
    line = f"{role} {name}: removed; {members - len(late)} of {members} peers know of it"
    if late:
        line += f", not yet: {', '.join(peers)} (they are told when they are there)"
    report({"role": role, "id": name, "peers": members, "not_yet": peers}, line + loss)


def told(client: Client) -> tuple[int, list[dict[str, Any]]]:
    """How many members there are, and who of them does not know of the last removal after a few seconds."""
    end = time.monotonic() + KNOWN_S
    while True:
        late = client.everything("/members/", "members", informed="false")
        if not late or time.monotonic() > end:
            return client.call("GET", "/members/", query={"limit": 0}).data["total"], late
        time.sleep(LOOK_S)


# ------------------------------------------------------------------ the zone


@zone.command("members")
def zone_members(role: Annotated[str, typer.Option(help="Only of this role.")] = "") -> None:
    """Everybody who was let in."""
    with connect() as client:
        found = client.everything("/members/", "members", **({"role": role} if role else {}))
    if State.json:
        show.document(found)
        return
    show.table(
        "members",
        ("ROLE", "NAME", "KEY", "LET IN", "SINCE", "CERTIFIED", "KNOWS REMOVALS"),
        (
            (
                one["role"],
                one["id"],
                one["fingerprint"][:SHORT],
                one["how"],
                show.moment(one["since_ms"]),
                show.moment(one["issued_ms"]),
                yes(one["informed"]),
            )
            for one in found
        ),
    )


@zone.command("remove")
def zone_remove(
    peer: Annotated[str, typer.Argument(help="ROLE/NAME, as nanoctl zone members shows them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Shut a service of any kind out of the zone."""
    role, _, name = peer.partition("/")
    if not name:
        raise Invalid("peer", f"{peer!r} is no ROLE/NAME: see nanoctl zone members")
    with connect() as client:
        members = [f"{one['role']}/{one['id']}" for one in client.everything("/members/", "members")]
        known_as("member", peer, members, "nanoctl zone members")
        shut_out(client, role, name, "", sure=yes)


@zone.command("authority")
def zone_authority() -> None:
    """Which authority signs, which are trusted, and whom a change of it waits for."""
    with connect() as client:
        state = client.call("GET", "/authority/").data
    if State.json:
        show.document(state)
    else:
        print("\n".join(authority_lines(state)))


def authority_lines(state: dict[str, Any]) -> list[str]:
    signs, *others = state["trusted"]
    lines = [f"phase      {state['phase']}", f"signs      {signs}"]
    lines += [f"trusted    {other}" for other in others]
    if state["phase"] != "steady":
        lines.append(f"waits for  {', '.join(state['waiting_for']) or 'nobody'}")
    if state["left_behind"]:
        lines.append(f"goes on without {', '.join(state['left_behind'])}: they have to join again")
    return lines


@zone.command("rotate-authority")
def zone_rotate_authority(
    leave_behind: Annotated[
        bool, typer.Option("--leave-behind", help="Go on without those that the rotation waits for.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give the zone another authority: every peer learns of it, then renews by it, then the old one goes."""
    with connect() as client:
        state = client.call("GET", "/authority/").data
        if leave_behind and not yes:
            names = ", ".join(state["waiting_for"]) or "nobody"
            typer.confirm(f"go on without {names}? They will have to join again", abort=True, err=True)
        elif not yes and state["phase"] == "steady":  # else the zone says what is under way
            typer.echo("\n".join(rotation_lines(away(client))), err=True)
            typer.confirm("give the zone another authority?", abort=True, err=True)
        client.call("POST", "/authority/", body={"leave_behind": leave_behind})
        state = client.call("GET", "/authority/").data
    report(state, "\n".join(authority_lines(state)))


def rotation_lines(late: Sequence[str]) -> list[str]:
    """What is about to happen, how long it may take, and who is in its way."""
    lines = [
        "Every member learns of a new authority, then each renews its certificate by it, then the old one",
        "is trusted no more and its key is deleted. Nothing is interrupted, and it cannot be taken back.",
        "With all members there it takes a minute or so; whoever is away is waited for, however long.",
        "Join tokens that were made before name the old authority: make them anew afterwards.",
    ]
    if late:
        lines += [
            "Away now, it seems: start them, remove them, or go on without them later by --leave-behind, by",
            "which they would be left behind and have to join again:",
            *(f"  {one}" for one in late),
        ]
    return lines


def away(client: Client) -> list[str]:
    """The members that seem not to be there, each with the reason for thinking so."""
    cells = {cell["name"]: cell for cell in known_cells(client)}
    now_ms = time.time_ns() // 1_000_000
    found = []
    for member in client.everything("/members/", "members"):
        cell = cells.get(member["id"]) if member["role"] == "cell" else None
        if cell is not None and cell["state"] == "new":
            why = "it was let in and never heard"
        elif cell is not None and cell["state"] != "online":
            why = f"not heard since {show.moment(cell['seen_ms'])} UTC"
        elif not member["informed"]:
            why = "it does not know of the last removal yet"
        elif now_ms - member["issued_ms"] > RENEWS_MS:
            why = f"its certificate is of {show.moment(member['issued_ms'])} UTC, and was not renewed"
        else:
            continue
        found.append(f"{member['role']}/{member['id']}: {why}")
    return found
