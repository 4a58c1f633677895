"""`./dev demo`: the whole story in a scratch folder and a network of its own; proof that nothing is left."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nano.fleet.bridge import bridge_is_there
from nano.fleet.guest_image import cache_folder
from nano.fleet.host import Place, clear
from nano.fleet.libvirtd import defined_guests
from nano.fleet.live import Fleet, guest_image, living, run_until_interrupted, unless
from nano.fleet.network_namespace import own_network
from nano.fleet.processes import processes_mentioning, processes_of
from nano.fleet.stages import Stages
from nano.fleet.up import first_instance
from nano.model.errors import Conflict


def demo(caches: Path, *, simulated: bool) -> int:
    """Create, see it answer, stop, delete, verify. `caches` is where a built guest image may be kept."""
    root = Path(tempfile.mkdtemp(prefix="nano-demo-", dir="/var/tmp"))
    place = Place(root, cache_folder(caches), simulated=simulated, isolated=True)
    stages = Stages()
    image = guest_image(place, stages)  # before its own network, from which no package can be fetched
    with own_network():
        try:
            told = run_until_interrupted(lambda interrupted: unless(interrupted, _demo(place, stages, image)))
            verified = [*told.pop("verified"), *_after(place, stages)]
        except BaseException:
            print(last_words(root), file=sys.stderr)
            raise
        finally:
            clear(place, stages.say)
            shutil.rmtree(root)
    stages.say("nothing is left")
    print(json.dumps({"seconds": stages.seconds, **told, "verified": verified}), flush=True)
    return 0


async def _demo(place: Place, stages: Stages, image: Path) -> dict[str, Any]:
    async with living(place, stages) as fleet:
        told = await first_instance(fleet, image)
        stages.say(f"{told['name']} runs on {told['cell']} with address {told['address']} and answers")
        after = await fleet.tell("remove")
        verified = _gone(fleet, after)
    return {
        "instance": told["id"],
        "address": told["address"],
        "simulated": told["simulated"],
        "verified": verified,
    }


def _gone(fleet: Fleet, after: dict[str, Any]) -> list[str]:
    """What must be gone once the instance is deleted, while the services still run."""
    checks: dict[str, Callable[[], object]] = {
        "no instance": lambda: after["instances"],
        "no lease": lambda: after["leases"],
        "no task open": lambda: after["open_tasks"],
        "no volume": lambda: [each.name for each in volumes(fleet.place.root)],
    }
    if fleet.host.libvirtd is not None:
        uri = fleet.host.libvirtd.uri
        checks["no domain"] = lambda: defined_guests(uri)
    return _verified(checks)


def _after(place: Place, stages: Stages) -> list[str]:
    """What must be gone once the fleet is stopped and cleared."""
    claims = _verified({"no claim": lambda: claims_in(place.root)})
    with stages.stage("clear", "clearing the host"):
        clear(place, stages.say)
    return claims + _verified(
        {
            "no bridge": lambda: bridge_is_there("nano0"),
            "no process": lambda: {**processes_of(place.root), **processes_mentioning(place.root)},
        }
    )


def last_words(root: Path, lines: int = 5) -> str:
    """The end of each log, since the folder goes."""
    logs = sorted((root / "log").glob("*.log"))
    ends = (f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-lines:])
    return "\n".join(ends)


def claims_in(root: Path) -> list[str]:
    """What tasks still hold, as the scheduler wrote its book when it stopped: open ones keep claims."""
    written = json.loads((root / "data" / "scheduler" / "shelf" / "tasks.json").read_text())
    open_tasks = [task for task in written["nouns"] if "ended_ms" not in task]
    return [claim for task in open_tasks for claim in task.get("claims", [])]


def volumes(root: Path) -> list[Path]:
    """The disks of instances below the cell's folder."""
    return [path for path in (root / "data" / "cell" / "storage" / "volumes").rglob("*") if path.is_file()]


def _verified(checks: dict[str, Callable[[], object]]) -> list[str]:
    """The names of the checks, each of which found nothing; `Conflict` names what one did find."""
    for name, look in checks.items():
        if found := look():
            raise Conflict(f"the demo leaves something behind: {name} expected, found {found!r}")
    return list(checks)
