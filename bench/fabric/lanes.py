"""What several processes with a link each would carry: as many pairs of server and client, at once.

.venv/bin/python -m bench.fabric.lanes [--quick]  as root: it makes two network namespaces and removes them

Each pair is a server and a client in processes of their own, over one cable of MTU 1500, with cores of their
own as far as there are as many. On a machine of two cores one pair has both.
"""

import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.fabric import bodies
from bench.fabric.networks import Network, cable
from bench.fabric.sides import FULL, QUICK, Plan, Side, side
from bench.fabric.targets import Part
from nano.fabric.identity.identity import Identity
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone

PAIRS = (1, 2, 4)
MIB = 1 << 20


def at_once(sides: list[tuple[Side, Side]], seconds: float) -> tuple[float, float]:
    """MB/s of all pairs together, and their milliseconds of CPU per MiB."""
    before = sum(one.cpu_s for pair in sides for one in pair)
    for _, client in sides:
        client.begin(("seconds", seconds))
    came = sum(client.answer() for _, client in sides)
    used = sum(one.cpu_s for pair in sides for one in pair) - before
    return came / 1e6 / seconds, used * 1e3 * MIB / came


def of_pairs(
    pairs: int, plan: Plan, network: Network, identities: tuple[Identity, Identity]
) -> dict[str, Any]:
    cell, scheduler = identities
    with contextlib.ExitStack() as up:
        sides = []
        for number in range(pairs):
            server = up.enter_context(side(bodies.serve_fabric, cell, network, 2 * number))
            client = up.enter_context(
                side(bodies.fetch_fabric, scheduler, network, server.ready, 2 * number + 1)
            )
            client.ask(MIB)  # the first one finds out how large packets may be
            sides.append((server, client))
        found = [at_once(sides, plan.seconds) for _ in range(plan.rounds)]
    return {
        "mb_per_s": round(median(rate for rate, _ in found), 1),
        "ms_per_mib": round(median(cost for _, cost in found), 2),
    }


def measure(plan: Plan, folder: Path) -> Part:
    zone = make_zone(folder)
    identities = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    part = Part(figures={"cores": os.cpu_count()})
    with cable(1500) as network:
        for pairs in PAIRS:
            part.figures[str(pairs)] = found = of_pairs(pairs, plan, network, identities)
            print(f"{pairs} pairs  {found['mb_per_s']:7.1f} MB/s  CPU ms/MiB {found['ms_per_mib']:5.2f}")
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of a minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = measure(QUICK if options.quick else FULL, Path(folder))
    print(json.dumps({"figures": part.figures}))


if __name__ == "__main__":
    main()
