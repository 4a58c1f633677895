"""One large body over a path of 20 ms and 1 Gbit/s that loses packets, beside the kernel's TCP with TLS.

.venv/bin/python -m bench.fabric.paths [--quick]      as root: it makes two network namespaces and removes
them

TCP is nginx to curl, with the congestion control that the kernel is set to (the report names it). First each
way alone, in turns; then both at once over a path of 300 Mbit/s, when neither may get less than a third.
"""

import argparse
import contextlib
import json
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.fabric import bodies
from bench.fabric.networks import Network, far_path
from bench.fabric.sides import FULL, QUICK, Plan, Side, side
from bench.fabric.targets import Part, Target
from nano.fabric.identity.identity import Identity
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone

MIB = 1 << 20
ROUND_TRIP_MS, MBIT_PER_S = 20.0, 1000

SHARED_MBIT_PER_S = 300
"""Of the path that both share: so little that the path is what they share, and not this machine."""

SHARED_S = 20.0
"""A flow that comes later needs some seconds until it has its share, the kernel's as well as ours."""

LOSSES = (0.0, 0.001, 0.01, 0.03)


def alone(client: Side, network: Network, seconds: float) -> dict[str, float]:
    """MB/s of each way, one after the other, for about so many seconds each."""
    came, took, _ = bodies.curl(network, seconds)
    size = client.ask(("seconds", seconds))
    return {"tcp": came / 1e6 / took, "fabric": size / 1e6 / seconds}


def together(client: Side, network: Network, seconds: float) -> dict[str, float]:
    """The same at once."""
    found: dict[str, float] = {}

    def tcp() -> None:
        came, took, _ = bodies.curl(network, seconds)
        found["tcp"] = came / 1e6 / took

    beside = threading.Thread(target=tcp)
    beside.start()
    size = client.ask(("seconds", seconds))
    beside.join()
    return found | {"fabric": size / 1e6 / seconds}


How = Callable[[Side, Network, float], dict[str, float]]


def on_path(
    plan: Plan, how: How, network: Network, identities: tuple[Identity, Identity], folder: Path
) -> dict[str, float]:
    """Medians of all rounds."""
    cell, scheduler = identities
    with contextlib.ExitStack() as up:
        up.enter_context(bodies.nginx(cell, network, folder, 1024 * MIB))
        server = up.enter_context(side(bodies.serve_fabric, cell, network))
        client = up.enter_context(side(bodies.fetch_fabric, scheduler, network, server.ready))
        found = [how(client, network, plan.seconds) for _ in range(plan.rounds)]
    return {way: round(median(one[way] for one in found), 1) for way in ("tcp", "fabric")}


def measure(plan: Plan, folder: Path, losses: tuple[float, ...] = LOSSES) -> Part:
    zone = make_zone(folder)
    identities = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii").strip()
    part = Part(figures={"tcp": control})
    for loss in losses:
        found: dict[str, dict[str, float]] = {}
        hows: tuple[tuple[str, How, int, float], ...] = (
            ("alone", alone, MBIT_PER_S, 3 * plan.seconds),
            ("together", together, SHARED_MBIT_PER_S, SHARED_S),
        )
        for name, how, mbit_per_s, seconds in hows:
            with far_path(folder, round_trip_ms=ROUND_TRIP_MS, loss=loss, mbit_per_s=mbit_per_s) as network:
                found[name] = on_path(replace(plan, seconds=seconds), how, network, identities, folder)
        where = f"{ROUND_TRIP_MS:g} ms, loss {loss:.1%}"
        part.figures[where] = found
        print(f"{where:18s} MB/s  alone {found['alone']}  together {found['together']}")
        ratio = found["alone"]["fabric"] / max(found["alone"]["tcp"], 0.1)
        lesser = min(found["together"].values()) / max(sum(found["together"].values()), 0.1)
        if loss:
            part.targets.append(Target(f"bulk, {where}, fabric / TCP", ratio, 1.0, at_least=True))
        part.targets.append(
            Target(f"bulk, {where}, the lesser share beside TCP", lesser, 0.333, at_least=True)
        )
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--loss", type=float, action="append", help="part of the packets; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = measure(QUICK if options.quick else FULL, Path(folder), tuple(options.loss or LOSSES))
    for target in part.targets:
        print(target)
    print(json.dumps({"figures": part.figures, "targets": [target.row() for target in part.targets]}))


if __name__ == "__main__":
    main()
