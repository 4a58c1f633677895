"""The cell's book: what survives a restart, who is refused, what is left alone."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano import codec
from nano.model.action import DeleteInstance, Progress
from nano.model.errors import Busy, Conflict, Exists, NotFound
from nano.model.ids import InstanceId, TaskId
from nano.model.instance import Power, Wanted
from nano.saga.outcomes import OutcomePut, OutcomeRecord, OutcomesForgotten
from services.cell.host import Held, HeldGone, HeldPut, Host, HostBooted, HostChange, base_name, strays
from services.cell.hypervisor import Domain
from services.cell.statuses import StatusGone, StatusPut
from tests.support.cell import BINDING, CONTENT, INSTANCE, MAC, OTHER_TASK, SPEC, TASK, build, create, start

AUTO = replace(SPEC, auto_start=True)


def applied(book: Host, changes: list[HostChange]) -> Host:
    for change in changes:
        book.apply(change)
    return book


def with_volumes() -> Host:
    book = Host()
    return applied(book, book.volumes_made(create(), TASK))


def with_machine(**wanted: Any) -> Host:
    book = with_volumes()
    return applied(book, [HeldPut(msgspec.structs.replace(book.build(build()), **wanted))])


def restarted(book: Host) -> Host:
    """As the shelf keeps it: through JSON."""
    read: dict[str, Any] = {}
    for kind, nouns in book.snapshot().items():
        shape: Any = list[Host.kinds[kind]]  # type: ignore[valid-type]  # known only when it runs
        read[kind] = codec.decode(codec.encode(list(nouns)), shape)
    return Host.restore(read)


def test_volumes_without_a_machine_are_no_instance_yet() -> None:
    book = with_volumes()
    with pytest.raises(NotFound) as caught:
        book.built(INSTANCE)
    assert caught.value.subject == INSTANCE
    assert book.bases() == {base_name(CONTENT)}
    assert book.bound() == {}


def test_a_machine_needs_its_volumes() -> None:
    with pytest.raises(NotFound):
        Host().build(build())


def test_a_built_instance_is_bound_under_its_name() -> None:
    assert with_machine().bound() == {MAC: (BINDING, "web1")}


def test_the_base_of_a_creation_under_way_counts_as_referred_to() -> None:
    book = Host()
    book.apply(OutcomePut(OutcomeRecord(TASK, "create_volumes", Progress.BEGUN, action=create())))
    assert book.bases() == {base_name(CONTENT)}


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_lower_epoch_is_refused_naming_both(epoch: int) -> None:
    book = with_machine(epoch=3)
    with pytest.raises(Conflict, match=rf"epoch 3.*epoch {epoch}"):
        book.admit(DeleteInstance(INSTANCE, epoch))


@pytest.mark.parametrize("epoch", [3, 4])
def test_the_same_or_a_higher_epoch_is_admitted(epoch: int) -> None:
    with_machine(epoch=3).admit(DeleteInstance(INSTANCE, epoch))


def test_an_instance_of_another_task_exists_already() -> None:
    book = with_volumes()
    book.check_new(create(), TASK)
    with pytest.raises(Exists):
        book.check_new(create(), OTHER_TASK)
    assert book.is_anothers(INSTANCE, OTHER_TASK)
    assert not book.is_anothers(INSTANCE, TASK)


def test_a_claim_is_held_by_one_and_free_again_afterwards() -> None:
    book = with_machine()
    with book.claimed(INSTANCE, TASK):
        with pytest.raises(Busy, match=str(TASK)), book.claimed(INSTANCE, OTHER_TASK):
            pass
        with pytest.raises(Busy), book.claimed(INSTANCE, TASK):
            pass
    with book.claimed(INSTANCE, OTHER_TASK):
        pass


def test_starting_settles_what_was_due() -> None:
    book = with_machine(due=True)
    started = book.start(start())
    assert (started.wanted, started.due) == (Wanted.RUNNING, False)


def test_stopping_settles_what_was_due() -> None:
    book = with_machine(due=True, wanted=Wanted.RUNNING)
    applied(book, book.stopped(INSTANCE))
    assert (book.instances[INSTANCE].wanted, book.due()) == (Wanted.STOPPED, [])


def test_what_shall_start_by_itself_is_due_when_it_is_built() -> None:
    book = with_volumes()
    held = book.build(build(AUTO))
    assert (held.wanted, held.due) == (Wanted.RUNNING, True)


def test_the_first_boot_makes_nothing_due() -> None:
    book = with_machine(spec=AUTO, wanted=Wanted.RUNNING)
    assert book.booted("b1") == [HostBooted("b1")]


@pytest.mark.parametrize(
    ("auto", "wanted", "due"),
    [
        (True, Wanted.RUNNING, True),
        (True, Wanted.STOPPED, False),
        (False, Wanted.RUNNING, False),
        (False, Wanted.STOPPED, False),
    ],
)
def test_a_new_boot_makes_due_what_ran_and_may(auto: bool, wanted: Wanted, due: bool) -> None:
    book = with_machine(spec=replace(SPEC, auto_start=auto), wanted=wanted)
    applied(book, book.booted("b1"))
    assert book.booted("b1") == []
    applied(book, book.booted("b2"))
    assert [held.id for held in book.due()] == ([INSTANCE] if due else [])


def test_what_an_open_step_concerns_is_left_to_that_step() -> None:
    book = with_machine(due=True)
    book.apply(OutcomePut(OutcomeRecord(TASK, "start_instance", Progress.BEGUN, action=start())))
    assert book.due() == []
    book.apply(OutcomePut(OutcomeRecord(TASK, "start_instance", Progress.FAILED, action=start())))
    assert [held.id for held in book.due()] == [INSTANCE]


def test_only_a_stopped_domain_that_nobody_knows_is_a_stray() -> None:
    known = with_machine()
    other = InstanceId("0f8fad5b-d9cb-469f-a165-70867728950e")
    stray = Domain(other, 1, Power.STOPPED)
    assert strays(known, [Domain(INSTANCE, 1, Power.STOPPED), stray], set()) == [other]
    assert strays(known, [stray], {other}) == []
    assert strays(known, [replace(stray, power=Power.RUNNING)], set()) == []
    begun = create()
    known.apply(
        OutcomePut(
            OutcomeRecord(
                TaskId("t"),
                "create_volumes",
                Progress.BEGUN,
                action=msgspec.structs.replace(begun, instance=other),
            )
        )
    )
    assert strays(known, [stray], set()) == []


IDS = st.sampled_from([INSTANCE, InstanceId("0f8fad5b-d9cb-469f-a165-70867728950e")])
DOMAINS = st.builds(
    Domain,
    instance=IDS,
    epoch=st.just(1),
    power=st.sampled_from(Power),
    agent=st.booleans(),
    reason=st.sampled_from(["", "it failed"]),
)


@given(st.lists(st.tuples(IDS, st.none() | DOMAINS, st.booleans())))
def test_numbers_only_grow_and_what_is_no_news_changes_nothing(
    seen: list[tuple[InstanceId, Domain | None, bool]],
) -> None:
    book, last = Host(), 0
    for now_ms, (instance, domain, gone) in enumerate(seen, start=1):
        if gone:
            applied(book, [*book.statuses.gone(instance)])
            continue
        held = Held(instance, 1, SPEC, wanted=Wanted.RUNNING)
        changes = book.seen(held, domain, now_ms=now_ms, asked_off=False)
        for change in changes:
            assert isinstance(change, StatusPut)
            assert change.status.number > last
            last = change.status.number
        applied(book, changes)
        assert book.seen(held, domain, now_ms=now_ms + 1000, asked_off=False) == []
        status = book.statuses.of(instance)
        assert status is not None
        assert (status.started_ms == 0) == (status.power is Power.STOPPED)
        book = restarted(book)


@given(
    st.lists(
        st.one_of(
            st.builds(HeldPut, st.builds(Held, IDS, st.just(1), st.just(SPEC), due=st.booleans())),
            st.builds(HeldGone, IDS),
            st.builds(HostBooted, st.text()),
            st.builds(StatusGone, IDS),
        )
    )
)
def test_the_book_is_the_same_after_a_restart(changes: list[HostChange]) -> None:
    book = applied(Host(), changes)
    assert restarted(book).snapshot() == book.snapshot()


def test_a_reason_stays_until_the_machine_runs_or_is_asked_off() -> None:
    book = with_machine(wanted=Wanted.RUNNING)
    held = book.instances[INSTANCE]
    off = Domain(INSTANCE, 1, Power.STOPPED, reason="the guest switched itself off")
    applied(book, book.seen(held, off, now_ms=1, asked_off=False))
    assert book.seen(held, replace(off, reason=""), now_ms=2, asked_off=False) == []
    (cleared,) = book.seen(held, replace(off, reason=""), now_ms=2, asked_off=True)
    assert isinstance(cleared, StatusPut)
    assert cleared.status.reason == ""


def test_a_missing_definition_is_said() -> None:
    book = with_machine(wanted=Wanted.RUNNING)
    (change,) = book.seen(book.instances[INSTANCE], None, now_ms=1, asked_off=False)
    assert isinstance(change, StatusPut)
    assert "definition is missing" in change.status.reason


def test_a_restart_remembers_ended_tasks_also_when_no_step_is_open() -> None:
    """Else a step that comes after its task's end would begin after all, for nobody."""
    book = applied(Host(), [OutcomesForgotten((TASK,))])
    assert Host.restore(book.snapshot()).outcomes.is_forgotten(TASK)
