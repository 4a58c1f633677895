"""What may be done with an instance, row by row."""

from dataclasses import replace

import pytest

from nano.model.errors import Conflict
from nano.model.instance import Instance, InstanceStatus, Power
from services.scheduler.lifecycle import ALLOWED, Verb, permit
from tests.support.nouns import INSTANCE


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize("verb", set(Verb) - {Verb.FORGET})
def test_each_verb_is_permitted_in_the_states_of_the_table_and_refused_elsewhere(
    verb: Verb, power: Power
) -> None:
    status = InstanceStatus(INSTANCE.id, 1, 1, power)
    if verb in ALLOWED[power]:
        permit(verb, INSTANCE, status)
    else:
        with pytest.raises(Conflict) as refused:
            permit(verb, INSTANCE, status)
        assert str(power) in refused.value.message
        assert refused.value.subject == INSTANCE.id


def test_an_instance_that_was_never_reported_counts_as_stopped() -> None:
    permit(Verb.START, INSTANCE, None)
    with pytest.raises(Conflict, match="start it first"):
        permit(Verb.STOP, INSTANCE, None)


@pytest.mark.parametrize(
    ("instance", "says"),
    [(replace(INSTANCE, created=False), "not ready"), (replace(INSTANCE, deleting=True), "being deleted")],
)
@pytest.mark.parametrize("verb", Verb)
def test_nothing_is_done_to_an_instance_that_is_not_there_yet_or_going(
    verb: Verb, instance: Instance, says: str
) -> None:
    with pytest.raises(Conflict, match=says):
        permit(verb, instance, None)


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize("verb", set(Verb) - {Verb.FORGET})
def test_where_the_cell_was_removed_nothing_can_be_done_but_to_forget(verb: Verb, power: Power) -> None:
    status = InstanceStatus(INSTANCE.id, 1, 1, power)
    permit(Verb.FORGET, INSTANCE, status, is_cell_removed=True)
    with pytest.raises(Conflict, match=f"nanoctl instance forget {INSTANCE.id}") as refused:
        permit(verb, INSTANCE, status, is_cell_removed=True)
    assert INSTANCE.cell in refused.value.message


@pytest.mark.parametrize("power", Power)
def test_what_a_cell_of_the_zone_holds_is_not_forgotten(power: Power) -> None:
    with pytest.raises(Conflict, match=f"nanoctl cell remove {INSTANCE.cell}"):
        permit(Verb.FORGET, INSTANCE, InstanceStatus(INSTANCE.id, 1, 1, power))
