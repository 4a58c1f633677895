"""The line format, and what a restart makes of any bytes that it may find."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.shelf.journal import (
    HEAD_BYTES,
    LINE_OVERHEAD_BYTES,
    Damage,
    Entry,
    Head,
    Recovery,
    Segment,
    entry_line,
    head_line,
    line_of,
    read_segment,
    recover,
    segment_base,
    segment_name,
)

HEAD = Head("5e6f0a1b", "00112233445566aa", 10, 1)
NAME = segment_name(10)

payloads = st.lists(st.text(max_size=60)).map(lambda texts: json.dumps(texts).encode())
batches = st.lists(st.lists(payloads, min_size=1, max_size=4), max_size=5)


def written(groups: list[list[bytes]], head: Head = HEAD) -> bytes:
    """A segment as the shelf writes it: each group of commits in one write, synced before the next."""
    data = head_line(head)
    revision = head.revision
    for group in groups:
        durable = len(data)
        for changes in group:
            revision += 1
            data += entry_line(head.segment, Entry(revision, changes), at=len(data), durable=durable)
    return data


def entries(groups: list[list[bytes]]) -> list[Entry]:
    return [Entry(11 + i, changes) for i, changes in enumerate(c for group in groups for c in group)]


def decide(data: bytes, *others: Segment, base: int = 10, shown: int = 0) -> Recovery | Damage:
    return recover((read_segment(NAME, data), *others), base=base, shown=shown)


@given(batches)
def test_what_is_written_is_read_back(groups: list[list[bytes]]) -> None:
    segment = read_segment(NAME, written(groups))
    assert segment.head == HEAD
    assert list(segment.entries) == entries(groups)
    assert segment.damage is None
    assert segment.end == segment.size_bytes


def test_each_line_is_json_and_says_its_length_place_and_what_was_durable() -> None:
    data = written([[b"[1]"], [b"[2]", b"[3]"]])
    lines = data.splitlines(keepends=True)
    found = [json.loads(line) for line in lines]
    assert [line["length"] for line in found] == [len(line) for line in lines]
    assert [line["at"] for line in found] == [sum(map(len, lines[:i])) for i in range(4)]
    assert found[0] | {"sum": ""} == {
        "length": HEAD_BYTES,
        "sum": "",
        "at": 0,
        "format": 1,
        "segment": "5e6f0a1b",
        "incarnation": "00112233445566aa",
        "revision": 10,
        "schema": 1,
    }
    assert [line["durable"] for line in found[1:]] == [HEAD_BYTES, found[2]["at"], found[2]["at"]]
    assert [(line["revision"], line["changes"]) for line in found[1:]] == [(11, [1]), (12, [2]), (13, [3])]


def test_a_line_adds_no_more_than_is_reckoned_with() -> None:
    largest = entry_line("5e6f0a1b", Entry(10**20 - 1, b""), at=10**20 - 1, durable=10**20 - 1)
    assert len(largest) <= LINE_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "name", ["journal-1.jsonl", "journal-000000000010.jsonl.new", "items.json", "shelf.lock"]
)
def test_other_files_are_no_segments(name: str) -> None:
    assert segment_base(name) is None
    assert segment_base(NAME) == 10


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_read(data: bytes) -> None:
    segment = read_segment(NAME, data)
    assert segment.head is None
    assert segment.entries == ()


@given(batches, st.data())
def test_whatever_overwrites_a_segment_only_a_prefix_is_believed(
    groups: list[list[bytes]], draw: st.DataObject
) -> None:
    data = bytearray(written(groups))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data)))
        junk = draw.draw(st.binary(max_size=40) | st.just(bytes(512)) | st.just(bytes(data[:300])))
        data[at : at + len(junk)] = junk
    del data[draw.draw(st.integers(0, len(data))) :]
    segment = read_segment(NAME, bytes(data))
    assert list(segment.entries) == entries(groups)[: len(segment.entries)]
    assert segment.damage is None or segment.damage.offset == segment.end
    assert (segment.damage is None) == (segment.head is not None and segment.end == len(data))


@given(batches, st.data())
def test_a_torn_last_write_is_cut_and_what_came_before_is_kept(
    groups: list[list[bytes]], draw: st.DataObject
) -> None:
    """Any bytes from the last group's offset on: that is all that an unsynced write can have touched."""
    whole = written(groups[:-1])
    torn = (
        whole
        + draw.draw(st.binary(max_size=300))
        + written(groups)[draw.draw(st.integers(0, 400)) + len(whole) :]
    )
    found = decide(torn)
    assert isinstance(found, Recovery)
    assert found.tail
    assert found.tail.end >= len(whole)
    assert [entry for _, entry in found.entries][: len(entries(groups[:-1]))] == entries(groups[:-1])


def test_one_bad_line_with_good_ones_behind_it_is_a_power_cut_when_all_are_of_one_write() -> None:
    data = bytearray(written([[b"[1]"], [b"[2]", b"[3]", b"[4]"]]))
    at = data.index(b"[3]")
    data[at] ^= 1
    found = decide(bytes(data))
    assert isinstance(found, Recovery)
    assert found.revision == 12
    assert found.cut_bytes == len(data) - data.rindex(b"\n", 0, at) - 1


