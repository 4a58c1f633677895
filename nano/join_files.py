"""The files of a server that joins a zone: its service's configuration, its token, and its identity folder.

A configuration that people wrote keeps their lines and comments: members are changed line by line, and where
that cannot be done safely it is left to a person.
"""

import contextlib
import os
import re
import shutil
import stat
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from nano.fabric.identity.folder import before_of
from nano.fabric.identity.identity import TRUST_FILE
from nano.fabric.joining import application, join_token, standing
from nano.fabric.joining.standing import State
from nano.fabric.peers.addresses import static_addresses
from nano.files import replace_file
from nano.model.errors import Conflict, Invalid, NotFound
from nano.model.peers import PORTS, Role

_TABLE = re.compile(r"\s*\[(?P<name>[A-Za-z0-9_.-]+)\]\s*(#.*)?")


STDIN = "-"
"""Stands for a token that is read from standard input: what is an argument, every user of the host sees."""


def given_token(argument: str) -> str:
    """The token that an argument means. Invalid when standard input holds none."""
    if argument != STDIN:
        return argument
    text = sys.stdin.read(join_token.TEXT_LIMIT + 1).strip()
    if not text:
        raise Invalid("token", "standard input holds no join token: paste it, then end the input with Ctrl-D")
    return text


def check_token(text: str, role: str) -> None:
    """Invalid when this token cannot let such a service in, whatever the scheduler says."""
    token = join_token.decode(text)
    if token.role != role:
        raise Invalid(
            "token",
            f"{token} is not for a {role}: make one with nanoctl token create --role {role}; by this one a "
            f"{token.role} joins, on its own server: nanoctl join --role {token.role} -",
        )
    if token.expires_ms <= datetime.now(UTC).timestamp() * 1000:
        raise Invalid("token", f"{token} has expired: make another with nanoctl token create")


