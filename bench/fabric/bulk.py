"""One large body over one stream: bytes a second, and what they cost, on loopback and over a cable.

.venv/bin/python -m bench.fabric.bulk [--quick]      as root: it makes two network namespaces and removes them

The ways take turns within each round, and each side has a core of its own. `pure` is the fabric without the
compiled helper; `stock` is aioquic as it comes, `fitted` the same told how large datagrams the path carries,
with windows of 16 MiB. Last, unary calls beside a stream that fills the same link.
"""

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.fabric import bodies
from bench.fabric.networks import LOOPBACK, Network, cable
from bench.fabric.sides import FULL, QUICK, Plan, Side, side
from bench.fabric.targets import Part, Target
from nano.fabric.identity.identity import Identity
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone

MIB = 1 << 20

PER_SECOND_MIB = {"fabric": 200, "pure": 150, "stock": 12, "fitted": 25, "grpclib": 250, "https": 512}
"""About what each way carries in a second: how much one measurement moves."""

FITTED_DATAGRAM = {"loopback": 16_000, "veth, MTU 1500": 1452, "veth, MTU 9000": 8952}


@dataclass(slots=True)
class Found:
    """Of one way on one network, a value for each round."""

    mb_per_s: list[float] = field(default_factory=list)
    server_ms_per_mib: list[float] = field(default_factory=list)
    client_ms_per_mib: list[float] = field(default_factory=list)

    def add(self, size: int, seconds: float, server_s: float, client_s: float) -> None:
        self.mb_per_s.append(size / 1e6 / seconds)
        self.server_ms_per_mib.append(server_s * 1e3 * MIB / size)
        self.client_ms_per_mib.append(client_s * 1e3 * MIB / size)

    def row(self) -> dict[str, float]:
        return {
            "mb_per_s": round(median(self.mb_per_s), 1),
            "server_ms_per_mib": round(median(self.server_ms_per_mib), 2),
            "client_ms_per_mib": round(median(self.client_ms_per_mib), 2),
        }


@contextlib.contextmanager
def without_helper() -> Iterator[None]:
    """Processes that start inside seal and open packets in Python."""
    os.environ["NANO_PURE"] = "1"
    try:
        yield
    finally:
        del os.environ["NANO_PURE"]


def start(
    way: str, network: Network, identities: tuple[Identity, Identity], up: contextlib.ExitStack
) -> tuple[Side, Side]:
    """Server and client of one way."""
    cell, scheduler = identities
    size = FITTED_DATAGRAM.get(network.name, 1452) if way == "fitted" else None
    with without_helper() if way == "pure" else contextlib.nullcontext():
        if way in {"stock", "fitted"}:
            server = up.enter_context(side(bodies.serve_stock, cell, network, size))
            arguments = scheduler, network, server.ready, size
            return server, up.enter_context(side(bodies.fetch_stock, *arguments))
        serve, fetch = {
            "fabric": (bodies.serve_fabric, bodies.fetch_fabric),
            "pure": (bodies.serve_fabric, bodies.fetch_fabric),
            "grpclib": (bodies.serve_grpclib, bodies.fetch_grpclib),
        }[way]
        server = up.enter_context(side(serve, cell, network))
        return server, up.enter_context(side(fetch, scheduler, network, server.ready))