def test_a_bad_line_that_a_later_one_knows_to_be_durable_is_damage() -> None:
    data = bytearray(written([[b"[1]"], [b"[2]", b"[3]"], [b"[4]"]]))
    data[data.index(b"[3]")] ^= 1
    found = decide(bytes(data))
    assert isinstance(found, Damage)
    assert (found.file, found.line) == (NAME, 4)


def test_a_witness_behind_the_damage_is_heard_even_when_its_revision_no_longer_fits() -> None:
    lines = written([[b"[1]"], [b"[2]"], [b"[3]"]]).splitlines(keepends=True)
    lines[2] = b"#" * (len(lines[2]) - 1) + b"\n"
    found = decide(b"".join(lines))
    assert isinstance(found, Damage)
    assert found.line == 3


def test_a_line_of_an_older_file_in_the_same_place_is_not_believed() -> None:
    old = written([[b"[1]", b"[7]"]], replace(HEAD, segment="0ther1d0"))
    new = written([[b"[1]"]])
    found = decide(new + old[len(new) :])
    assert isinstance(found, Recovery)
    assert found.revision == 11


def test_a_line_moved_to_another_place_is_not_believed() -> None:
    data = written([[b"[1]"]])
    line = data[HEAD_BYTES:]
    assert read_segment(NAME, data + line).damage == Damage(
        NAME, 3, len(data), "the line belongs to another place"
    )


def test_bytes_that_somebody_added_or_removed_are_damage_and_no_power_cut() -> None:
    """Every line behind them has moved, and still is a witness."""
    data = written([[b"[1]"], [b"[2]"], [b"[3]"]])
    at = data.index(b"[1]")
    line = data.index(b"\n", HEAD_BYTES) + 1 - HEAD_BYTES
    for edited in (
        data[:at] + b"0" + data[at:],
        data[: at + 1] + data[at + 2 :],
        data[:HEAD_BYTES] + data[HEAD_BYTES + line :],
    ):
        found = decide(edited)
        assert isinstance(found, Damage)
        assert (found.line, found.offset) == (2, HEAD_BYTES)


def test_a_head_of_another_file_is_not_believed() -> None:
    assert read_segment(segment_name(11), head_line(HEAD)).head is None


def test_a_head_torn_when_its_file_was_made_is_dropped_and_the_file_before_goes_on() -> None:
    whole = written([[b"[1]"], [b"[2]"]])
    for left in (b"", b"\0" * HEAD_BYTES, head_line(HEAD)[:100]):
        found = decide(whole, read_segment(segment_name(12), left))
        assert isinstance(found, Recovery)
        assert found.dropped == (segment_name(12),)
        assert found.tail
        assert found.tail.name == NAME


def test_a_bad_head_with_lines_behind_it_is_damage() -> None:
    data = bytearray(written([[b"[1]"]]))
    data[30] ^= 1
    assert decide(bytes(data)) == Damage(NAME, 1, 0, "length or checksum do not fit")


def test_a_file_before_another_was_whole_so_its_torn_end_is_damage() -> None:
    torn = written([[b"[1]"], [b"[2]"]])[:-5]
    found = decide(torn, read_segment(segment_name(12), head_line(replace(HEAD, revision=12))))
    assert isinstance(found, Damage)
    assert (found.file, found.line) == (NAME, 3)


def test_a_file_that_is_missing_between_two_is_damage() -> None:
    found = decide(written([[b"[1]"]]), read_segment(segment_name(15), head_line(replace(HEAD, revision=15))))
    assert found == Damage(segment_name(15), 1, 0, "the file starts after 15, those before it end at 11")


def test_a_journal_that_ends_before_a_snapshot_is_damage() -> None:
    found = decide(written([[b"[1]"]]), shown=12)
    assert isinstance(found, Damage)
    assert (found.line, found.offset) == (3, len(written([[b"[1]"]])))
    assert "the journal ends at 11, a snapshot shows 12" in found.why


def test_a_journal_that_begins_behind_the_snapshot_is_damage() -> None:
    found = decide(written([[b"[1]"]]), base=9)
    assert isinstance(found, Damage)
    assert found.file == NAME


def test_no_journal_is_a_new_shelf_only_where_nothing_was_ever_kept() -> None:
    assert recover((), base=0, shown=0) == Recovery(0, (), None, ())
    torn = read_segment(segment_name(0), b"")
    assert recover((torn,), base=0, shown=0) == Recovery(0, (), None, (torn.name,))
    assert isinstance(recover((), base=5, shown=5), Damage)
    assert isinstance(recover((read_segment(NAME, b""),), base=0, shown=0), Damage)


def test_lines_that_the_snapshot_has_already_are_not_replayed() -> None:
    found = decide(written([[b"[1]"], [b"[2]"], [b"[3]"]]), base=12)
    assert isinstance(found, Recovery)
    assert [(line_of(segment, entry), entry.changes) for segment, entry in found.entries] == [(4, b"[3]")]
