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
        Path | None, typer.Option(help="The service's configuration; default: /etc/nano/<role>.toml.")
    ] = None,
    scheduler: Annotated[str, typer.Option(help="HOST:PORT, where multicast does not reach it.")] = "",
    status: Annotated[bool, typer.Option("--status", help="Only say how far it is, and the code.")] = False,
    start_over: Annotated[
        bool, typer.Option("--start-over", help="Forget whom it asked first: the next one is believed.")
    ] = False,
) -> None:
    """Have this server join a zone elsewhere: by a token, or by waiting until an administrator admits it."""
    # Certificates and tokens are dear to load, and no other command reads any.
    from nano import join_files  # noqa: PLC0415
    from nano.fabric.joining import application  # noqa: PLC0415

    path = file or Path(f"/etc/nano/{role}.toml")
    if status:
        told = join_files.state(path, role)
        report(told, told["said"])
        return
    token = join_files.given_token(token)
    if token:
        join_files.check_token(token, role)
    elif role != Role.CELL:
        raise Invalid("token", f"only cells may wait to be admitted: give a token for this {role}")
    join_files.configure(path, token, scheduler)
    if start_over:
        application.forget(join_files.identity_folder(path, role))
    then = f"start it: systemctl restart nano-{role}"
    if role == Role.CELL:
        then += " nano-dhcp"
    if not token:
        then += "; then compare the code of: nanoctl join --status"
    how = "by token" if token else "once admitted"
    report({"file": str(path), "role": role}, f"{path}: joins {how}; {then}")
