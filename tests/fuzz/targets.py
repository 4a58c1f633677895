"""All targets by name."""

from tests.fuzz import decoders, links
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (*decoders.TARGETS, *links.TARGETS)}
