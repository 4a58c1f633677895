"""The stream of events as its clients read it."""

import pytest

from nano.model.errors import Corrupt
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


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pieces_may_be_cut_anywhere_and_lines_end_at_line_feeds_only(size: int, end: str) -> None:
    text = "a\u2028\u2028b\x85c\x0bd"
    stream = f'id: c1{end}event: image{end}data: {{"id": "i", "document": {{"d": "{text}"}}}}{end}{end}'
    stream = stream.replace("\x0b", "\\u000b")  # as JSON has it
    whole = stream.encode()
    parser = Parser()
    found = [e for at in range(0, len(whole), size) for e in parser.piece(whole[at : at + size])]
    assert found == [Event("c1", "image", "i", False, {"d": text})]


def test_what_is_no_json_is_an_error_of_ours() -> None:
    with pytest.raises(Corrupt, match="no JSON"):
        Parser().piece(b'data: {"a\n\n')
