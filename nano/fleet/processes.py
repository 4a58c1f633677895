"""Keeps Nano's processes running: starts them in any order, starts again what dies, stops them at the end.

Standard library only: this process lives as long as the fleet does, and its memory counts. What each program
prints goes to `log/<name>.log`; that it serves it says by sd_notify(3), to a socket of ours or systemd's.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from nano.fleet.tools import Progress
from nano.model.errors import Busy, TimedOut

MARK = "NANO_FLEET"
"""A variable in the environment of each process of a fleet; it holds the fleet's folder."""

PATIENCE_S = 10.0
"""From the request to stop until the program is killed."""

LOG_BYTES = 8 * 1024 * 1024
"""A log that is larger is moved to `<name>.log.1`, in place of the one before."""

_CALM_S = 60.0
"""A program that ran this long before it died has not been failing: the next start comes at once."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep. `lasting` ones are stopped after all others, because those stand on them."""

    name: str
    command: tuple[str, ...]
    lasting: bool = False


def restart_delay_s(failures: int) -> float:
    """How long to wait after the n-th failure in a row: half a second, doubled up to half a minute."""
    return min(0.5 * 2.0 ** (failures - 1), 30.0)


@dataclass(slots=True)
class Processes:
    """The programs of one fleet; `root` has `log/` and `run/`. `say` is told what a person should know."""

    root: Path
    programs: tuple[Program, ...]
    say: Progress
    deaths: int = 0
    """How often a program died by itself so far."""
    _ready: dict[str, asyncio.Event] = field(default_factory=dict)
    _running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Start all, start again those that die, until `stop()`; returns when all have ended."""
        for folder in ("log", "run"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as jobs:
            for program in self.programs:
                jobs.create_task(self._keep(program), name=program.name)
            rotation = jobs.create_task(self._rotate_logs(), name="logs")
            await self._stopping.wait()
            for lasting in (False, True):
                await self._stop([each for each in self.programs if each.lasting is lasting])
            rotation.cancel()

    def stop(self) -> None:
        """Ask `keep` to end."""
        self._stopping.set()

    async def wait_ready(self, *names: str, limit_s: float = 60.0) -> None:
        """Returns when the named programs serve. `TimedOut` says who does not, with its last log lines."""
        for name in names:
            try:
                await asyncio.wait_for(self._event(name).wait(), limit_s)
            except TimeoutError:
                tail = "\n".join(_last_lines(self._log(name)))
                raise TimedOut(
                    f"{name} did not get ready within {limit_s:.0f} s; the end of {self._log(name)}:\n{tail}",
                    subject=name,
                ) from None

    async def _keep(self, program: Program) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started, log = loop.time(), self._log(program.name)
            said_before = log.stat().st_size if log.exists() else 0
            status = await self._run(program)
            self._event(program.name).clear()
            if self._stopping.is_set():
                return
            self.deaths += 1
            failures = 1 if loop.time() - started > _CALM_S else failures + 1
            delay_s = restart_delay_s(failures)
            words = last_words(log, said_before) if status > 0 else ""  # who was killed said nothing of it
            self.say(f"{program.name} {_how_it_ended(status)}{words}: starting it again in {delay_s:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def _run(self, program: Program) -> int:
        """One life of the program; its exit status, negative for the signal that ended it."""
        ready = self._event(program.name).set
        with _notify_socket(program.name, ready) as address, self._open_log(program) as log:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": address, MARK: str(self.root)},
                # A terminal's Ctrl-C is for us: we stop the programs in order.
                start_new_session=True,
            )
            return await self._until_it_ends(program, process)

    async def _until_it_ends(self, program: Program, process: asyncio.subprocess.Process) -> int:
        pid_file = self.root / "run" / f"{program.name}.pid"
        pid_file.write_text(f"{process.pid}\n")
        self._running[program.name] = process
        if self._stopping.is_set():  # the request came while it was being started
            _signal(process, signal.SIGTERM)
        try:
            return await process.wait()
        except asyncio.CancelledError:  # another keeper failed: leave nothing running behind us
            _signal(process, signal.SIGKILL)
            await process.wait()
            raise
        finally:
            del self._running[program.name]
            pid_file.unlink(missing_ok=True)

    async def _stop(self, programs: list[Program]) -> None:
        """Ask, wait, then kill. Who is between two lives has nothing to stop."""
        alive = [self._running[each.name] for each in programs if each.name in self._running]
        for process in alive:
            _signal(process, signal.SIGTERM)
        waits = [asyncio.ensure_future(process.wait()) for process in alive]
        if waits:
            _, late = await asyncio.wait(waits, timeout=PATIENCE_S)
            for process, wait in zip(alive, waits, strict=True):
                if wait in late:
                    self.say(f"process {process.pid} did not stop within {PATIENCE_S:.0f} s: killing it")
                    _signal(process, signal.SIGKILL)
            await asyncio.gather(*waits)

    async def _rotate_logs(self) -> None:
        while True:
            for program in self.programs:
                rotate(self._log(program.name))
            await asyncio.sleep(10.0)

    def _event(self, name: str) -> asyncio.Event:
        return self._ready.setdefault(name, asyncio.Event())

    def _log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    @contextlib.contextmanager
    def _open_log(self, program: Program) -> Iterator[int]:
        descriptor = os.open(self._log(program.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _notify_socket(name: str, ready: Callable[[], None]) -> Iterator[str]:
    """An sd_notify(3) address in Linux's abstract namespace: no path, hence no limit on the root's length."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        address = f"nano/{os.getpid()}/{id(receiver)}/{name}"
        receiver.bind("\0" + address)

        def receive() -> None:
            if b"READY=1" in receiver.recv(4096).split(b"\n"):
                ready()

        loop.add_reader(receiver, receive)
        try:
            yield "@" + address
        finally:
            loop.remove_reader(receiver)


