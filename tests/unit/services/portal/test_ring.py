"""Events for browsers that come and go."""

import json

from nano.web.events import Event
from services.portal.ring import Ring


def event(number: int) -> Event:
    return Event(f"c{number}", "task", f"t{number}", gone=False, document={"n": number})


def told(ring: Ring, number: int) -> list[str]:
    events = ring.since(number, 100)
    assert events is not None
    return [each.event.id for each in events]


def test_a_reader_goes_on_behind_the_cursor_that_it_had() -> None:
    ring = Ring()
    ring.stands_at("c0")
    for number in range(1, 4):
        ring.publish(event(number))
    behind = ring.number_behind("c1")
    assert behind is not None
    assert told(ring, behind) == ["t2", "t3"]
    assert ring.number_behind("c3") == ring.next_number
    assert ring.cursor == "c3"


def test_a_cursor_of_another_life_is_not_known() -> None:
    ring = Ring()
    ring.stands_at("c0")
    assert ring.number_behind("elsewhere") is None
    assert ring.number_behind("c0") == ring.next_number


def test_who_was_away_too_long_is_told_so() -> None:
    ring = Ring(limit=3)
    ring.stands_at("c0")
    start = ring.next_number
    for number in range(1, 6):
        ring.publish(event(number))
    assert ring.since(start, 100) is None
    assert ring.number_behind("c1") is None
    oldest = ring.number_behind("c3")
    assert oldest is not None
    assert told(ring, oldest) == ["t4", "t5"]


def test_a_message_is_written_once_and_says_what_is_gone() -> None:
    ring = Ring()
    ring.publish(Event("c1", "instance", "vm", gone=True, document={}))
    events = ring.since(0, 1)
    assert events is not None
    (one,) = events
    assert json.loads(one.text) == {
        "kind": "instance",
        "id": "vm",
        "gone": True,
        "document": None,
        "cursor": "c1",
    }


def test_a_batch_has_an_end() -> None:
    ring = Ring()
    for number in range(10):
        ring.publish(event(number))
    events = ring.since(2, 3)
    assert events is not None
    assert [each.number for each in events] == [2, 3, 4]
