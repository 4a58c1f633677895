"""One fleet alive: its processes kept, a story told meanwhile, everything stopped at the end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nano.fleet.configuration import (
    SERVICES,
    change_fabric,
    service_settings,
    write_client_settings,
    write_configuration,
)
from nano.fleet.disk_layout import master_boot_record
from nano.fleet.guest_image import built_image
from nano.fleet.host import Host, Place, prepare, settle_open
from nano.fleet.openings import configured, openings
from nano.fleet.processes import MARK, Processes, Program
from nano.fleet.stages import Stages
from nano.model.errors import Cancelled, Internal, TimedOut

T = TypeVar("T")

STORY_S = 300.0
"""A guest without KVM on a busy machine needs half a minute; ten times that is no longer slow but stuck."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet whose services are ready."""

    place: Place
    host: Host
    processes: Processes
    stages: Stages

    async def tell(self, verb: str, *arguments: str) -> dict[str, Any]:
        """Have `nano.fleet.story` told in a process of its own, so that its memory ends with it.

        A service that dies meanwhile may cut the story short; once all are ready again it is told anew, which
        makes nothing twice.
        """
        result = self.place.root / "run" / f"{verb}.json"
        command = (
            *(sys.executable, "-m", "nano.fleet.story", verb, "--began", str(self.stages.began_s)),
            *("--settings", str(self.place.root / "nanoctl.toml"), "--result", str(result), *arguments),
        )
        deaths = self.processes.deaths
        while await _status(command, self.place.root) != 0:
            if self.processes.deaths == deaths:
                logs = "" if self.place.isolated else f"; see {self.place.root}/log"
                raise Internal(f"the story ended early, for the reason above{logs}")
            deaths = self.processes.deaths
            await self.processes.wait_ready(*(each.name for each in self.processes.programs))
        document = json.loads(result.read_text())
        result.unlink()
        self.stages.seconds.update(document["seconds"])
        return dict(document["told"])


@contextlib.asynccontextmanager
async def living(place: Place, stages: Stages) -> AsyncIterator[Fleet]:
    """Prepare the host, start all services, and stop them behind the caller; guests stay as they are."""
    with stages.stage(
        "host", "preparing this host" if not place.simulated else "simulated: no bridge, no QEMU"
    ):
        host = prepare(place, stages.say)
        settings = service_settings(place.root, host.bridge, host.libvirtd, is_open=host.open)
        if place.open is not None:
            other = service_settings(place.root, host.bridge, host.libvirtd, is_open=not host.open)
            change_fabric(place.root, other, settings)
            settle_open(place.root, is_open=host.open)
        write_configuration(place.root, settings)
    if host.open:
        _say_openings(place, stages)
    async with keeping(place, programs(place, host, tuple(SERVICES)), stages) as processes:
        with stages.stage("services", f"starting {', '.join(each.name for each in processes.programs)}"):
            await processes.wait_ready(*(each.name for each in processes.programs))
            write_client_settings(place.root)
        yield Fleet(place, host, processes, stages)


def _say_openings(place: Place, stages: Stages) -> None:
    # What it needs would lie in the memory of every other fleet.
    from nano.fabric.peers.multicast import own_addresses  # noqa: PLC0415

    for line in openings(configured(place.root, tuple(SERVICES)), own_addresses()):
        stages.say(line)


@contextlib.asynccontextmanager
async def keeping(place: Place, kept: tuple[Program, ...], stages: Stages) -> AsyncIterator[Processes]:
    """Keep these programs running for the time of the context."""
    processes = Processes(place.root, kept, stages.say)
    async with asyncio.TaskGroup() as jobs:
        keeper = jobs.create_task(processes.keep(), name="processes")
        try:
            yield processes
        finally:
            stages.say("stopping the services")
            processes.stop()
            # Cancelled or not, the programs are stopped in order before the group gives up its keeper.
            await asyncio.wait({keeper})


def programs(place: Place, host: Host, names: tuple[str, ...]) -> tuple[Program, ...]:
    """What is kept running of these services; the cell asks libvirtd, so that one is stopped last."""
    config = place.root / "config"
    services = tuple(
        Program(name, (sys.executable, "-m", SERVICES[name], "--config", str(config / f"{name}.toml")))
        for name in names
    )
    if host.libvirtd is None or not host.libvirtd.command:
        return services
    return (Program("libvirtd", host.libvirtd.command, lasting=True), *services)


def guest_image(place: Place, stages: Stages) -> Path:
    """The image to upload: the real guest, or a disk of nothing but a boot record for cells that pretend."""
    with stages.stage("image", "guest image"):
        place.cache.mkdir(parents=True, exist_ok=True)
        if not place.simulated:
            return built_image(place.cache, stages.say)
        disk = place.cache / "simulated-guest.img"
        disk.write_bytes(master_boot_record(b"", [], 0x4E414E4F).ljust(1024 * 1024, b"\0"))
        return disk


async def _status(command: tuple[str, ...], root: Path) -> int:
    """Run the story to its end; its exit status. `TimedOut` when it is stuck."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, MARK: str(root)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(STORY_S):
            return await process.wait()
    except TimeoutError:
        raise TimedOut(f"the last step above did not end within {STORY_S:.0f} s; see {root}/log") from None
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def run_until_interrupted(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with an event that Ctrl-C and SIGTERM set; the first also cancels what the work awaits."""

    async def whole() -> T:
        interrupted = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupted.set)
        return await work(interrupted)

    return asyncio.run(whole())


async def unless(interrupted: asyncio.Event, work: Awaitable[T]) -> T:
    """What `work` gives; `Cancelled` when somebody interrupts before it ends."""
    job = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(interrupted.wait())
    try:
        await asyncio.wait({job, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise Cancelled("interrupted")
        return job.result()
    finally:
        for each in (job, watch):
            each.cancel()
        await asyncio.gather(job, watch, return_exceptions=True)
