"""`nanoctl` as a person uses it: against a real gateway with real books, over TLS and signed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.zone import Zone, zone
from tests.unit.services.imagestore.test_formats import qcow2


@dataclass
class Terminal:
    """Runs commands; what went to standard output, or the words of a refusal."""

    settings: Path
    zone: Zone

    async def run(self, *words: str) -> str:
        status, output, errors = await self._run(*words)
        assert status == 0, errors
        return output

    async def json(self, *words: str) -> Any:
        return json.loads(await self.run("--json", *words))

    async def refused(self, *words: str) -> str:
        status, _, errors = await self._run(*words)
        assert status == 1, errors
        assert "Traceback" not in errors
        return errors

    async def _run(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nano.cli",
            "--config",
            str(self.settings),
            *words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def nanoctl(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with zone(tmp_path) as made:
        settings = tmp_path / "nanoctl.toml"
        settings.write_text(
            f'url = "{str(made.client.base_url).rstrip("/")}"\n'
            f'id = "{made.credential.id}"\nkey = "{made.credential.key}"\n'
            f'certificate = "{tmp_path / "tls" / "certificate.pem"}"\n'
        )
        yield Terminal(settings, made)


async def test_an_instance_from_its_image_to_its_end(nanoctl: Terminal, tmp_path: Path) -> None:
    image = tmp_path / "small.qcow2"
    image.write_bytes(qcow2(virtual_bytes=2**20) + bytes(5000))
    await nanoctl.run("image", "push", str(image))
    (record,) = await nanoctl.json("image", "list")
    assert (record["name"], record["size"]) == ("small", image.stat().st_size)
    await nanoctl.run("image", "pull", "small", str(tmp_path / "back.qcow2"))
    assert (tmp_path / "back.qcow2").read_bytes() == image.read_bytes()

    created = await nanoctl.json("instance", "create", "web", "--image", "small", "--disk", "1G")
    assert "stopped" in await nanoctl.run("instance", "list")
    await nanoctl.run("instance", "start", "web")
    (listed,) = await nanoctl.json("instance", "list")
    assert (listed["id"], listed["running"], listed["simulated"]) == (created["id"], True, True)
    assert "running (simulated)" in await nanoctl.run("status")

    assert "it is running" in await nanoctl.refused("instance", "start", "web")
    assert "stop it first" in await nanoctl.refused("instance", "delete", "web", "--yes")
    await nanoctl.run("instance", "stop", "web", "--force")
    await nanoctl.run("instance", "delete", "web", "--yes")
    assert "no instances" in await nanoctl.run("instance", "list")
    kinds = [task["kind"] for task in (await nanoctl.json("task", "list"))["tasks"]]
    assert kinds == ["delete_instance", "stop_instance", "start_instance", "create_instance"]
    await nanoctl.run("image", "delete", "small")
    assert "no disk images" in await nanoctl.run("image", "list")


async def test_whoever_pulls_the_plug_does_not_wait_for_a_guest_that_hears_nothing(nanoctl: Terminal) -> None:
    await nanoctl.run("instance", "create", "deaf", "--disk", "1G", "--start")  # a blank disk boots nothing
    await nanoctl.run("--no-wait", "instance", "stop", "deaf")
    await nanoctl.run("instance", "stop", "deaf", "--force")
    states = [task["state"] for task in (await nanoctl.json("task", "list"))["tasks"]]
    assert states[:2] == ["done", "cancelled"]
    await nanoctl.run("instance", "delete", "deaf", "--yes")


async def test_a_file_that_is_no_image_leaves_no_record(nanoctl: Terminal, tmp_path: Path) -> None:
    junk = tmp_path / "junk.qcow2"
    junk.write_bytes(b"not at all")
    assert "neither a QCOW2 image" in await nanoctl.refused("image", "push", str(junk))
    assert await nanoctl.json("image", "list") == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("instance", "create", "web", "--cores", "3"), "cores 3 is not allowed"),
        (("instance", "create", "web", "--memory", "much"), "memory 'much' is no size"),
        (("instance", "create", "web", "--template", "none"), "there is no template 'none'"),
        (("instance", "create", "web", "--image", "none"), "there is no disk image 'none'"),
        (("instance", "create", "two words"), "name 'two words' is not allowed"),
        (("instance", "start", "nobody"), "there is no instance 'nobody'"),
        (("image", "list", "--kind", "paper"), "kind 'paper' is unknown"),
        (("task", "cancel", "nobody"), "there is no task"),
    ],
)
async def test_what_cannot_be_done_says_why(nanoctl: Terminal, words: tuple[str, ...], says: str) -> None:
    assert says in await nanoctl.refused(*words)
