"""How every service starts, says that it is ready, and stops."""

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from nano.model.errors import Invalid
from nano.service import FabricSettings, Paths, notify, read_config, ready


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


def test_readiness_is_told_to_the_supervisor_and_to_nobody_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        supervisor.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        ready("all is well")
        assert supervisor.recv(100) == b"READY=1\nSTATUS=all is well"
    notify("STOPPING=1")  # it is gone by now
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("STOPPING=1")


PROGRAM = """
    import asyncio, sys
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
        ready()
        await stopping.wait()
        if config.way == "waited":
            raise Cancelled("gave up waiting")

    async def broken():
        raise ZeroDivisionError

    sys.exit(run("probe", Config, serve))
"""


async def started(tmp_path: Path, way: str) -> tuple[asyncio.subprocess.Process, socket.socket]:
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
        env={**os.environ, "NOTIFY_SOCKET": address},
        stderr=subprocess.PIPE,
    )
    return process, supervisor


@pytest.mark.parametrize("way", ["good", "waited"])
async def test_a_service_that_is_told_to_stop_stops_well(tmp_path: Path, way: str) -> None:
    process, supervisor = await started(tmp_path, way)
    with supervisor:
        async with asyncio.timeout(20):
            await asyncio.get_running_loop().sock_recv(supervisor, 100)
            process.terminate()
            _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"service.stopped" in errors


@pytest.mark.parametrize(
    ("way", "says"),
    [("fault", b"the disk is somebody else's"), ("defect", b"ZeroDivisionError")],
)
async def test_a_service_that_fails_says_why_and_exits_with_1(tmp_path: Path, way: str, says: bytes) -> None:
    process, supervisor = await started(tmp_path, way)
    with supervisor:
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert says in errors
    assert (b"Traceback" in errors) == (way == "defect")
