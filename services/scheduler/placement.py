"""Which cell takes an instance: a pure function of what is recorded and what was last measured.

Filter, then rank; ties fall to the lowest id, so the same question has the same answer. Room is counted as
configured size against capacity times over-commit, from the moment of choice on; what a cell uses right now
only ranks. A calm cell always comes before a busy one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nano.model.errors import NoRoom
from nano.model.ids import CellId
from nano.model.instance import InstanceSpec
from nano.model.pool import Capabilities, Cell, Policy, Presence, Spread, Usage

BEST_KEPT = 10
"""How many ranked candidates a decision keeps, for people to read."""


class Refusal(StrEnum):
    """Why a cell is no candidate, in the order in which it is looked at."""

    DISABLED = "disabled"
    ABSENT = "not online"
    UNCONFIRMED = "has not given its account yet"
    FULL = "holds as many instances as it may"
    CORES = "too few cores left"
    MEMORY = "too little memory left"
    DISK = "too little disk left"


@dataclass(frozen=True, slots=True)
class Load:
    """What the instances of a cell were promised."""

    instances: int = 0
    cores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0

    def plus(self, spec: InstanceSpec) -> "Load":
        return Load(
            self.instances + 1,
            self.cores + spec.cores,
            self.memory_bytes + spec.memory_bytes,
            self.disk_bytes + spec.disk_bytes,
        )

    def minus(self, spec: InstanceSpec) -> "Load":
        return Load(
            self.instances - 1,
            self.cores - spec.cores,
            self.memory_bytes - spec.memory_bytes,
            self.disk_bytes - spec.disk_bytes,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One cell of the pool with what is promised and what was last measured on it."""

    cell: Cell
    load: Load
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    cell: CellId
    score: float
    """0 (worst) to 1 (best), rounded as it is compared."""
    busy: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice and its reasons."""

    cell: CellId
    best: tuple[Ranked, ...]
    refused: Mapping[str, int]
    """How many cells were no candidates, by reason."""


def place(spec: InstanceSpec, candidates: Iterable[Candidate], policy: Policy) -> Decision:
    """The cell that takes the instance; NoRoom says how many cells were refused for what."""
    refused: Counter[str] = Counter()
    ranked: list[Ranked] = []
    for candidate in candidates:
        refusal = refuse(spec, candidate, policy)
        if refusal is None:
            ranked.append(rank(spec, candidate, policy))
        else:
            refused[str(refusal)] += 1
    if not ranked:
        raise NoRoom(_no_room(spec, refused), field="pool", subject=spec.pool)
    ranked.sort(key=lambda one: (one.busy, -one.score, one.cell))
    return Decision(ranked[0].cell, tuple(ranked[:BEST_KEPT]), dict(refused))


def refuse(spec: InstanceSpec, candidate: Candidate, policy: Policy) -> Refusal | None:
    """Why this cell cannot take the instance, if it cannot."""
    cell, capabilities = candidate.cell, candidate.cell.capabilities
    standing = (
        (not cell.enabled, Refusal.DISABLED),
        (cell.presence is not Presence.ONLINE, Refusal.ABSENT),
        (not cell.confirmed or capabilities is None, Refusal.UNCONFIRMED),
    )
    for wrong, refusal in standing:
        if wrong:
            return refusal
    assert capabilities is not None, cell.id  # noqa: S101 - the row above
    after = candidate.load.plus(spec)
    room = (
        (after.instances > capabilities.max_instances, Refusal.FULL),
        (after.cores > capabilities.cores * policy.cores_overcommit, Refusal.CORES),
        (after.memory_bytes > capabilities.memory_bytes * policy.memory_overcommit, Refusal.MEMORY),
        (after.disk_bytes > capabilities.disk_bytes * policy.disk_overcommit, Refusal.DISK),
    )
    return next((refusal for wrong, refusal in room if wrong), None)


def rank(spec: InstanceSpec, candidate: Candidate, policy: Policy) -> Ranked:
    """How good a choice the cell is: the mean of what is left as configured and as measured."""
    capabilities, usage = candidate.cell.capabilities, candidate.usage
    assert capabilities is not None, candidate.cell.id  # noqa: S101 - `refuse` let it through
    configured = _configured_room(candidate.load.plus(spec), capabilities, policy)
    room = configured if usage is None else (configured + _measured_room(usage, policy)) / 2
    # rounded, so that noise in the last digits of a measurement does not outweigh the tie-break
    score = round(room if policy.spread is Spread.SPREAD else 1 - room, 6)
    return Ranked(candidate.cell.id, score, usage is not None and usage.cpu_percent > policy.busy_percent)


def _configured_room(after: Load, capabilities: Capabilities, policy: Policy) -> float:
    return _weighted(
        policy,
        1 - _share(after.cores, capabilities.cores * policy.cores_overcommit),
        1 - _share(after.memory_bytes, capabilities.memory_bytes * policy.memory_overcommit),
        1 - _share(after.disk_bytes, capabilities.disk_bytes * policy.disk_overcommit),
    )


def _measured_room(usage: Usage, policy: Policy) -> float:
    return _weighted(
        policy,
        1 - _share(usage.cpu_percent, 100.0),
        1 - _share(usage.memory_used_bytes, usage.memory_total_bytes),
        1 - _share(usage.disk_used_bytes, usage.disk_total_bytes),
    )


def _weighted(policy: Policy, cores: float, memory: float, disk: float) -> float:
    weights = policy.cores_weight + policy.memory_weight + policy.disk_weight
    if weights <= 0:
        return 0.0
    return (cores * policy.cores_weight + memory * policy.memory_weight + disk * policy.disk_weight) / weights


def _share(used: float, total: float) -> float:
    """`used` of `total`, kept within 0 and 1: a cell that reports nonsense is full, not better than empty."""
    return 1.0 if total <= 0 else min(1.0, max(0.0, used / total))


def _no_room(spec: InstanceSpec, refused: Counter[str]) -> str:
    wanted = f"{spec.cores} cores, {spec.memory_bytes} bytes of memory and {spec.disk_bytes} bytes of disk"
    if not refused:
        return f"pool {spec.pool} has no cell: add one before creating {spec.full_name}"
    reasons = "; ".join(f"{count} cell(s): {reason}" for reason, count in sorted(refused.items()))
    return f"pool {spec.pool} has no room for {spec.full_name} ({wanted}): {reasons}"
