"""What the responder serves, on disk: durable before it is told, whole after any kill."""

import errno
import json
import os
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from nano.bindings.messages import Entry
from nano.model.address import Binding, Provider
from nano.model.errors import Conflict, Corrupt, StorageFull
from services.addresspool.bindings import Bindings


def entry(number: int) -> Entry:
    address = IPv4Address(f"10.0.0.{number}")
    mask, gateway = IPv4Address("255.255.255.0"), IPv4Address("10.0.0.1")
    binding = Binding(f"vm-{number}/0", address, mask, gateway, (), Provider.DHCP)
    return Entry(f"00:16:3e:00:00:{number:02x}", binding)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dhcp" / "bindings.json"


def reopened(bindings: Bindings, path: Path) -> Bindings:
    """As after a kill: only what is on disk comes back."""
    os.close(bindings._lock)
    return Bindings(path)


def test_what_was_bound_survives_a_kill(path: Path) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))
    bindings.bind(entry(8))
    bindings.unbind(entry(8).mac)
    bindings = reopened(bindings, path)
    assert bindings.entries == {entry(7).mac: entry(7)}
    bindings.replace([entry(9)])
    assert list(reopened(bindings, path).entries.values()) == [entry(9)]


def test_a_lease_is_kept_while_the_address_stays(path: Path) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))
    bindings.note(replace(entry(7), granted_ms=5))
    bindings.bind(replace(entry(7), hostname="vm"))
    assert bindings.entries[entry(7).mac] == replace(entry(7), hostname="vm", granted_ms=5)
    bindings.bind(Entry(entry(7).mac, entry(8).binding, granted_ms=99))
    assert bindings.entries[entry(7).mac].granted_ms == 0


def test_what_was_noted_is_written_behind(path: Path) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))
    bindings.note(replace(entry(7), granted_ms=5))
    assert bindings.unwritten
    bindings.write_noted()
    assert not bindings.unwritten
    assert reopened(bindings, path).entries[entry(7).mac].granted_ms == 5


def test_binding_the_same_again_writes_nothing(path: Path) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))
    before = path.stat().st_ino
    bindings.bind(entry(7))
    bindings.unbind("00:16:3e:ff:ff:ff")
    assert path.stat().st_ino == before


def test_no_address_is_bound_twice(path: Path) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))
    with pytest.raises(Conflict, match=entry(7).mac):
        bindings.bind(Entry(entry(8).mac, entry(7).binding))
    with pytest.raises(Conflict):
        bindings.replace([entry(9), Entry(entry(8).mac, entry(9).binding)])
    assert list(bindings.entries.values()) == [entry(7)]


def test_a_full_disk_refuses_and_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = Bindings(path)
    bindings.bind(entry(7))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull, match=str(path)):
            bindings.bind(entry(8))
    assert list(bindings.entries) == [entry(7).mac]
    assert list(reopened(bindings, path).entries) == [entry(7).mac]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "entries": [{"mac": 7}]}',
        '{"schema": 1, "entries": 5}',
        '{"schema": 2, "entries": []}',
    ],
)
def test_a_file_that_cannot_be_read_is_said_aloud_and_left_alone(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(Corrupt, match=str(path)):
        Bindings(path)
    assert path.read_text() == content


def test_the_file_is_readable_and_for_root_alone(path: Path) -> None:
    Bindings(path).bind(entry(7))
    assert json.loads(path.read_text())["entries"][0]["address"] == "10.0.0.7"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_in_use_is_not_opened_again(path: Path) -> None:
    bindings = Bindings(path)
    with pytest.raises(Conflict, match="another responder"):
        Bindings(path)
    bindings.close()
    Bindings(path).close()
