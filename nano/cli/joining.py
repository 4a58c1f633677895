"""`nanoctl join`: makes this server ask to be let into a zone, and says how far that is.

It talks to nobody: it writes the configuration of the service that joins, and reads what that service has
come to.
"""

from pathlib import Path
from typing import Annotated

import typer

from nano.cli.commands import report
from nano.model.errors import Invalid
from nano.model.peers import Role


def join(  # noqa: PLR0917 - typer makes options of arguments
    token: Annotated[
        str, typer.Argument(help="Of nanoctl token create, or - to read it; none: wait to be admitted.")
    ] = "",
    role: Annotated[str, typer.Option(help="cell, imagestore, addresspool or gateway.")] = "cell",
    file: Annotated[
        Path | None,
        typer.Option(
            help="The service's configuration; default: that of ./dev join in this folder, else "
            "/etc/nano/<role>.toml."
        ),
    ] = None,
    scheduler: Annotated[str, typer.Option(help="HOST:PORT, where multicast does not reach it.")] = "",
    status: Annotated[
        bool, typer.Option("--status", help="Only say how it stands, and what to do next.")
    ] = False,
    start_over: Annotated[
        bool,
        typer.Option(
            "--start-over",
            help="Forget which zone it is in or asks, its certificate, and a key that was removed.",
        ),
    ] = False,
) -> None:
    """Have this server join a zone elsewhere: by a token, or by waiting until an administrator admits it."""
    # Certificates and tokens are dear to load, and no other command reads any.
    from nano import join_files, join_status  # noqa: PLC0415

    path = join_files.located(role, file)
    if status:
        told = join_status.state(path, role)
        report(told, told["said"])
        return
    token = join_files.given_token(token)
    if token:
        join_files.check_token(token, role)
    elif role != Role.CELL:
        raise Invalid("token", f"only cells may wait to be admitted: give a token for this {role}")
    identity = join_files.identity_folder(path, role) if path.exists() else None
    if token and identity is not None and not start_over:
        join_files.check_zone(identity, token)
    join_files.configure(path, token, scheduler)
    lines = join_files.start_over(identity) if start_over and identity is not None else []
    if not join_files.is_of_a_checkout(path):
        then = f"start it: systemctl restart nano-{role}"
        if role == Role.CELL:
            then += " nano-dhcp"
    else:
        then = "start it: ./dev join"
    if not token:
        then += "; then compare the code of: nanoctl join --status"
    how = "by token" if token else "once admitted"
    said = "\n".join([*lines, f"{path}: joins {how}; {then}"])
    report({"file": str(path), "role": role, "start_over": lines}, said)


def how_to_join(role: str) -> str:
    """What to run on the other server with a token for such a service."""
    if role == Role.CELL:
        return "nanoctl join - (or, from a checkout: ./dev join -)"
    return f"nanoctl join --role {role} -"
