"""What the supervisor hears, and when its watchdog is fed."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nano import notify


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(tmp_path / "notify.sock"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify.sock"))
        yield listener


def test_what_a_person_reads_stays_on_one_line(supervisor: socket.socket) -> None:
    notify.ready("all is well")
    assert supervisor.recv(100) == b"READY=1\nSTATUS=all is well"
    notify.failed("the disk\nWATCHDOG=trigger\n is full")
    assert supervisor.recv(100) == b"STATUS=failed: the disk WATCHDOG=trigger is full"


def test_a_supervisor_in_the_abstract_namespace_hears_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"nano-test/{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify.stopping()
        assert listener.recv(100).startswith(b"STOPPING=1\n")


def test_without_a_supervisor_or_with_one_that_is_gone_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody.sock"))
    notify.ready("fine")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.ready("fine")


def test_the_watchdog_is_fed_twice_in_each_period(supervisor: socket.socket) -> None:
    watchdog = notify.Watchdog({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "77"}, 77)
    assert watchdog.feed(100.0) == 10.0
    assert supervisor.recv(100) == b"WATCHDOG=1"
    assert watchdog.feed(104.0) == 6.0  # too early: whoever turns for another reason does not feed it again
    with pytest.raises(BlockingIOError):
        supervisor.recv(100)
    assert watchdog.feed(111.0) == 10.0
    assert supervisor.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_PID": "77"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "78"},
    ],
)
def test_a_watchdog_that_is_not_ours_is_left_alone(
    supervisor: socket.socket, environment: dict[str, str]
) -> None:
    assert notify.Watchdog(environment, 77).feed(100.0) is None
    with pytest.raises(BlockingIOError):
        supervisor.recv(100)
