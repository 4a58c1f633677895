"""`./dev join`: this machine becomes a cell of a zone elsewhere, in the foreground, until Ctrl-C.

How it stands it has from the cell, which writes it down (`nano/outlook.py`): each change of it is said.
"""

import asyncio
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from nano.fabric.joining import standing
from nano.fabric.joining.standing import Standing, State
from nano.fleet.configuration import JOINING, joining_settings, write_configuration
from nano.fleet.guest_image import cache_folder
from nano.fleet.host import Host, Place, prepare
from nano.fleet.live import keeping, programs, run_until_interrupted, unless
from nano.fleet.processes import Processes, only_one
from nano.fleet.stages import Stages
from nano.join_files import (
    check_token,
    check_zone,
    configure,
    given_token,
    kept_token,
    scheduler_address,
    start_over,
)
from nano.join_status import SHORT, Told
from nano.model.errors import Cancelled, Forbidden, Untrusted
from nano.model.peers import Role

LIMIT_S = 7 * 24 * 3600.0
"""How long an administrator may take: longer than any weekend."""
LOOK_S = 0.25
STRANGE_S = 5.0
"""For how long somebody of another zone may answer, and nobody else, where the token says that the scheduler
is."""
CONFIRMED_S = 15.0
"""How long a cell that is in a zone since before may be unheard of by its scheduler before that is said."""

_JOIN = "stop this, and run ./dev join -"
_GIVEN_UP = "this token is not used again; `nanoctl token create`, where the zone is, makes another"
_KEPT = "its secret was not said, and it is kept: ./dev join tries it again, ./dev join - takes another one"


