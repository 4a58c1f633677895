"""How every service starts, says that it is ready, and stops."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from nano.model.errors import Invalid
from nano.notify import EXTENSION_S
from nano.service import FabricSettings, Paths, read_config, waiting


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    paths: Paths = Paths(data="/nowhere")
    fabric: FabricSettings = FabricSettings(port=5602)
    size: int = 7


def test_an_absent_or_empty_file_is_a_sane_configuration(tmp_path: Path) -> None:
    assert read_config(tmp_path / "absent.toml", Config) == Config()
    (tmp_path / "empty.toml").touch()
    assert read_config(tmp_path / "empty.toml", Config) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sise = 3", "sise"),
        ("size = 'three'", "size"),
        ("[fabric.discovery]\ngrupp = '224.0.0.1'", "grupp"),
        ("size =", "toml"),
    ],
)
def test_a_wrong_file_is_named_with_its_member(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        read_config(file, Config)
    assert str(file) in refused.value.message
    assert says in refused.value.message


@pytest.mark.looptime
async def test_a_start_that_waits_says_for_what_and_asks_for_more_time_until_it_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as supervisor:
        supervisor.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        with waiting("the scheduler"):
            await asyncio.sleep(EXTENSION_S)
        await asyncio.sleep(10 * EXTENSION_S)
        heard = everything_in(supervisor)
    assert set(heard) == {b"EXTEND_TIMEOUT_USEC=30000000\nSTATUS=waiting for the scheduler"}
    assert 3 <= len(heard) <= 4  # always long before the time is up, and never when the wait is over


def everything_in(supervisor: socket.socket) -> list[bytes]:
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(supervisor.recv(200))
    return heard


PROGRAM = """
    import asyncio, os, sys, time
    import msgspec
    from nano.model.errors import Cancelled, Conflict
    from nano.service import ready, run

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        way: str = "good"

    async def serve(config, stopping):
        if config.way == "fault":
            raise Conflict("the disk is somebody else's")
        if config.way == "defect":
            async with asyncio.TaskGroup() as jobs:
                jobs.create_task(broken())
        ready("at your service")
        if config.way == "stuck":
            time.sleep(0.2)
            os._exit(0)
        await stopping.wait()
        if config.way == "waited":
            raise Cancelled("gave up waiting")

    async def broken():
        raise ZeroDivisionError

    sys.exit(run("probe", Config, serve))
"""


async def started(
    tmp_path: Path, way: str, **environment: str
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    (tmp_path / "probe.toml").write_text(f'way = "{way}"')
    address = str(tmp_path / "notify.sock")
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.bind(address)
    supervisor.setblocking(False)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PROGRAM),
        "--config",
        str(tmp_path / "probe.toml"),
        env={**os.environ, "NOTIFY_SOCKET": address, **environment},
        stderr=subprocess.PIPE,
    )
    return process, supervisor


@pytest.mark.parametrize("way", ["good", "waited"])
async def test_a_service_that_is_told_to_stop_stops_well(tmp_path: Path, way: str) -> None:
    process, supervisor = await started(tmp_path, way)
    with supervisor:
        async with asyncio.timeout(20):
            assert await heard(supervisor) == b"READY=1\nSTATUS=at your service"
            process.terminate()
            _, errors = await process.communicate()
            assert (await heard(supervisor)).startswith(b"STOPPING=1\nSTATUS=")
    assert process.returncode == 0, errors.decode()
    assert b"service.stopped" in errors


async def heard(supervisor: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(supervisor, 1000)


async def test_a_loop_that_turns_feeds_the_watchdog_again_and_again(tmp_path: Path) -> None:
    process, supervisor = await started(tmp_path, "good", WATCHDOG_USEC="20000")
    with supervisor:
        async with asyncio.timeout(20):
            words = [await heard(supervisor) for _ in range(6)]
        process.terminate()
        await process.communicate()
    assert words.count(b"WATCHDOG=1") == 5
    assert b"READY=1\nSTATUS=at your service" in words


async def test_a_loop_that_is_stuck_feeds_nothing(tmp_path: Path) -> None:
    process, supervisor = await started(tmp_path, "stuck", WATCHDOG_USEC="20000")
    with supervisor:
        async with asyncio.timeout(20):
            await process.communicate()
        words = everything_in(supervisor)
    assert words[-1] == b"READY=1\nSTATUS=at your service"


@pytest.mark.parametrize(
    ("way", "says"),
    [("fault", b"the disk is somebody else's"), ("defect", b"ZeroDivisionError")],
)
async def test_a_service_that_fails_says_why_and_exits_with_1(tmp_path: Path, way: str, says: bytes) -> None:
    process, supervisor = await started(tmp_path, way)
    with supervisor:
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
            said = b""
            while not said.startswith(b"STATUS=failed: "):  # a defect may come behind readiness
                said = await heard(supervisor)
    assert process.returncode == 1
    assert says in errors
    assert says in said
    assert (b"Traceback" in errors) == (way == "defect")
