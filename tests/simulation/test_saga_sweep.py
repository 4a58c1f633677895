"""whole-or-nothing: a task is disturbed at every moment, and then the world is as before it or as after it.

Real books, shelves, engine and callees; simulated disks, network, clock and hardware (`tests/support/
saga_world.py`). First each scenario is played undisturbed, which tells how many moments and messages it has;
then it is played once for each thing that can go wrong at each of them. After each run nothing may be left:
no claim, no outcome, no tombstone, no volume, no lease. While it runs, the claim is held exactly as long as
its task is open, and no address is freed while the hardware still uses it.

The last tests test these: sagas and handlers with a flaw must be found out.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import pytest
import structlog

from nano import codec
from nano.model.action import CreateVolumes, Progress
from nano.model.task import TaskState
from nano.saga.callee import Callee
from nano.saga.jobs import Key
from nano.saga.step import Changes, Saga, Step, remote
from nano.shelf import Shelf
from tests.support import saga_books as books
from tests.support.saga_world import FOLDER, Fate, Plan, When, World, play
from tests.support.virtual_time import run_virtually

NODES = ("desk", "pool", "host")
HANDLERS = ("lease", "create_volumes", "build", "start", "demolish", "remove_volumes", "release")

NEAR = 5
"""How many messages apart two may be that are held back together: what is further apart meets no more."""

SCENARIOS: dict[str, tuple[Saga[books.Create], Plan]] = {
    "forward": (books.CREATE, Plan()),
    "back": (books.CREATE, Plan(failing=("build", When.AFTER))),
    "back, with an undo that fails once": (
        books.CREATE,
        Plan(failing=("remove_volumes", When.AFTER), failures=1, cancel_at=35),
    ),
    "again and again behind the pivot": (books.CREATE, Plan(failing=("start", When.AFTER), failures=2)),
    "removal": (books.REMOVE, Plan()),
    "removal, refused": (books.REMOVE, Plan(failing=("delete", When.BEFORE))),
    "removal, withdrawn": (books.REMOVE, Plan(cancel_at=2)),
    "removal, cancelled too late": (books.REMOVE, Plan(cancel_at=6)),
}

scenarios = pytest.mark.parametrize("scenario", SCENARIOS)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What goes wrong here is meant to."""
    with structlog.testing.capture_logs():
        yield


def sweep(saga: Saga[books.Create], plans: Iterable[Plan]) -> list[str]:
    """Play every plan; what was wrong after which."""
    return [f"{plan}: {flaw}" for plan in plans for flaw in run_virtually(play(plan, saga)).verdict()]


def undisturbed(scenario: str) -> tuple[Saga[books.Create], Plan, World]:
    saga, plan = SCENARIOS[scenario]
    world = run_virtually(play(plan, saga))
    assert world.verdict() == []
    return saga, plan, world


# ------------------------------------------------------------------ what the scenarios are


@pytest.mark.parametrize(
    ("scenario", "state"),
    [
        ("forward", TaskState.DONE),
        ("back", TaskState.FAILED),
        ("back, with an undo that fails once", TaskState.CANCELLED),
        ("again and again behind the pivot", TaskState.DONE),
        ("removal", TaskState.DONE),
        ("removal, refused", TaskState.FAILED),
        ("removal, withdrawn", TaskState.CANCELLED),
        ("removal, cancelled too late", TaskState.DONE),
    ],
)
def test_each_scenario_goes_the_way_that_it_is_named_for(scenario: str, state: TaskState) -> None:
    _, _, world = undisturbed(scenario)
    assert world.task().state is state


@scenarios
def test_what_is_on_disk_afterwards_is_what_was_in_memory(scenario: str) -> None:
    _, _, world = undisturbed(scenario)

    async def replayed() -> None:
        for node in world.nodes.values():
            live = codec.encode(node.shelf.book.snapshot())
            async with Shelf.open(FOLDER, node.book_type, disk=node.disk) as shelf:
                assert codec.encode(shelf.book.snapshot()) == live

    run_virtually(replayed())


# ------------------------------------------------------------------ one thing goes wrong


@scenarios
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("power_cut", [False, True], ids=["kill", "power cut"])
def test_a_process_that_dies_at_any_moment(scenario: str, node: str, power_cut: bool) -> None:
    saga, plan, world = undisturbed(scenario)
    moments = range(1, world.moments + 1)
    plans = [replace(plan, kills=((moment, node),), power_cut=power_cut, seed=moment) for moment in moments]
    assert sweep(saga, plans) == []


@scenarios
@pytest.mark.parametrize("fate", Fate)
def test_a_message_that_is_lost_held_back_or_doubled(scenario: str, fate: Fate) -> None:
    saga, plan, world = undisturbed(scenario)
    messages = range(1, world.messages + 1)
    assert sweep(saga, [replace(plan, fates=((message, fate),)) for message in messages]) == []


@scenarios
def test_two_messages_that_overtake_each_other_and_the_rest(scenario: str) -> None:
    saga, plan, world = undisturbed(scenario)
    messages = range(1, world.messages + 1)
    plans = [
        replace(plan, fates=((first, Fate.HOLD), (second, Fate.HOLD_LONG)))
        for first, second in product(messages, messages)
        if 0 < abs(first - second) < NEAR
    ]
    assert sweep(saga, plans) == []


@scenarios
def test_a_cancel_at_any_moment(scenario: str) -> None:
    saga, plan, world = undisturbed(scenario)
    moments = range(1, world.moments + 1)
    assert sweep(saga, [replace(plan, cancel_at=moment) for moment in moments]) == []


