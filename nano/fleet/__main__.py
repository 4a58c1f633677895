"""`python -m nano.fleet up|join|down|demo`, as `./dev` calls it from the checkout's folder."""

import argparse
import sys
from pathlib import Path
from typing import Any

from nano.fleet.demo import demo
from nano.fleet.up import down, up
from nano.model.errors import NanoError


def main() -> int:
    """Run one verb; the exit status is 1, with the reason, when it could not be done."""
    arguments = _arguments(sys.argv[1:])
    root = arguments.root.absolute()
    try:
        match arguments.verb:
            case "up":
                return up(root, simulated=arguments.simulated, is_open=arguments.open)
            case "join":
                # What it needs to read tokens would lie in the memory of every other fleet.
                from nano.fleet.join import join  # noqa: PLC0415

                return join(
                    root,
                    arguments.token,
                    scheduler=arguments.scheduler,
                    simulated=arguments.simulated,
                    anew=arguments.start_over,
                )
            case "down":
                return down(root)
            case _:
                return demo(root, simulated=arguments.simulated)
    except* NanoError as failures:
        for reason in reasons(failures):
            print(f"./dev {arguments.verb}: {reason}", file=sys.stderr)
    return 1


def _arguments(words: list[str]) -> argparse.Namespace:
    """Each verb has options, and a help, of its own."""
    front = argparse.ArgumentParser(prog="./dev", add_help=False)
    front.add_argument("verb", choices=("up", "join", "down", "demo"))
    front.add_argument("--root", type=Path, default=Path("var"), help="the fleet's folder")
    found, rest = front.parse_known_args(words)
    what = {
        "up": "Start Nano on this machine with a first instance. Ctrl-C stops it, guests go on.",
        "join": "Make this machine a cell of a zone elsewhere: by a token of `nanoctl token create`, or "
        "without one wait until `nanoctl cell admit` lets it in. Ctrl-C stops the cell, guests go on.",
        "down": "Stop guests and services, remove the bridge.",
        "demo": "The whole story in a scratch folder: create, check, delete, verify.",
    }
    verb = argparse.ArgumentParser(prog=f"./dev {found.verb}", description=what[found.verb])
    if found.verb == "join":
        verb.add_argument("token", nargs="?", default="", help="the token, or - to read it; none: wait")
        verb.add_argument(
            "--scheduler",
            default="",
            metavar="HOST[:PORT]",
            help="where it is, where multicast does not reach it; kept",
        )
        verb.add_argument(
            "--start-over",
            action="store_true",
            help="forget which zone this machine is in or asks, its certificate, and a key that was removed",
        )
    if found.verb == "up":
        reach = verb.add_mutually_exclusive_group()
        reach.add_argument(
            "--open", action="store_true", default=None, help="let servers elsewhere join, from now on"
        )
        reach.add_argument(
            "--closed", dest="open", action="store_false", help="be reached from this host alone again"
        )
    if found.verb != "down":
        verb.add_argument("--simulated", action="store_true", help="no QEMU: cells only pretend")
    verb.add_argument("--root", metavar="FOLDER", help="the fleet's folder; default: var")  # taken in front
    return verb.parse_intermixed_args(rest, found)


def reasons(failures: BaseExceptionGroup[Any]) -> list[str]:
    """Each failure once, in its own words."""
    flat: list[str] = []
    for each in failures.exceptions:
        flat += reasons(each) if isinstance(each, BaseExceptionGroup) else [str(each)]
    return list(dict.fromkeys(flat))


if __name__ == "__main__":
    sys.exit(main())
