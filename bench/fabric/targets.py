"""What the fabric promises of its speed, and whether one run kept it."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table: `measured` has to be at least, or at most, `limit`."""

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        word = "met" if self.is_met else "MISSED"
        return f"{word:7s} {self.what}: {self.measured:.2f} ({sign} {self.limit:g})"

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"measured": round(self.measured, 3), "met": self.is_met}


@dataclass(slots=True)
class Part:
    """What one part of the benchmark found: every figure, and those that there is a target for."""

    figures: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
