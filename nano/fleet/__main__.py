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
    parser = argparse.ArgumentParser(prog="./dev")
    parser.add_argument("verb", choices=("up", "join", "down", "demo"))
    parser.add_argument("token", nargs="?", default="", help="join: by this token; none: wait to be admitted")
    parser.add_argument("--simulated", action="store_true", help="no QEMU: cells only pretend")
    parser.add_argument("--open", action="store_true", help="up: let servers elsewhere join")
    parser.add_argument("--root", type=Path, default=Path("var"), help="the fleet's folder")
    arguments = parser.parse_intermixed_args()
    root = arguments.root.absolute()
    try:
        match arguments.verb:
            case "up":
                return up(root, simulated=arguments.simulated, is_open=arguments.open)
            case "join":
                # What it needs to read tokens would lie in the memory of every other fleet.
                from nano.fleet.join import join  # noqa: PLC0415

                return join(root, arguments.token, simulated=arguments.simulated)
            case "down":
                return down(root)
            case _:
                return demo(root, simulated=arguments.simulated)
    except* NanoError as failures:
        for reason in reasons(failures):
            print(f"{parser.prog} {arguments.verb}: {reason}", file=sys.stderr)
    return 1


def reasons(failures: BaseExceptionGroup[Any]) -> list[str]:
    """Each failure once, in its own words."""
    flat: list[str] = []
    for each in failures.exceptions:
        flat += reasons(each) if isinstance(each, BaseExceptionGroup) else [str(each)]
    return list(dict.fromkeys(flat))


if __name__ == "__main__":
    sys.exit(main())
