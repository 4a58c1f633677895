"""How the zone changes its authority: what a phase waits for, and what comes next.

    steady ──begin──▶ introducing ──all know it──▶ moving ──all have renewed──▶ steady
                      old, new trusted             new, old                    new

Pure: members' acknowledgements in, the next state out. After a crash the same members give the same answer,
so a rotation goes on from wherever it stood.
"""

from collections.abc import Iterable
from dataclasses import replace

from nano.model.errors import Conflict, Invalid
from nano.model.membership import Member, Phase, Trust

_NAMED = 5


def waiting_for(trust: Trust, members: Iterable[Member]) -> list[str]:
    """The members that the phase waits for, as `role/id`, in order."""
    match trust.phase:
        case Phase.STEADY:
            return []
        case Phase.INTRODUCING:
            late = (one for one in members if one.trust_revision < trust.since_revision)
        case Phase.MOVING:
            late = (one for one in members if one.issuer != trust.trusted[0])
    return sorted(str(one.peer) for one in late if str(one.peer) not in trust.left_behind)


def check_steady(trust: Trust, members: Iterable[Member]) -> None:
    """Conflict while a rotation is under way; it names whom that waits for."""
    if trust.phase is not Phase.STEADY:
        late = waiting_for(trust, members)
        raise Conflict(
            f"the authority is being rotated already ({trust.phase}), which waits for {_some(late)}: start "
            "them, remove them, or go on and leave them behind",
            field="authority",
        )


def begun(trust: Trust, authority: str, members: Iterable[Member]) -> Trust:
    """`authority` is trusted from now on and signs later. Conflict while a rotation is under way."""
    check_steady(trust, members)
    if authority in trust.trusted:
        raise Invalid("authority", f"authority {authority} is trusted already")
    return _entered(trust, Phase.INTRODUCING, (*trust.trusted, authority))


def left_behind(trust: Trust, members: Iterable[Member]) -> Trust:
    """The same phase, which waits for nobody any more. Conflict when there is nothing to leave behind."""
    if trust.phase is Phase.STEADY:
        raise Conflict("no rotation of the authority is under way: nobody can be left behind by it")
    return replace(trust, left_behind=tuple(sorted({*trust.left_behind, *waiting_for(trust, members)})))


def next_trust(trust: Trust, members: Iterable[Member]) -> Trust | None:
    """What the zone trusts next; None when its phase is still waited for, or is steady."""
    if trust.phase is Phase.STEADY or waiting_for(trust, members):
        return None
    if trust.phase is Phase.INTRODUCING:
        old, new = trust.trusted
        return _entered(trust, Phase.MOVING, (new, old))
    return replace(_entered(trust, Phase.STEADY, trust.trusted[:1]), left_behind=())


def _entered(trust: Trust, phase: Phase, trusted: tuple[str, ...]) -> Trust:
    revision = trust.revision + 1
    return replace(trust, revision=revision, trusted=trusted, phase=phase, since_revision=revision)


def _some(late: list[str]) -> str:
    if not late:
        return "nobody any more"
    rest = len(late) - _NAMED
    return ", ".join(late[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
