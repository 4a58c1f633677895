"""What the responder serves, on disk: one small JSON file, durable before a cell is told so.

What guests do with their leases is written behind: it is news about them, not a promise to them, since every
address is known beforehand and stays.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from nano.bindings.messages import Entry, entry_from, entry_json
from nano.files import replace_file
from nano.model.errors import Conflict, Corrupt, Invalid, StorageFull

SCHEMA = 1


class Bindings:
    """The entries by MAC. Each change is decided, made durable, and only then seen.

    A write that fails for want of room refuses the change and alters nothing. Any other failure of the disk
    ends the process: what a second try says cannot be believed.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one; `Corrupt` when it cannot be read, `Conflict` when it is in use."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _only_user(path.with_name(path.name + ".lock"))
        self.unwritten = False
        self.entries = _read(path)

    def close(self) -> None:
        """Write what was noted, and let another process have the file."""
        self.write_noted()
        os.close(self._lock)

    def bind(self, entry: Entry) -> None:
        """Serve `entry` too, in place of what its MAC had."""
        self._adopt({**self.entries, entry.mac: self._with_history(entry)})

    def unbind(self, mac: str) -> None:
        self._adopt({known: entry for known, entry in self.entries.items() if known != mac})

    def replace(self, entries: Iterable[Entry]) -> None:
        """Serve exactly these."""
        self._adopt({entry.mac: self._with_history(entry) for entry in entries})

    def note(self, entry: Entry) -> None:
        """Keep what became of a lease; written with the next change, or by `write_noted`."""
        self.entries[entry.mac] = entry
        self.unwritten = True

    def write_noted(self) -> None:
        """`StorageFull` leaves it noted."""
        if self.unwritten:
            self._write(self.entries)

    def _adopt(self, entries: dict[str, Entry]) -> None:
        _check_addresses(entries)
        if entries != self.entries or self.unwritten:
            self._write(entries)
        self.entries = entries

    def _with_history(self, entry: Entry) -> Entry:
        """The entry with what became of its lease; a new address is a new lease."""
        before = self.entries.get(entry.mac)
        if before is None or before.binding.address != entry.binding.address:
            return replace(entry, granted_ms=0, declined_ms=0)
        return replace(entry, granted_ms=before.granted_ms, declined_ms=before.declined_ms)

    def _write(self, entries: Mapping[str, Entry]) -> None:
        text = json.dumps(
            {"schema": SCHEMA, "entries": [entry_json(entry) for entry in entries.values()]}, indent=1
        )
        try:
            replace_file(self._path, text.encode(), mode=0o600)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StorageFull(
                f"no room on disk for {self._path}: free some, then ask again", subject=str(self._path)
            ) from error
        self.unwritten = False


def _check_addresses(entries: Mapping[str, Entry]) -> None:
    holders: dict[IPv4Address, str] = {}
    for mac, entry in entries.items():
        address = entry.binding.address
        holder = holders.setdefault(address, mac)
        if holder != mac:
            raise Conflict(
                f"{address} is bound to {holder} already: unbind that first", field="address", subject=mac
            )


def _read(path: Path) -> dict[str, Entry]:
    try:
        stored = json.loads(path.read_bytes())
        if stored["schema"] != SCHEMA:
            raise Corrupt(
                f"{path} has schema {stored['schema']}, this program reads {SCHEMA}: use the newer one",
                subject=str(path),
            )
        entries = {entry.mac: entry for entry in map(entry_from, stored["entries"])}
        _check_addresses(entries)
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, Invalid, Conflict) as error:
        raise Corrupt(
            f"{path} cannot be read ({error!r}): move it away, then restart the cell, which binds anew",
            subject=str(path),
        ) from error
    return entries


def _only_user(path: Path) -> int:
    """An open lock that one process at a time can have; the kernel lets go of it with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"another responder uses {path}: stop it, or give this one a file of its own"
        ) from None
    return descriptor
