"""`nanoctl join`: makes this server ask to be let into a zone, and says how far that is.

It talks to nobody: it writes the configuration of the service that joins, and reads what that service has
come to. A configuration that people wrote keeps their lines and comments.
"""

import contextlib
import os
import re
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.x509.oid import NameOID

from nano.cli.admission import SHORT
from nano.cli.commands import report
from nano.fabric import join_token
from nano.fabric.waiting_note import waiting_at
from nano.model.errors import Invalid, NotFound
from nano.model.peers import Role

_TABLE = re.compile(r"\s*\[(?P<name>[A-Za-z0-9_.-]+)\]\s*(#.*)?")


def join(
    token: Annotated[str, typer.Argument(help="Of nanoctl token create; none: wait to be admitted.")] = "",
    role: Annotated[str, typer.Option(help="cell, imagestore, addresspool or gateway.")] = "cell",
    file: Annotated[
        Path | None, typer.Option(help="The service's configuration; default: /etc/nano/<role>.toml.")
    ] = None,
    scheduler: Annotated[str, typer.Option(help="HOST:PORT, where multicast does not reach it.")] = "",
    status: Annotated[bool, typer.Option("--status", help="Only say how far it is, and the code.")] = False,
) -> None:
    """Have this server join a zone elsewhere: by a token, or by waiting until an administrator admits it."""
    path = file or Path(f"/etc/nano/{role}.toml")
    if status:
        told = state(path, role)
        report(told, told["said"])
        return
    if token:
        check_token(token, role)
    elif role != Role.CELL:
        raise Invalid("token", f"only cells may wait to be admitted: give a token for this {role}")
    written = configure(path, token, scheduler)
    then = f"start it: systemctl restart nano-{role}"
    if role == Role.CELL:
        then += " nano-dhcp"
    if not token:
        then += "; then compare the code of: nanoctl join --status"
    report(
        {"file": str(written), "role": role},
        f"{written}: joins {'by token' if token else 'once admitted'}; {then}",
    )


def check_token(text: str, role: str) -> None:
    """Invalid when this token cannot let such a service in, whatever the scheduler says."""
    token = join_token.decode(text)
    if token.role != role:
        raise Invalid(
            "token", f"{token} is not for a {role}: make one with --role {role}, or join as {token.role}"
        )
    if token.expires_ms <= datetime.now(UTC).timestamp() * 1000:
        raise Invalid("token", f"{token} has expired: make another with nanoctl token create")


def configure(path: Path, token: str, scheduler: str) -> Path:
    """Write how to be let in into a service's configuration, and the token beside it."""
    kept = path.with_name(f"{path.stem}.join-token")
    settings: dict[str, dict[str, Any]] = {
        "fabric": {"enrolment": "", "join_token_file": str(kept) if token else ""}
    }
    if scheduler:
        settings["fabric.discovery.peers"] = {"scheduler": scheduler}
    text = changed(path.read_text() if path.exists() else "", settings, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if token:
        _write_secret(kept, f"{token.strip()}\n", f"nano-{path.stem}")
    else:
        kept.unlink(missing_ok=True)
    path.write_text(text)
    return path


def _write_secret(path: Path, text: str, user: str) -> None:
    """For the service's eyes only: its user's where there is one."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if os.geteuid() == 0:
        with contextlib.suppress(LookupError):  # it runs as root then
            shutil.chown(path, user)


def changed(text: str, settings: dict[str, dict[str, Any]], path: Path) -> str:
    """The TOML `text` with these members of these tables; all else stays as it is, comments too.

    Invalid when that cannot be done line by line: then a person has to.
    """
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid("file", f"{path}: {error}; correct it") from error
    lines = text.splitlines()
    for table, members in settings.items():
        lines = _with_members(lines, table, members)
    made = "\n".join(lines) + "\n"
    expected = _merged(before, settings)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        if tomllib.loads(made) == expected:
            return made
    wanted = ", ".join(f"[{table}] {name}" for table, members in settings.items() for name in members)
    raise Invalid(
        "file", f"{path} is written in a way that cannot be changed safely: set {wanted} there by hand"
    )


def _with_members(lines: list[str], table: str, members: dict[str, Any]) -> list[str]:
    start = next((at for at, line in enumerate(lines) if _named(line) == table), None)
    if start is None:
        lines = [*lines, *([""] if lines else []), f"[{table}]"]
        start = len(lines) - 1
    end = next((at for at in range(start + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    own = [line for line in lines[start + 1 : end] if line.split("=")[0].strip() not in members]
    new = [f"{name} = {_text(value)}" for name, value in members.items()]
    return [*lines[: start + 1], *new, *own, *lines[end:]]


def _named(line: str) -> str:
    found = _TABLE.fullmatch(line)
    return found["name"] if found else ""


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _merged(before: dict[str, Any], settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for table, members in settings.items():
        at = before
        for part in table.split("."):
            at = at.setdefault(part, {})
        at.update(members)
    return before


# ------------------------------------------------------------------ how far it is


def state(path: Path, role: str) -> dict[str, Any]:
    """What the service that joins has come to, by what lies in its folders."""
    if not path.exists():
        raise NotFound(f"there is no {path}: run nanoctl join first", field="file")
    settings = tomllib.loads(path.read_text())
    data = Path(settings.get("paths", {}).get("data", f"/var/lib/nano/{role}"))
    identity = data / "identity"
    waits = waiting_at(identity)
    if waits is not None:
        said = f"waits to be admitted\ncode  {waits.code}\nkey   {waits.fingerprint[:SHORT]}"
        return {"state": "waits", "code": waits.code, "fingerprint": waits.fingerprint, "said": said}
    certificate = identity / "certificate.pem"
    if certificate.exists():
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
        zone_id, name = (
            str(shown.issuer.get_attributes_for_oid(of)[0].value)
            for of in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        )
        until = shown.not_valid_after_utc
        word = "in the zone" if until > datetime.now(UTC) else "was in the zone"
        said = f"{word} {name} ({zone_id}), by a certificate until {until:%Y-%m-%d %H:%M:%S} UTC"
        return {"state": "joined", "zone": zone_id, "until": until.isoformat(), "said": said}
    return {"state": "new", "said": f"has not asked yet: is nano-{role} started?"}
