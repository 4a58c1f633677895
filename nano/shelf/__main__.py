"""`python -m nano.shelf repair FOLDER`: cut a damaged shelf back to what is whole, keeping a copy."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nano.model.errors import NanoError
from nano.shelf.files import RealDisk
from nano.shelf.repair import repair


def main(arguments: Sequence[str] | None = None) -> int:
    """0: repaired, or nothing to repair; 1: not possible, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m nano.shelf", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("repair", help="keep what comes before the damage and set the rest aside")
    command.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    if not folder.is_dir():
        sys.stderr.write(f"{folder} is no folder\n")
        return 1
    try:
        done = repair(RealDisk(), folder)
    except NanoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if done is None:
        sys.stdout.write(f"{folder} is whole: nothing was changed\n")
    else:
        sys.stdout.write(
            f"{folder / done.damage.file}, line {done.damage.line}: {done.damage.why}\n"
            f"history now ends at revision {done.revision}; the files as they were: {folder / done.kept}*\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