def configure(path: Path, token: str, scheduler: str = "") -> None:
    """Write how to be let in into a service's configuration, and the token beside it.

    `scheduler`, as `host:port` or `host`, is for networks where multicast does not reach it.
    """
    if scheduler:
        scheduler = scheduler_address(scheduler)
    kept = _token_file(path)
    settings: dict[str, dict[str, str]] = {
        "fabric": {"enrolment": "", "token_file": str(kept) if token else ""}
    }
    if scheduler:
        settings["fabric.discovery.peers"] = {"scheduler": scheduler}
    text = changed(path.read_text() if path.exists() else "", settings, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if token:
        _write_secret(kept, f"{token.strip()}\n", f"nano-{path.stem}")
    else:
        kept.unlink(missing_ok=True)
    _replace(path, text)


def scheduler_address(text: str) -> str:
    """`host:port`, with the usual port where none is said; Invalid when it is no address."""
    text = text.strip()
    if text and ":" not in text:
        text = f"{text}:{PORTS[Role.SCHEDULER]}"
    try:
        static_addresses({Role.SCHEDULER: text})
    except Invalid:
        raise Invalid("scheduler", f"{text!r} is no address: write it as 10.0.0.1:5600") from None
    return text


def _token_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.join-token")


def _replace(path: Path, text: str) -> None:
    """Whole or as it was, for the same eyes as before."""
    before = path.stat() if path.exists() else None
    replace_file(path, text.encode(), mode=0o644 if before is None else stat.S_IMODE(before.st_mode))
    if before is not None and os.geteuid() == 0:
        os.chown(path, before.st_uid, before.st_gid)


def _write_secret(path: Path, text: str, user: str) -> None:
    """For the service's eyes only: its user's where there is one. Durable: an empty file would be no token,
    and the server would believe whoever answers first."""
    replace_file(path, text.encode(), mode=0o600)
    if os.geteuid() == 0:
        with contextlib.suppress(LookupError):  # it runs as root then
            shutil.chown(path, user)


def changed(text: str, settings: dict[str, dict[str, str]], path: Path) -> str:
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


def _with_members(lines: list[str], table: str, members: dict[str, str]) -> list[str]:
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


def _merged(before: dict[str, Any], settings: dict[str, dict[str, str]]) -> dict[str, Any]:
    for table, members in settings.items():
        at = before
        for part in table.split("."):
            at = at.setdefault(part, {})
        at.update(members)
    return before


# ------------------------------------------------------------------ where it is, and from the beginning


def located(role: str, given: Path | None) -> Path:
    """The configuration of the service that joins: as given, that of this folder's fleet where it joined a
    zone elsewhere (`./dev join`), or the system's."""
    if given is not None:
        return given
    here = Path(f"var/config/{role}.toml")
    return here if is_of_a_checkout(here) else Path(f"/etc/nano/{role}.toml")


def is_of_a_checkout(path: Path) -> bool:
    """Whether `./dev join` keeps the service with this configuration."""
    fleet = path.with_name("fleet.toml")
    return path.is_file() and fleet.is_file() and bool(tomllib.loads(fleet.read_text()).get("joined"))


def identity_folder(path: Path, role: str) -> Path:
    """Where the service with this configuration keeps who it is. NotFound when there is no such file."""
    if not path.exists():
        raise NotFound(f"there is no {path}: run nanoctl join first", field="file")
    settings = tomllib.loads(path.read_text())
    return Path(settings.get("paths", {}).get("data", f"/var/lib/nano/{role}")) / "identity"


def kept_token(path: Path) -> str:
    """The token beside a configuration; empty when there is none."""
    kept = _token_file(path)
    return kept.read_text().strip() if kept.exists() else ""


def check_zone(identity: Path, text: str) -> None:
    """Conflict when this server is in another zone than the token's: it is never taken away by a token."""
    token, member = join_token.decode(text), membership(identity)
    known = standing.read(identity)
    if member is None or member.zone == token.zone or (known is not None and known.state is State.REMOVED):
        return
    raise Conflict(
        f"this server is in the zone {member.named}, {token} is of zone {token.zone}: to leave the one for "
        "the other, give --start-over as well (its instances stay on its disks, but the other zone does not "
        "know them)",
        field="token",
    )


@dataclass(frozen=True, slots=True)
class Membership:
    """What a certificate says."""

    zone: str
    name: str
    until: datetime

    @property
    def named(self) -> str:
        return f"{self.name} ({self.zone})"


def membership(identity: Path) -> Membership | None:
    """Of which zone the kept certificate is; None when there is none."""
    file = identity / "certificate.pem"
    if not file.exists():
        return None
    shown = x509.load_pem_x509_certificate(file.read_bytes())
    zone, name = (
        str(shown.issuer.get_attributes_for_oid(of)[0].value)
        for of in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    )
    return Membership(zone, name, shown.not_valid_after_utc)


def start_over(identity: Path) -> list[str]:
    """Forget whom this server asked and which zone it is in; a line for each thing that is discarded, and for
    what is kept. Its key goes only when it was removed from a zone: its name is held by its key there.
    """
    member, asked, known = membership(identity), application.read(identity), standing.read(identity)
    said = []
    if member is not None:
        said.append(f"discarded: its certificate of the zone {member.named}, and whom that zone trusts")
    if asked is not None and asked.state == "waiting":
        code = f", with the code {asked.code}" if asked.code else ""
        said.append(f"discarded: its request to zone {asked.zone} at {asked.scheduler}{code}")
    key, certificate = identity / "key.pem", identity / "certificate.pem"
    gone = [certificate, before_of(certificate), before_of(key), identity / "ca.pem", identity / TRUST_FILE]
    if known is not None and known.state is State.REMOVED:
        said.append("discarded: its key, which was removed from that zone")
        gone.append(key)
    elif key.exists():
        said.append("kept: its key, by which a zone that knows it takes it for the member that it was")
    for file in gone:
        file.unlink(missing_ok=True)
    application.forget(identity)
    standing.forget(identity)
    return [*said, "kept: its instances and their disks"]
