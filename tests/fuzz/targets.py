"""All targets by name."""

from tests.fuzz import decoders, door, links
from tests.fuzz.target import Target

_ALL = (*decoders.TARGETS, *door.TARGETS, *links.TARGETS)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