def rotate(log: Path, limit_bytes: int = LOG_BYTES) -> None:
    """Copy a large log aside and empty it: the program keeps its descriptor, opened to append."""
    if log.exists() and log.stat().st_size > limit_bytes:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _last_lines(log: Path, count: int = 12) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []


def last_words(log: Path, since_bytes: int) -> str:
    """The last line behind that place, in brackets; of a line of JSON what it calls the error, else
    nothing."""
    with log.open("rb") as file:
        file.seek(since_bytes)
        lines = file.read().decode(errors="replace").strip().splitlines()
    if not lines:
        return ""
    with contextlib.suppress(ValueError):
        document = json.loads(lines[-1])
        return f" ({document['error']})" if isinstance(document, dict) and "error" in document else ""
    return f" ({lines[-1][:_WORDS]})"


_WORDS = 200


def _how_it_ended(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        process.send_signal(number)


def processes_of(root: Path) -> dict[int, str]:
    """Command line by pid of every living process of the fleet in `root`, but not our own."""
    mark = f"{MARK}={root}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended while we looked
            if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
    return found


def processes_mentioning(folder: Path) -> dict[int, str]:
    """Command line by pid of every process with `folder` in its arguments: QEMU has no mark of ours."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended while we looked
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if str(folder) in command and int(entry.name) != os.getpid():
                found[int(entry.name)] = command
    return found


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the fleet of `root` for this process; `Busy` names the process that holds it already."""
    path = root / "run" / "fleet.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _locked(file):
            raise Busy(
                f"the fleet in {root} is already up (process {holder(root)}); `./dev down` stops it",
                subject=str(root),
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def holder(root: Path) -> int | None:
    """The process that holds the fleet of `root` now; None when none does."""
    path = root / "run" / "fleet.pid"
    if not path.exists():
        return None
    with path.open() as file:
        return None if _locked(file) else int(file.read() or 0)


def _locked(file: TextIO) -> bool:
    """Lock the file while it is open; False when another process has it. The lock ends with its holder."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
