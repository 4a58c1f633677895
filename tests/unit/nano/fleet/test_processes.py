import asyncio
import contextlib
import multiprocessing
import sys
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nano.fleet import processes as subject
from nano.fleet.processes import (
    Processes,
    Program,
    holder,
    last_words,
    only_one,
    processes_of,
    restart_delay_s,
    rotate,
)
from nano.model.errors import Busy, TimedOut

SAYS_READY = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.{term})
print("serving", flush=True)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", "\\0" + os.environ["NOTIFY_SOCKET"][1:])
signal.pause()
"""


def program(name: str, *, heeds: bool = True, lasting: bool = False) -> Program:
    text = SAYS_READY.format(term="SIG_DFL" if heeds else "SIG_IGN")
    return Program(name, (sys.executable, "-c", text), lasting)


@contextlib.asynccontextmanager
async def kept(root: Path, *programs: Program, said: list[str] | None = None) -> AsyncIterator[Processes]:
    fleet = Processes(root, programs, (said if said is not None else []).append)
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(fleet.keep())
        try:
            yield fleet
        finally:
            fleet.stop()


def pid(root: Path, name: str) -> int:
    return int((root / "run" / f"{name}.pid").read_text())


def test_restarts_wait_longer_up_to_half_a_minute() -> None:
    assert [restart_delay_s(n) for n in (1, 2, 3, 7, 50)] == [0.5, 1, 2, 30, 30]


async def test_programs_get_ready_log_and_leave_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path, program("one"), program("two")) as fleet:
        await fleet.wait_ready("one", "two", limit_s=20)
        assert set(processes_of(tmp_path)) == {pid(tmp_path, "one"), pid(tmp_path, "two")}
    assert processes_of(tmp_path) == {}
    assert not list((tmp_path / "run").glob("*.pid"))
    assert (tmp_path / "log" / "one.log").read_text() == "serving\n"


async def test_a_program_that_dies_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    async with kept(tmp_path, program("one"), said=said) as fleet:
        await fleet.wait_ready("one", limit_s=20)
        first = pid(tmp_path, "one")
        fleet._event("one").clear()
        fleet._running["one"].kill()
        await fleet._running["one"].wait()
        await fleet.wait_ready("one", limit_s=20)
        assert pid(tmp_path, "one") != first
    assert said == ["one was killed by SIGKILL: starting it again in 0.5 s"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"event": "service.failed", "error": "TCP 5870 is taken"}', " (TCP 5870 is taken)"),
        ('{"event": "service.stopped"}', ""),
        ("libvirtd: no such file", " (libvirtd: no such file)"),
        ("[1, 2]", ""),
        ("", ""),
    ],
)
def test_the_last_words_of_this_life_say_why(tmp_path: Path, line: str, words: str) -> None:
    log = tmp_path / "one.log"
    earlier = '{"error": "of another life"}\n'
    log.write_text(earlier + line + "\n")
    assert last_words(log, len(earlier)) == words


async def test_who_ignores_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PATIENCE_S", 0.2)
    said: list[str] = []
    async with kept(tmp_path, program("deaf", heeds=False), said=said) as fleet:
        await fleet.wait_ready("deaf", limit_s=20)
    assert processes_of(tmp_path) == {}
    assert "killing it" in said[0]


async def test_who_never_gets_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    broken = Program("broken", (sys.executable, "-c", "print('no such bridge')"))
    async with kept(tmp_path, broken) as fleet:
        with pytest.raises(TimedOut, match=r"(?s)broken did not get ready.*no such bridge"):
            await fleet.wait_ready("broken", limit_s=1.0)


async def test_a_program_that_cannot_be_started_ends_all(tmp_path: Path) -> None:
    fleet = Processes(tmp_path, (program("good"), Program("absent", ("/no/such/program",))), print)
    with pytest.raises(ExceptionGroup) as caught:
        await fleet.keep()
    assert caught.group_contains(FileNotFoundError)
    assert processes_of(tmp_path) == {}


def test_a_large_log_is_moved_aside_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        rotate(log, limit_bytes=99)
        writer.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "one.log.1").read_text() == "x" * 100


def _second(root: Path, answers: Connection) -> None:
    try:
        with only_one(root):
            answers.send("held")
    except Busy as refusal:
        answers.send(str(refusal))


def test_a_second_fleet_in_the_same_folder_is_refused_naming_the_first(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with only_one(tmp_path):
        other = spawn.Process(target=_second, args=(tmp_path, theirs))
        other.start()
        answer = ours.recv()
        other.join()
        held_by = holder(tmp_path)
    assert "already up" in answer
    assert f"process {held_by}" in answer
    assert holder(tmp_path) is None
