"""`./dev join`: this machine becomes a cell of a zone elsewhere, in the foreground, until Ctrl-C."""

import asyncio
from pathlib import Path

from nano.fabric.joining import application
from nano.fleet.configuration import JOINING, joining_settings, write_configuration
from nano.fleet.guest_image import cache_folder
from nano.fleet.host import Place, prepare
from nano.fleet.live import keeping, programs, run_until_interrupted, unless
from nano.fleet.processes import Processes, only_one
from nano.fleet.stages import Stages
from nano.join_files import SHORT, check_token, configure, given_token
from nano.model.errors import Cancelled
from nano.model.peers import Role

LIMIT_S = 7 * 24 * 3600.0
"""How long an administrator may take: longer than any weekend."""
LOOK_S = 0.5


def join(root: Path, token: str, *, simulated: bool) -> int:
    """Start a cell in `root` that joins by `token`, or without one waits until it is admitted."""
    token = given_token(token)
    place = Place(root, cache_folder(root), simulated=simulated, joined=True)
    with only_one(root):
        return run_until_interrupted(lambda interrupted: _until_interrupted(place, token, interrupted))


async def _until_interrupted(place: Place, token: str, interrupted: asyncio.Event) -> int:
    stages = Stages()
    try:
        await unless(interrupted, _join(place, token, stages))
    except Cancelled:
        stages.say("the cell is stopped; guests go on running: `./dev join` takes them over again")
    return 0


async def _join(place: Place, token: str, stages: Stages) -> None:
    with stages.stage(
        "host", "preparing this host" if not place.simulated else "simulated: no bridge, no QEMU"
    ):
        host = prepare(place, stages.say)
        settings = joining_settings(place.root, host.bridge, host.libvirtd)
        write_configuration(place.root, settings)
        if token:
            check_token(token, Role.CELL)
            configure(place.root / "config" / "cell.toml", token)
    names = JOINING if not place.simulated else ("cell",)  # nobody asks for a lease where nothing runs
    async with keeping(place, programs(place, host, names), stages) as processes:
        cell = str(settings["cell"]["id"])
        with stages.stage("joined", f"{cell} asks to be let in"):
            await _let_in(place, processes, stages)
        print(f"\n{cell} is in the zone. Ctrl-C stops the cell and leaves the guests running.", flush=True)
        await asyncio.Event().wait()  # for as long as nobody interrupts


async def _let_in(place: Place, processes: Processes, stages: Stages) -> None:
    """Returns when the cell serves; says the code for as long as an administrator is waited for."""
    async with asyncio.TaskGroup() as jobs:
        telling = jobs.create_task(_tell_code(place.root / "data" / "cell" / "identity", stages))
        await processes.wait_ready(*(each.name for each in processes.programs), limit_s=LIMIT_S)
        telling.cancel()


async def _tell_code(identity: Path, stages: Stages) -> None:
    told = ""
    while True:
        found = application.read(identity)
        if found is not None and found.state == "waiting" and found.code not in {"", told}:
            stages.say(
                f"waits to be admitted, with the code {found.code}; compare it where the zone is, and run"
            )
            stages.say(f"nanoctl cell admit {found.fingerprint[:SHORT]}")
            told = found.code
        await asyncio.sleep(LOOK_S)
