"""Where an instance goes, and why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import NoRoom
from nano.model.ids import CellId
from nano.model.pool import Policy, Presence, Spread, Usage
from services.scheduler.placement import Candidate, Load, Refusal, place, rank, refuse
from tests.support.nouns import CELL, GIB, SPEC

POLICY = Policy()
EMPTY = Load()


def candidate(
    name: str = "a", load: Load = EMPTY, cpu_percent: float | None = None, **changes: object
) -> Candidate:
    usage = None
    if cpu_percent is not None:
        usage = Usage(name, 0, cpu_percent, GIB, 16 * GIB, GIB, 500 * GIB, 0, 0, 0, 0)
    return Candidate(replace(CELL, id=CellId(name), **changes), load, usage)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (candidate(enabled=False), Refusal.DISABLED),
        (candidate(presence=Presence.LOST), Refusal.ABSENT),
        (candidate(presence=Presence.LEFT), Refusal.ABSENT),
        (candidate(confirmed=False), Refusal.UNCONFIRMED),
        (candidate(capabilities=None), Refusal.UNCONFIRMED),
        (candidate(load=Load(100)), Refusal.FULL),
        (candidate(load=Load(1, cores=23)), Refusal.CORES),
        (candidate(load=Load(1, memory_bytes=16 * GIB)), Refusal.MEMORY),
        (candidate(load=Load(1, disk_bytes=1491 * GIB)), Refusal.DISK),
        (candidate(load=Load(1, cores=22, memory_bytes=15 * GIB, disk_bytes=1490 * GIB)), None),
    ],
)
def test_a_cell_is_refused_for_what_it_lacks(unfit: Candidate, why: Refusal | None) -> None:
    assert refuse(SPEC, unfit, POLICY) is why


def test_the_emptier_cell_is_chosen_when_spreading_and_the_fuller_when_packing() -> None:
    empty, half = candidate("empty"), candidate("half", Load(4, 12, 8 * GIB, 100 * GIB))
    assert place(SPEC, [half, empty], POLICY).cell == "empty"
    assert place(SPEC, [half, empty], replace(POLICY, spread=Spread.PACK)).cell == "half"


def test_what_is_measured_ranks_beside_what_is_configured() -> None:
    idle, loaded = candidate("z", cpu_percent=5), candidate("a", cpu_percent=70)
    assert place(SPEC, [loaded, idle], POLICY).cell == "z"


def test_a_busy_cell_is_taken_only_when_no_calm_one_has_room() -> None:
    busy = candidate("busy", cpu_percent=95)
    calm = candidate("calm", Load(10, 20, 14 * GIB, 1000 * GIB), cpu_percent=79)
    assert place(SPEC, [busy, calm], POLICY).cell == "calm"
    assert place(SPEC, [busy], POLICY).cell == "busy"


def test_the_lowest_id_settles_a_tie_whatever_the_order() -> None:
    cells = [candidate(name) for name in "cab"]
    assert place(SPEC, cells, POLICY).cell == place(SPEC, cells[::-1], POLICY).cell == "a"


def test_no_room_says_how_many_cells_were_refused_for_what() -> None:
    with pytest.raises(NoRoom) as failure:
        place(
            SPEC,
            [candidate("a", enabled=False), candidate("b", Load(100)), candidate("c", Load(100))],
            POLICY,
        )
    assert "1 cell(s): disabled" in failure.value.message
    assert "2 cell(s): holds as many instances as it may" in failure.value.message
    assert failure.value.field == "pool"


def test_a_pool_without_cells_says_so() -> None:
    with pytest.raises(NoRoom, match="has no cell: add one"):
        place(SPEC, [], POLICY)


def test_a_decision_keeps_the_best_ten_and_counts_the_refused() -> None:
    decision = place(
        SPEC, [candidate(f"c{n:02}") for n in range(15)] + [candidate("x", enabled=False)], POLICY
    )
    assert len(decision.best) == 10
    assert decision.best[0].cell == decision.cell == "c00"
    assert decision.refused == {"disabled": 1}


loads = st.builds(
    Load,
    st.integers(0, 120),
    st.integers(0, 40),
    st.integers(0, 40 * GIB),
    st.integers(0, 4000 * GIB),
)


@given(st.lists(st.tuples(loads, st.floats(-50, 400)), max_size=8))
def test_the_chosen_cell_keeps_what_it_promised(rows: list[tuple[Load, float]]) -> None:
    cells = [candidate(f"c{n}", load, cpu) for n, (load, cpu) in enumerate(rows)]
    try:
        chosen = place(SPEC, cells, POLICY).cell
    except NoRoom:
        assert all(refuse(SPEC, one, POLICY) for one in cells)
        return
    after = next(one for one in cells if one.cell.id == chosen).load.plus(SPEC)
    assert after.cores <= 8 * POLICY.cores_overcommit
    assert after.memory_bytes <= 16 * GIB * POLICY.memory_overcommit
    assert after.disk_bytes <= 500 * GIB * POLICY.disk_overcommit


@given(loads, st.floats(-1e6, 1e6))
def test_a_score_stays_between_zero_and_one_whatever_a_cell_reports(load: Load, cpu: float) -> None:
    assert 0 <= rank(SPEC, candidate("a", load, cpu), POLICY).score <= 1
