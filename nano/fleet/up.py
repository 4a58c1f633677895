"""`./dev up` and `./dev down`: a fleet in the foreground, and its end."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from nano.fleet.configuration import client_settings, first_start_code, portal_url
from nano.fleet.guest_image import cache_folder
from nano.fleet.host import Place, clear, wait_until
from nano.fleet.live import Fleet, guest_image, living, run_until_interrupted, unless
from nano.fleet.processes import PATIENCE_S, holder, only_one
from nano.fleet.stages import Stages
from nano.model.errors import Cancelled, Internal, TimedOut


def up(root: Path, *, simulated: bool, is_open: bool | None = None) -> int:
    """Start the fleet in `root`, see to its first instance, and stay until Ctrl-C."""
    place = Place(root, cache_folder(root), simulated=simulated, open=is_open)
    with only_one(root):
        return run_until_interrupted(lambda interrupted: _until_interrupted(place, interrupted))


async def _until_interrupted(place: Place, interrupted: asyncio.Event) -> int:
    stages = Stages()
    try:
        await unless(interrupted, _up(place, stages))
    except Cancelled:
        stages.say(
            "the services are stopped; "
            "guests go on running: `./dev up` takes them over again, `./dev down` stops them"
        )
    return 0


async def _up(place: Place, stages: Stages) -> None:
    async with asyncio.TaskGroup() as jobs:
        image = jobs.create_task(asyncio.to_thread(guest_image, place, stages), name="guest image")
        async with living(place, stages) as fleet:
            disk = await image
            try:
                told = await first_instance(fleet, disk)
            except (Internal, TimedOut) as failure:  # what is wrong can only be mended while the services run
                stages.say(f"the first instance: {failure}; the services go on")
                told = {}
            print(summary(fleet, told, disk.stem), flush=True)
            await asyncio.Event().wait()  # for as long as nobody interrupts


async def first_instance(fleet: Fleet, image: Path) -> dict[str, Any]:
    """The instance of the story, made now or found; nothing when only others are there."""
    return await fleet.tell("create", "--image", str(image), "--subnet", str(fleet.host.bridge.subnet))


def _instance(told: dict[str, Any]) -> str:
    if not told:
        return ""
    pretended = "  (simulated: nothing runs)" if told["simulated"] else ""
    return f"""  instance    {told["name"]}, id {told["id"]}{pretended}
  on          {told["cell"]}, with address {told["address"]}
"""


def _others(fleet: Fleet) -> str:
    if not fleet.host.open:
        return ""
    return """Add another server: make a token here, and paste it there:
  .venv/bin/nanoctl token create
  ./dev join -
"""


def summary(fleet: Fleet, told: dict[str, Any], image: str) -> str:
    """What a person wants to know now."""
    client = client_settings(fleet.place.root)
    code = first_start_code(fleet.place.root)
    page = portal_url() + (f"#/?code={code}" if code else "")
    first = (
        f"  first start code {code}  (for whoever makes the first user; the address above has it)\n"
        if code
        else ""
    )
    seconds = ", ".join(f"{name} {seconds:g} s" for name, seconds in fleet.stages.seconds.items())
    return f"""
Nano is up.
{_instance(told)}  stages      {seconds}
Look at it in your browser:
  portal      {page}
{first}Or use the API:
  API         {client["url"]}/api/v1/
  credential  id {client["id"]}  key {client["key"]}  (also in {fleet.place.root}/nanoctl.toml)
Try, in another terminal:
  .venv/bin/nanoctl status
  .venv/bin/nanoctl instance list
  .venv/bin/nanoctl instance create second --image {image} --disk 1G --memory 128M --start
  .venv/bin/nanoctl task list
{_others(fleet)}Ctrl-C stops the services and leaves the guests running; ./dev down stops all.
"""


def down(root: Path) -> int:
    """Stop the fleet in `root` wherever it runs: services, guests, bridge."""
    stages = Stages()
    if (pid := holder(root)) is not None:
        stages.say(f"stopping ./dev up (process {pid})")
        os.kill(pid, signal.SIGTERM)
        if not wait_until(lambda: holder(root) is None, 3 * PATIENCE_S):
            raise TimedOut(
                f"process {pid} did not stop; end it with `kill -9 {pid}` and run ./dev down again"
            )
    with only_one(root):
        clear(Place(root, cache_folder(root)), stages.say)
    stages.say("Nano is down; its state is kept for the next ./dev up")
    return 0
