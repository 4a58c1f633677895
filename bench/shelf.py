"""Commits per second that a shelf takes, against one write and one sync for each of the same lines.

.venv/bin/python -m bench.shelf [FOLDER on the disk to be measured]     ends in one line of JSON
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from nano.shelf import Shelf
from nano.shelf.journal import Entry, entry_line
from tests.support.bank import Bank

SECONDS = 2.0


async def with_clients(folder: Path, clients: int) -> dict[str, float]:
    """Each client waits for its commit to be durable before it makes the next."""
    waits: list[float] = []

    async def client(shelf: Shelf[Bank], name: str, until: float) -> None:
        while (began := time.perf_counter()) < until:
            await shelf.durable(shelf.commit(*shelf.book.transfer(name, "bank", 1)))
            waits.append(time.perf_counter() - began)

    async with Shelf.open(folder, Bank) as shelf:
        until = time.perf_counter() + SECONDS
        async with asyncio.TaskGroup() as jobs:
            for number in range(clients):
                jobs.create_task(client(shelf, f"client-{number}", until))
    return {
        "clients": clients,
        "commits_per_s": round(len(waits) / SECONDS),
        "p50_ms": round(quantiles(waits, n=100)[49] * 1000, 2),
        "p99_ms": round(quantiles(waits, n=100)[98] * 1000, 2),
    }


def one_sync_each(path: Path) -> int:
    line = entry_line("00000000", Entry(1, b'[{"type":"moved"}]'.ljust(120)), at=0, durable=0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    count, until = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        os.pwrite(descriptor, line, count * len(line))
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return round(count / SECONDS)


def main(folder: Path) -> None:
    result = {
        "one_sync_each_per_s": one_sync_each(folder / "plain"),
        "shelf": [asyncio.run(with_clients(folder / f"bank-{n}", n)) for n in (1, 10, 100, 1000)],
    }
    for row in result["shelf"]:  # type: ignore[attr-defined]  # the list of the two
        print(
            "{clients:5} clients  {commits_per_s:7} commits/s  p50 {p50_ms} ms  p99 {p99_ms} ms".format(**row)
        )
    print(json.dumps(result))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        main(Path(scratch))