def join(root: Path, token: str, *, scheduler: str = "", simulated: bool, anew: bool = False) -> int:
    """Start a cell in `root` that joins by `token`, or without one waits until it is admitted. `scheduler`,
    as `host` or `host:port`, is for networks where multicast does not reach it. With `anew` it forgets first
    which zone it is in, or has asked.

    `Forbidden` when the zone's scheduler refuses the token: it is thrown away then. `Untrusted` when somebody
    else answers where it should be: that may be anybody, and the token is kept.
    """
    token = given_token(token)
    if token:
        check_token(token, Role.CELL)
    if scheduler:
        scheduler = scheduler_address(scheduler)
    asked = Asked(token, scheduler, anew)
    place = Place(root, cache_folder(root), simulated=simulated, joined=True)
    with only_one(root):
        return run_until_interrupted(lambda interrupted: _until_interrupted(place, asked, interrupted))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants of this try."""

    token: str
    scheduler: str
    anew: bool


async def _until_interrupted(place: Place, asked: Asked, interrupted: asyncio.Event) -> int:
    stages = Stages()
    try:
        await unless(interrupted, _join(place, asked, stages))
    except Cancelled:
        stages.say("the cell is stopped; guests go on running: `./dev join` takes them over again")
    return 0


async def _join(place: Place, asked: Asked, stages: Stages) -> None:
    with stages.stage(
        "host", "preparing this host" if not place.simulated else "simulated: no bridge, no QEMU"
    ):
        host = prepare(place, stages.say)
        server = _configured(place, host, asked, stages)
    names = JOINING if not place.simulated else ("cell",)  # nobody asks for a lease where nothing runs
    async with keeping(place, programs(place, host, names), stages) as processes:
        stages.say(f"{server.cell} starts" + (", with a join token" if asked.token else ""))
        async with asyncio.TaskGroup() as jobs:
            started = jobs.create_task(_started(processes))
            await Telling(server, stages, started).run()


async def _started(processes: Processes) -> None:
    await processes.wait_ready(*(each.name for each in processes.programs), limit_s=LIMIT_S)


@dataclass(frozen=True, slots=True)
class Server:
    """The cell that joins."""

    cell: str
    file: Path
    """Its configuration."""
    identity: Path
    began_ms: int
    """What was written down before is of an earlier try."""


def _configured(place: Place, host: Host, asked: Asked, stages: Stages) -> Server:
    """The files of the cell as they are to be for this try."""
    settings = joining_settings(place.root, host.bridge, host.libvirtd)
    write_configuration(place.root, settings)
    file = place.root / "config" / "cell.toml"
    identity = place.root / "data" / "cell" / "identity"
    if asked.anew:
        for line in start_over(identity):
            stages.say(line)
    known = standing.read(identity)
    if asked.token:
        check_zone(identity, asked.token)
        configure(file, asked.token, asked.scheduler)
    elif asked.anew or (known is not None and known.state is State.TOKEN_REFUSED):
        configure(file, "", asked.scheduler)
    elif asked.scheduler:
        configure(file, kept_token(file), asked.scheduler)
    cell = str(tomllib.loads(file.read_text()).get("id", settings["cell"]["id"]))
    return Server(cell, file, identity, time.time_ns() // 1_000_000)


class Telling:
    """Says each change of how the server stands."""

    def __init__(self, server: Server, stages: Stages, started: asyncio.Task[None]) -> None:
        self._server = server
        self._stages = stages
        self._started = started
        self._token = kept_token(server.file)
        self._said: list[str] = []
        self._strange_since: float | None = None
        self._ready_since: float | None = None

    async def run(self) -> None:
        """Until cancelled. `Forbidden`: the token is of no use. `Untrusted`: not where it leads to now."""
        while True:
            self.tell(Told(self._server.identity, Role.CELL, _JOIN), time.monotonic())
            await asyncio.sleep(LOOK_S)

    def tell(self, told: Told, now_s: float) -> None:
        """Say what is so at `now_s`, once; what was written down before this try is passed over."""
        found = told.found
        if found is not None and found.said_ms >= self._server.began_ms:
            self._check_token(found, now_s)
            lines = self._lines(found, told, now_s)
        else:
            lines = self._unheard(told, now_s)
        if lines and lines != self._said:
            self._said = lines
            for line in lines:
                self._stages.say(line)

    def _check_token(self, found: Standing, now_s: float) -> None:
        """A token that is of no use must not be what the next start asks with; that it is of none, only a
        scheduler can say that it names."""
        if found.state is State.TOKEN_REFUSED:
            configure(self._server.file, "")
            raise Forbidden(f"{found.why}; {_GIVEN_UP}")
        if found.state is not State.ASKS or not found.doubt or not self._token:
            self._strange_since = None
            return
        self._strange_since = self._strange_since or now_s
        if now_s - self._strange_since > STRANGE_S:
            raise Untrusted(f"{found.doubt}; {_KEPT}")

    def _lines(self, found: Standing, told: Told, now_s: float) -> list[str]:
        match found.state:
            case State.JOINED if not found.doubt and found.heard_ms < self._server.began_ms:
                return self._unheard(told, now_s)
            case State.JOINED if not found.doubt:
                stops = "Ctrl-C stops the cell and leaves the guests running."
                return [f"{self._server.cell} is in the zone. {stops}"] if self._started.done() else []
            case State.WAITS if told.code:
                compare = "compare it where the zone is, and run"
                return [
                    f"waits to be admitted, with the code {told.code}; {compare}",
                    f"nanoctl cell admit {told.fingerprint[:SHORT]}",
                ]
            case State.ASKS if not found.why:
                return ["asks to be let in, and looks for the scheduler"]
        return told.lines()

    def _unheard(self, told: Told, now_s: float) -> list[str]:
        """It runs by what it is since before; nobody has confirmed that yet."""
        if not self._started.done() or told.member is None:
            return []
        self._ready_since = self._ready_since or now_s
        if now_s - self._ready_since <= CONFIRMED_S:
            return []
        before = f"{self._server.cell} runs, and was let into the zone {told.member.named} before"
        return [f"{before}; its scheduler is not heard now, and is looked for"]
