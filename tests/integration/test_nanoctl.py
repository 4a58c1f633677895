"""`nanoctl` as a person uses it: against a real gateway with real books, over TLS and signed."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nano.fabric.joining import join_token
from nano.model.membership import Applicant, How
from nano.model.peers import Peer, Role
from tests.support.zone import CELL, Zone, zone
from tests.unit.services.imagestore.test_formats import qcow2


@dataclass
class Terminal:
    """Runs commands; what went to standard output, or the words of a refusal."""

    settings: Path
    zone: Zone

    async def run(self, *words: str, say: str = "") -> str:
        status, output, errors = await self._run(*words, say=say)
        assert status == 0, errors
        return output

    async def json(self, *words: str) -> Any:
        return json.loads(await self.run("--json", *words))

    async def refused(self, *words: str) -> str:
        status, _, errors = await self._run(*words)
        assert status == 1, errors
        assert "Traceback" not in errors
        return errors

    @contextlib.asynccontextmanager
    async def begun(self, *words: str) -> AsyncIterator["Waiting"]:
        """A command that does not end by itself, or not soon."""
        process = await self._process(*words)
        try:
            yield Waiting(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _process(self, *words: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "nano.cli", "--config", str(self.settings), *words)
        pipe = subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)

    async def _run(self, *words: str, say: str = "") -> tuple[int, str, str]:
        process = await self._process(*words)
        async with asyncio.timeout(60):
            output, errors = await process.communicate(say.encode())
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()


@dataclass
class Waiting:
    """A command that is under way."""

    process: asyncio.subprocess.Process

    async def says(self, what: str) -> str:
        """The line of standard error that has it."""
        assert self.process.stderr is not None
        said = ""
        async with asyncio.timeout(30):
            while line := (await self.process.stderr.readline()).decode():
                if what in line:
                    return line
                said += line
        raise AssertionError(f"it ended without {what!r}: {said}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


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
        (("instance", "start", "nobody"), "there is no instance 'nobody': see nanoctl instance list"),
        (("cell", "disable", "Cell_00"), f"do you mean {CELL}?"),
        (("cell", "leave", "nowhere"), "there is no cell 'nowhere': see nanoctl cell list"),
        (("cell", "enter", CELL, "defalt"), "do you mean default?"),
        (("cell", "enter", CELL, "default"), "is in pool default already"),
        (("cell", "list", "--state", "odd"), "give one of online, unconfirmed, lost"),
        (("pool", "delete", "default"), f"take {CELL} out of it first"),
        (("pool", "create", "default"), "there is a compute pool 'default' already"),
        (("pool", "change", "default", "--network", "none"), "there is no address pool 'none'"),
        (("image", "list", "--kind", "paper"), "kind 'paper' is unknown"),
        (("task", "cancel", "nobody"), "there is no task"),
    ],
)
async def test_what_cannot_be_done_says_why(nanoctl: Terminal, words: tuple[str, ...], says: str) -> None:
    assert says in await nanoctl.refused(*words)


# ------------------------------------------------------------------ pools, and cells in them


async def test_a_cell_goes_from_pool_to_pool_and_is_switched_off_for_new_instances(nanoctl: Terminal) -> None:
    await nanoctl.run("pool", "create", "edge")
    await nanoctl.run("cell", "leave", CELL)
    assert CELL in await nanoctl.run("cell", "list", "--pool", "-")
    assert "is in no pool" in await nanoctl.refused("cell", "disable", CELL)
    await nanoctl.run("cell", "enter", CELL, "edge")
    assert "out of that one first" in await nanoctl.refused("cell", "enter", CELL, "default")
    assert await nanoctl.run("cell", "list", "--pool", "default") == "no cells\n"
    await nanoctl.run("cell", "disable", CELL)
    assert "disabled already" in await nanoctl.refused("cell", "disable", CELL)
    assert "online, disabled" in await nanoctl.run("cell", "list")
    assert "no room" in await nanoctl.refused("instance", "create", "web", "--pool", "edge")
    await nanoctl.run("cell", "enable", CELL)
    await nanoctl.run("instance", "create", "web", "--pool", "edge", "--cores", "2", "--memory", "1G")
    listed = await nanoctl.run("cell", "list")
    assert "2 of 8" in listed
    assert "1.0 GiB of 32.0 GiB" in listed
    assert "delete or move them first" in await nanoctl.refused("cell", "leave", CELL)
    pools = {pool["name"]: pool for pool in await nanoctl.json("pool", "list")}
    assert (pools["edge"]["cells"], pools["default"]["cells"]) == (1, 0)
    await nanoctl.run("pool", "delete", "default")
    assert "default" not in await nanoctl.run("pool", "list")


async def test_a_name_that_is_not_one_instance_is_answered_with_those_that_it_may_mean(
    nanoctl: Terminal,
) -> None:
    made = [(await nanoctl.json("instance", "create", "web", "--group", each))["id"] for each in "ab"]
    said = await nanoctl.refused("instance", "start", "web")
    for group, instance in zip("ab", made, strict=True):
        assert f"{group}.web ({instance}, pool default)" in said
    assert "do you mean a.web" in await nanoctl.refused("instance", "start", "a.wbe")


# ------------------------------------------------------------------ cells that are not there


async def test_whoever_waits_for_an_absent_cell_is_told_and_may_leave_or_cancel(nanoctl: Terminal) -> None:
    await nanoctl.run("instance", "create", "web", "--start")
    await nanoctl.zone.lose_cell()
    assert "lost" in await nanoctl.run("cell", "list")
    async with nanoctl.begun("instance", "stop", "web") as waiting:
        line = await waiting.says(f"cell {CELL} has not been heard since")
        assert "the task goes on when it is back" in line
        task = line.split()[-1]
        assert line.endswith(f"cancel with: nanoctl task cancel {task}\n")
        waiting.interrupt()
        left = await waiting.says("the task goes on; follow")
        assert f"nanoctl task watch {task}, or have it undone with: nanoctl task cancel {task}" in left
    said = await nanoctl.run("task", "cancel", task)
    assert f"is being undone: cell {CELL} has not been heard" in said
    async with nanoctl.begun("task", "watch", task) as waiting:
        await waiting.says("has not been heard since")
        await nanoctl.zone.find_cell()
        await waiting.says("cancelled, and undone")
    assert "running" in await nanoctl.run("instance", "list")


async def test_an_instance_of_a_removed_cell_can_only_be_forgotten(nanoctl: Terminal) -> None:
    await nanoctl.run("instance", "create", "web")
    await nanoctl.zone.lose_cell()
    assert f"nanoctl cell remove {CELL}" in await nanoctl.refused("instance", "forget", "web", "--yes")
    book, shelf = nanoctl.zone.scheduler.book.membership, nanoctl.zone.scheduler
    shelf.commit(*book.enrolled(Peer(Role.CELL, CELL), KEYS[0], How.TOKEN, 1))
    await nanoctl.zone.shown()
    assert "its 1 instance(s) stay on record" in await nanoctl.refused("cell", "remove", CELL)
    await nanoctl.run("cell", "remove", CELL, "--yes")
    assert CELL in await nanoctl.run("cell", "list", "--state", "removed")
    for words in (("start", "web"), ("delete", "web", "--yes")):
        assert "nanoctl instance forget" in await nanoctl.refused("instance", *words)
    assert "must stay off" in await nanoctl.refused("instance", "forget", "web")
    assert "nothing was erased" in await nanoctl.run("instance", "forget", "web", "--yes")
    assert await nanoctl.json("instance", "list") == []
    assert await nanoctl.json("cell", "list") == []


# ------------------------------------------------------------------ letting servers in, shutting them out

KEYS = ("a1" * 32, "a2" * 32)
SECOND = "Cell_00163e0000aa"


async def waits(nanoctl: Terminal, *keys: str) -> None:
    """Servers that all claim one name."""
    book = nanoctl.zone.scheduler.book.membership
    for number, key in enumerate(keys):
        applicant = Applicant(key, Role.CELL, SECOND, "10.9.8.9", f"7K2M-Q0X{number}", 1, present=True)
        nanoctl.zone.scheduler.commit(*book.applied(applicant))
    view = nanoctl.zone.gateway.view
    assert await nanoctl.zone.gateway.bell.until(lambda: set(keys) <= set(view.applicants), 5.0)


async def test_a_join_token_is_made_listed_and_revoked(nanoctl: Terminal) -> None:
    text = (await nanoctl.run("token", "create", "--lifetime", "15m", "--name", SECOND)).strip()
    carried = join_token.decode(text)
    assert (carried.role, carried.id) == (Role.CELL, SECOND)
    (listed,) = await nanoctl.json("token", "list", "--state", "open")
    assert listed["expires_ms"] - listed["created_ms"] == 15 * 60_000
    assert SECOND in await nanoctl.run("token", "list")
    await nanoctl.run("token", "revoke", listed["id"])
    assert await nanoctl.json("token", "list") == []
    for words, why in (
        (("create", "--lifetime", "soon"), "no span of time"),
        (("create", "--role", "king"), "role 'king' is unknown"),
        (("revoke", "none"), "no join token"),
        (("list", "--state", "odd"), "odd"),
    ):
        assert why in await nanoctl.refused("token", *words)


async def test_a_server_that_waits_is_admitted_by_the_code_that_it_shows(nanoctl: Terminal) -> None:
    await waits(nanoctl, *KEYS)
    shown = await nanoctl.run("cell", "pending")
    assert KEYS[0][:16] in shown
    assert "7K2M-Q0X1" in shown
    assert "2 fingerprints" in await nanoctl.refused("cell", "admit", "a", "--code", "7K2M-Q0X0")
    assert "nobody waits" in await nanoctl.refused("cell", "admit", "ff", "--code", "7K2M-Q0X0")
    assert "in between" in await nanoctl.refused("cell", "admit", "a1", "--code", "7K2M-Q0X1")
    assert "code is missing" in await nanoctl.refused("--json", "cell", "admit", "a1")
    assert await nanoctl.json("cell", "list") != []
    said = await nanoctl.run("cell", "admit", "a1", "--code", "7k2mq0x0", "--pool", "default")
    assert said == f"{SECOND}: admitted, in pool default\n"
    assert "refused" in await nanoctl.run("cell", "refuse", "a2")
    found = {one["name"]: one for one in await nanoctl.json("cell", "list")}
    assert found[SECOND]["member"]["how"] == "admitted"
    assert (found[SECOND]["pool"], found[SECOND]["state"]) == ("default", "left")  # it did not come yet
    assert "admitted" in await nanoctl.run("zone", "members")


async def test_admitting_asks_whether_the_codes_are_the_same(nanoctl: Terminal) -> None:
    await waits(nanoctl, KEYS[0])
    assert "Aborted" in await nanoctl.refused("cell", "admit", "a1")
    assert "7K2M-Q0X0" in await nanoctl.run("cell", "admit", "a1", say="y\n")
    assert nanoctl.zone.scheduler.book.membership.member(Peer(Role.CELL, SECOND)).fingerprint == KEYS[0]


async def test_a_removal_says_who_knows_of_it_and_who_does_not_yet(nanoctl: Terminal) -> None:
    book, shelf = nanoctl.zone.scheduler.book.membership, nanoctl.zone.scheduler
    gateway, store = Peer(Role.GATEWAY, "main"), Peer(Role.IMAGESTORE, "main")
    peers = (Peer(Role.SCHEDULER, "main"), gateway, store, Peer(Role.CELL, SECOND))
    for number, peer in enumerate(peers):
        shelf.commit(*book.enrolled(peer, f"{number}" * 64, How.LOCAL, 1))
    shelf.commit(*book.acknowledged(gateway, 99, "ca"))
    assert "Aborted" in await nanoctl.refused("cell", "remove", SECOND)
    said = await nanoctl.run("cell", "remove", SECOND, "--yes")
    assert "2 of 3 peers know of it, not yet: imagestore/main" in said
    shelf.commit(*book.acknowledged(store, 99, "ca"))
    assert "imagestore" in await nanoctl.run("zone", "members")
    found = await nanoctl.json("zone", "remove", "imagestore/main", "--yes")
    assert (found["peers"], found["not_yet"]) == (2, [])
    assert "ROLE/NAME" in await nanoctl.refused("zone", "remove", "imagestore", "--yes")
    assert "own scheduler" in await nanoctl.refused("zone", "remove", "scheduler/main", "--yes")
    assert "there is no cell" in await nanoctl.refused("cell", "remove", SECOND, "--yes")
    assert "gateway/main" in await nanoctl.refused("zone", "remove", "gateway/mian", "--yes")


async def test_the_authority_is_shown_and_rotated(nanoctl: Terminal) -> None:
    book = nanoctl.zone.scheduler.book.membership
    assert "steady" in await nanoctl.run("zone", "authority")
    nanoctl.zone.scheduler.commit(*book.enrolled(Peer(Role.CELL, SECOND), KEYS[0], How.TOKEN, 1))
    asked = await nanoctl.refused("zone", "rotate-authority")
    assert "cannot be taken back" in asked
    assert f"cell/{SECOND}: it was let in and never heard" in asked
    assert "steady" in await nanoctl.run("zone", "authority")
    said = await nanoctl.run("zone", "rotate-authority", say="y\n")
    assert f"waits for  cell/{SECOND}" in said
    assert "leave them behind" in await nanoctl.refused("zone", "rotate-authority")
    assert "Aborted" in await nanoctl.refused("zone", "rotate-authority", "--leave-behind")
    await nanoctl.run("zone", "rotate-authority", "--leave-behind", "--yes")
    assert (await nanoctl.json("zone", "authority"))["left_behind"] == [f"cell/{SECOND}"]