@scenarios
def test_a_deadline_at_any_time(scenario: str) -> None:
    saga, plan, _ = undisturbed(scenario)
    assert sweep(saga, [replace(plan, deadline_s=tenth / 10) for tenth in range(1, 40)]) == []


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("defect", [False, True], ids=["refusal", "defect"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_that_fails(handler: str, when: When, defect: bool) -> None:
    """Before and after the work, once and for a while, with and without a cancel that turns the task back."""
    failing = Plan(failing=(handler, when), defect=defect)
    ways = [replace(failing, failures=failures) for failures in (1, 3)]
    plans = [replace(plan, cancel_at=moment) for plan in ways for moment in range(0, 60, 3)]
    assert sweep(books.CREATE, plans) == []


# ------------------------------------------------------------------ several things go wrong


@scenarios
@pytest.mark.parametrize("node", NODES)
def test_a_process_that_dies_while_a_cancelled_task_goes_back(scenario: str, node: str) -> None:
    saga, plan, world = undisturbed(scenario)
    plans = [
        replace(plan, cancel_at=moment, kills=((moment + later, node),))
        for moment in range(1, world.moments + 1, 2)
        for later in (2, 9)
    ]
    assert sweep(saga, plans) == []


@pytest.mark.parametrize("seed", range(0, 600, 60))
def test_trouble_of_all_sorts(seed: int) -> None:
    plans = [_trouble(random.Random(each), each) for each in range(seed, seed + 60)]
    assert sweep(books.CREATE, plans) == []
    assert sweep(books.REMOVE, [replace(plan, failing=None) for plan in plans]) == []


def _trouble(chance: random.Random, seed: int) -> Plan:
    return Plan(
        kills=tuple((chance.randrange(1, 120), chance.choice(NODES)) for _ in range(chance.randrange(4))),
        cancel_at=chance.choice([0, chance.randrange(1, 120)]),
        deadline_s=chance.choice([0.0, 0.0, chance.random() * 5]),
        fates=tuple((chance.randrange(1, 40), chance.choice(list(Fate))) for _ in range(chance.randrange(5))),
        failing=chance.choice([None, (chance.choice(HANDLERS), chance.choice(list(When)))]),
        failures=chance.choice([1, 2, 5]),
        defect=chance.random() < 0.2,
        power_cut=chance.random() < 0.5,
        seed=seed,
    )


# ------------------------------------------------------------------ the sweep itself can fail


def _with_step(name: str, step: Step[books.Create]) -> Saga[books.Create]:
    """The saga of the sweep with one step replaced."""
    steps = [step if each.name == name else each for each in books.CREATE.steps]
    return Saga(books.CREATE.name, books.Create, steps, pivot=books.CREATE.steps[books.CREATE.pivot])


def test_a_saga_with_a_missing_undo_is_found_out() -> None:
    @remote(books.HOST, no_undo="forgotten: this is the flaw")
    def create_volumes(notes: books.Create) -> CreateVolumes:
        return CreateVolumes(notes.instance, 1, notes.spec, None, None)

    flawed = _with_step("create_volumes", create_volumes)
    found = sweep(flawed, [Plan(failing=("build", When.BEFORE))])
    assert any("volumes is 1, not 0" in flaw for flaw in found)
    assert any("an address was freed while hardware still used it" in flaw for flaw in found)


def test_a_local_undo_that_takes_back_too_little_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books.reserve, "take_back", lambda _notes, _desk: ())
    found = sweep(books.CREATE, [replace(Plan(), cancel_at=moment) for moment in range(1, 30)])
    assert any("record is 'reserved', not None" in flaw for flaw in found)


def test_a_handler_that_does_not_clean_up_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shrugs(_hardware: books.Hardware, _action: CreateVolumes) -> Changes:
        return ()

    monkeypatch.setattr(books.Hardware, "remove_volumes", shrugs)
    found = sweep(books.CREATE, [Plan(failing=("build", When.BEFORE))])
    assert any("volumes is 1, not 0" in flaw for flaw in found)


def test_a_callee_that_forgets_ended_tasks_too_well_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the names of ended tasks a step that was held back would begin after the end."""
    monkeypatch.setattr("nano.saga.outcomes.Outcomes.is_forgotten", lambda _outcomes, _task: False)
    _, plan, world = undisturbed("back")
    messages = range(1, world.messages + 1)
    found = sweep(books.CREATE, [replace(plan, fates=((one, Fate.DOUBLE),)) for one in messages])
    assert any("host still keeps" in flaw for flaw in found)


def test_an_engine_that_acts_before_the_journal_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that leaves before its mark is durable names a task that a restart has never heard of."""

    async def hasty(_engine: object, _revision: int | None) -> None:
        return None

    monkeypatch.setattr("nano.saga.engine.Engine.durable", hasty)
    _, plan, world = undisturbed("forward")
    plans = [
        replace(plan, kills=((moment, "desk"),), power_cut=True, seed=moment)
        for moment in range(1, world.moments + 1)
    ]
    assert sweep(books.CREATE, plans) != []


def test_a_callee_that_acts_before_the_journal_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that dies before it has written what it began does not know what it would have to remove."""

    async def hasty(callee: Callee, key: Key) -> None:
        record = callee._record(key)
        if record is not None and record.progress is Progress.BEGUN:
            await callee._run_job(key, record)
        elif record is not None and record.progress is Progress.UNDOING:
            await callee._undo_job(key, record)

    monkeypatch.setattr(Callee, "_work", hasty)
    plans = [
        Plan(kills=((moment, "host"),), cancel_at=moment + later, power_cut=True, seed=moment)
        for moment in range(1, 40)
        for later in (1, 2, 4)
    ]
    assert any("volumes is 1, not 0" in flaw for flaw in sweep(books.CREATE, plans))
