"""The stream of events as its clients read it."""

from nano.web.events import Event, Parser


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        ": keep-alive",
        "id: c1",
        "event: hello",
        'data: {"kind": "hello"}',
        "",
        "id: c2",
        "event: task",
        'data: {"kind": "task", "id": "t",',
        'data: "document": {"state": "done"}}',
        "",
        "event: instance",
        'data: {"id": "i", "gone": true}',
        "",
        "",
        "event: left over",
    ]
    parser = Parser()
    assert [event for event in map(parser.line, lines) if event is not None] == [
        Event("c1", "hello", "", False, {}),
        Event("c2", "task", "t", False, {"state": "done"}),
        Event("c2", "instance", "i", True, {}),
    ]
