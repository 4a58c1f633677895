"""What the services of a zone have on their disks: all that a restart would find."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nano import codec
from nano.model.ids import InstanceId
from nano.saga.outcomes import OutcomeRecord
from nano.shelf.book import Book
from nano.shelf.files import RealDisk
from nano.shelf.folder import load
from services.addresspool.ledger import Ledger
from services.cell.host import Host
from services.cell.sim import SimMachine
from services.imagestore.catalog import Catalog
from services.scheduler.inventory import Inventory

B = TypeVar("B", bound=Book[Any])

EVERYWHERE = frozenset({"record", "status", "lease", "held", "domain", "volumes", "cell status"})
"""Where an instance is when it is whole."""


def scheduler_book(folder: Path) -> Inventory:
    return _book(folder, "scheduler", Inventory)


def _book(folder: Path, service: str, kind: type[B]) -> B:
    return load(RealDisk(), folder / service / "shelf", kind).book


@dataclass
class Remains:
    """Read from the folders of the services, not from their memory."""

    scheduler: Inventory
    imagestore: Catalog
    addresspool: Ledger
    cell: Host
    machines: list[SimMachine]
    """Those of the pretended hypervisor."""
    volumes: list[str]
    """Names below the cell's volumes."""
    halves: list[str]
    """What is half-made or half-removed below the cell's storage."""

    @classmethod
    def read(cls, folder: Path) -> "Remains":
        machines = folder / "cell" / "machines.json"
        storage = folder / "cell" / "storage"
        return cls(
            scheduler_book(folder),
            _book(folder, "imagestore", Catalog),
            _book(folder, "addresspool", Ledger),
            _book(folder, "cell", Host),
            codec.decode(machines.read_bytes(), list[SimMachine]) if machines.exists() else [],
            sorted(each.name for each in (storage / "volumes").iterdir()),
            sorted(str(each) for each in storage.rglob("*") if each.suffix in {".partial", ".removed"}),
        )

    def where(self, instance: InstanceId) -> set[str]:
        """Everything in the zone that knows of the instance."""
        found = {
            "record": instance in self.scheduler.instances,
            "status": instance in self.scheduler.statuses,
            "lease": any(lease.instance == instance for lease in self.addresspool.leases.values()),
            "held": instance in self.cell.instances,
            "domain": any(machine.instance == instance for machine in self.machines),
            "volumes": instance in self.volumes,
            "cell status": self.cell.statuses.of(instance) is not None,
        }
        return {name for name, there in found.items() if there}

    def of_tasks(self) -> dict[str, object]:
        """What no task may leave behind once it has ended, however it ended."""
        tasks = self.scheduler.tasks
        found = {
            "open": sorted(tasks.open),
            "claims": len(tasks.claims),
            "debts": {at: list(owed) for at, owed in tasks.debts.items()},
            "pins": self.imagestore.snapshot()["pins"],
            "outcomes": [(record.task, record.key, record.progress) for record in self._outcomes()],
            "halves": self.halves,
        }
        return {name: left for name, left in found.items() if left}

    def of_instances(self) -> dict[str, object]:
        """Every instance, of whatever task: empty in a zone without any."""
        found = {
            "records": sorted(self.scheduler.instances),
            "statuses": sorted(self.scheduler.statuses),
            "leases": sorted(self.addresspool.leases),
            "held": sorted(self.cell.instances),
            "domains": [machine.instance for machine in self.machines],
            "volumes": self.volumes,
            "cell statuses": [status.instance for status in self.cell.statuses],
        }
        return {name: left for name, left in found.items() if left}

    def _outcomes(self) -> Iterator[OutcomeRecord]:
        for book in (self.imagestore, self.addresspool, self.cell):
            yield from book.outcomes
