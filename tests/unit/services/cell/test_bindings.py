"""The host name that a guest's card is bound with."""

from hypothesis import given
from hypothesis import strategies as st

from nano.bindings.messages import Entry, entry_from, entry_json
from services.cell.bindings import host_name
from tests.support.cell import BINDING


@given(st.text(alphabet="ABCxyz019_.-", min_size=0, max_size=80))
def test_every_instance_name_makes_a_host_name_that_the_responder_takes(name: str) -> None:
    entry = Entry("00:16:3e:00:00:01", BINDING, host_name(name))
    assert entry_from(entry_json(entry)) == entry
