"""Runs every part of the fabric's benchmark and holds what it found against the targets.

.venv/bin/python -m bench.fabric [--quick] [--only PART]    prints figures, and ends in one line of JSON

All sides run on this machine: what else runs on it moves the absolute figures, so only the ratios of one run
mean anything.
"""

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path

from bench.fabric.sides import FULL, QUICK, Plan
from bench.fabric.targets import Part

PARTS = [
    name
    for name in ("calls", "samples", "links", "storm", "bulk", "lanes", "paths")
    if importlib.util.find_spec(f"bench.fabric.{name}") is not None
]


def _measure(name: str, plan: Plan) -> Part:
    part = importlib.import_module(f"bench.fabric.{name}")
    with tempfile.TemporaryDirectory() as folder:
        found: Part = part.measure(plan, Path(folder))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute or two instead of many")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    options = parser.parse_args()
    found = {}
    for name in options.only or PARTS:
        print(f"-- {name}")
        found[name] = _measure(name, QUICK if options.quick else FULL)
        for target in found[name].targets:
            print(target)
    rows = [target.row() for part in found.values() for target in part.targets]
    print(json.dumps({"figures": {name: part.figures for name, part in found.items()}, "targets": rows}))


if __name__ == "__main__":
    main()