def compare(
    plan: Plan, network: Network, identities: tuple[Identity, Identity], folder: Path, ways: list[str]
) -> dict[str, Found]:
    found = {way: Found() for way in ways}
    with contextlib.ExitStack() as up:
        sides = {way: start(way, network, identities, up) for way in ways if way != "https"}
        if "https" in ways:
            worker = up.enter_context(
                bodies.nginx(
                    identities[0], network, folder, int(PER_SECOND_MIB["https"] * plan.seconds) * MIB
                )
            )
        for _, client in sides.values():
            client.ask(MIB)  # the first one finds out how large packets may be
        for _ in range(plan.rounds):
            for way in ways:
                if way == "https":
                    before = _cpu_s(worker)
                    size, seconds, used = bodies.curl(network)
                    found[way].add(size, seconds, _cpu_s(worker) - before, used)
                    continue
                server, client = sides[way]
                size = int(PER_SECOND_MIB[way] * plan.seconds * MIB)
                before_s = server.cpu_s, client.cpu_s
                seconds = client.ask(size)
                found[way].add(size, seconds, server.cpu_s - before_s[0], client.cpu_s - before_s[1])
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def calls_beside(
    plan: Plan, network: Network, identities: tuple[Identity, Identity]
) -> tuple[dict[str, Any], float]:
    """Unary calls while the link is idle, and while a stream fills it; and the ratio of their p99."""
    cell, scheduler = identities
    p99: dict[bool, list[float]] = {False: [], True: []}
    rate = []
    with contextlib.ExitStack() as up:
        server = up.enter_context(side(bodies.serve_fabric, cell, network))
        client = up.enter_context(side(bodies.call_beside, scheduler, network, server.ready))
        for _ in range(plan.rounds):
            for loaded in (False, True):
                took, came = client.ask((loaded, plan.seconds))
                p99[loaded].append(quantiles(took, n=100)[98])
                if loaded:
                    rate.append(came / 1e6 / plan.seconds)
    idle, busy = median(p99[False]), median(p99[True])
    row = {
        "idle_p99_ms": round(idle, 2),
        "busy_p99_ms": round(busy, 2),
        "beside_mb_per_s": round(median(rate), 1),
    }
    return row, busy / idle


def measure(
    plan: Plan, folder: Path, only: list[str] | None = None, networks: list[str] | None = None
) -> Part:
    zone = make_zone(folder)
    identities = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    part = Part()
    wanted = networks or ["loopback", "1500", "9000"]
    for name in wanted:
        with contextlib.nullcontext(LOOPBACK) if name == "loopback" else cable(int(name)) as network:
            ways = only or list(PER_SECOND_MIB)
            found = compare(plan, network, identities, folder, ways)
            part.figures[network.name] = {way: one.row() for way, one in found.items()}
            for way, one in found.items():
                row = one.row()
                cost = f"server {row['server_ms_per_mib']:6.2f} client {row['client_ms_per_mib']:6.2f}"
                print(f"{network.name:15s} {way:8s} {row['mb_per_s']:7.1f} MB/s  CPU ms/MiB: {cost}")
            if name == "1500":
                part.targets += _targets(part.figures[network.name])
                beside, ratio = calls_beside(plan, network, identities)
                part.figures["calls beside bulk"] = beside
                print(f"calls beside bulk on one link: {beside}")
                part.targets.append(Target("unary p99 while bulk runs / idle", ratio, 5.0))
    return part


def _targets(row: dict[str, dict[str, float]]) -> list[Target]:
    targets = []
    if "stock" in row:
        for way, limit in (("pure", 14.0), ("fabric", 25.0)):
            for other in {"stock", "fitted"} & row.keys() if way in row else ():
                ratio = row[way]["mb_per_s"] / row[other]["mb_per_s"]
                targets.append(
                    Target(f"bulk, MTU 1500, {way} / {other} aioquic", ratio, limit, at_least=True)
                )
    if {"fabric", "grpclib"} <= row.keys():
        cost = {way: row[way]["server_ms_per_mib"] + row[way]["client_ms_per_mib"] for way in row}
        ratio = cost["fabric"] / cost["grpclib"]
        targets.append(Target("bulk, MTU 1500, CPU per MiB / grpclib", ratio, 1.5))
    return targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument(
        "--way", action="append", choices=list(PER_SECOND_MIB), help="only this one; may be repeated"
    )
    parser.add_argument("--network", action="append", choices=["loopback", "1500", "9000"], help="likewise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = measure(QUICK if options.quick else FULL, Path(folder), options.way, options.network)
    for target in part.targets:
        print(target)
    print(json.dumps({"figures": part.figures, "targets": [target.row() for target in part.targets]}))


if __name__ == "__main__":
    main()
