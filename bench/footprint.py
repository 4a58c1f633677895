"""What a running fleet costs: memory and processor of each of its processes, over a while.

    ./dev up                                   # in another terminal, wait for the first instance
    python -m bench.footprint [--root var] [--seconds 60] [--console first]

With `--console` a browser watches that instance's screen meanwhile; it is not counted, it is not ours.
Memory is the proportional set size (PSS of proc(5)): what is shared counts by its share, so the sum
over processes is what they take from the machine. libvirtd and QEMU are shown apart, they are not ours.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nano.fleet.configuration import first_start_code
from tests.support.browser import PASSWORD, URL, chromium, person

TICKS_S = os.sysconf("SC_CLK_TCK")
FOREIGN = ("libvirtd", "qemu-system", "virtlogd")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    foreign: bool


def processes(root: Path) -> list[Process]:
    """Every process whose environment names this fleet (`NANO_FLEET`), and its supervisor."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue  # it ended, or is a kernel thread of somebody else
        words = [word.decode(errors="replace") for word in command]
        ours = f"NANO_FLEET={root}".encode() in environment
        supervisor = "nano.fleet" in words and "up" in words
        if ours or supervisor:
            name = (
                " ".join(words[words.index("-m") + 1 : words.index("-m") + 2]) if "-m" in words else words[0]
            )
            found.append(Process(int(entry.name), name, any(word in words[0] for word in FOREIGN)))
    return sorted(found, key=lambda one: (one.foreign, one.name, one.pid))


def pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    """Seconds of processor so far, user and system (proc(5) stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("var"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--console", default="", help="the name of a running instance")
    parser.add_argument("--password", default="", help="of the portal's user admin, once there is one")
    arguments = parser.parse_args()
    with watching(arguments.console, arguments.root.resolve(), arguments.password):
        measure(arguments.root, arguments.seconds)


@contextlib.contextmanager
def watching(instance: str, root: Path, password: str) -> Iterator[None]:
    """A page with an open console; sets the portal up when nobody has."""
    if not instance:
        yield
        return
    with chromium() as browser, person(browser) as somebody:
        code = first_start_code(root)
        if code:
            somebody.first_start(code)
        else:
            somebody.page.goto(URL)
            somebody.log_in("admin", password or PASSWORD)
        somebody.open_console(instance)
        yield


def measure(root: Path, seconds: float) -> None:
    fleet = processes(root.resolve())
    if not fleet:
        raise SystemExit(f"no process of a fleet in {root.resolve()}: start it with ./dev up")
    before = {one.pid: cpu_s(one.pid) for one in fleet}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    totals = {False: [0.0, 0.0], True: [0.0, 0.0]}
    print(f"{'process':40} {'PSS MiB':>8} {'CPU %':>7}")
    for one in fleet:
        memory, share = pss_kib(one.pid) / 1024, 100 * (cpu_s(one.pid) - before[one.pid]) / elapsed
        totals[one.foreign][0] += memory
        totals[one.foreign][1] += share
        print(f"{one.name[-40:]:40} {memory:8.1f} {share:7.2f}{'   (not ours)' if one.foreign else ''}")
    print(f"{'Nano, all together':40} {totals[False][0]:8.1f} {totals[False][1]:7.2f}   over {elapsed:.0f} s")


if __name__ == "__main__":
    main()
