"""The files of a server that joins a zone: its service's configuration, its token, and what it has come to.

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from nano.fabric.identity.authority import replace_file
from nano.fabric.joining import application, join_token
from nano.model.errors import Invalid, NotFound

SHORT = 16
"""Digits of a fingerprint that are shown."""
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
            "token", f"{token} is not for a {role}: make one with --role {role}, or join as {token.role}"
        )
    if token.expires_ms <= datetime.now(UTC).timestamp() * 1000:
        raise Invalid("token", f"{token} has expired: make another with nanoctl token create")


def configure(path: Path, token: str, scheduler: str = "") -> None:
    """Write how to be let in into a service's configuration, and the token beside it.

    `scheduler`, as `host:port`, is for networks where multicast does not reach it.
    """
    kept = path.with_name(f"{path.stem}.join-token")
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


# ------------------------------------------------------------------ how far it is


def identity_folder(path: Path, role: str) -> Path:
    """Where the service with this configuration keeps who it is. NotFound when there is no such file."""
    if not path.exists():
        raise NotFound(f"there is no {path}: run nanoctl join first", field="file")
    settings = tomllib.loads(path.read_text())
    return Path(settings.get("paths", {}).get("data", f"/var/lib/nano/{role}")) / "identity"


def state(path: Path, role: str) -> dict[str, Any]:
    """What the service that joins has come to, by what lies in its folders; `said` is for people."""
    identity = identity_folder(path, role)
    waits = application.read(identity)
    if waits is not None and waits.state == "waiting" and waits.code:
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
