"""Snapshot files: readable, sealed, and only whole sets count."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.shelf.snapshots import (
    Page,
    Stamp,
    encode_page,
    highest_shown,
    kind_of,
    newest_whole,
    nouns_of,
    read_page,
)
from tests.support.bank import Account

STAMP = Stamp(42, "00112233445566aa", 1, ("accounts", "transfers"))
ANN, BOB = Account("ann", -5), Account("bob", 5)


def page_bytes(nouns: Sequence[object], stamp: Stamp = STAMP, kind: str = "accounts") -> bytes:
    return b"".join(encode_page(kind, stamp, nouns))


def page(name: str, revision: int, kinds: tuple[str, ...] = ("accounts", "transfers")) -> Page:
    return Page(name, kind_of(name) or "", Stamp(revision, "life", 1, kinds))


def test_a_page_is_json_that_people_can_read_and_compare() -> None:
    text = page_bytes([ANN, BOB]).decode()
    head, _, seal = text.rpartition('  "checksum": ')
    assert head == (
        '{\n  "kind": "accounts",\n  "schema": 1,\n  "incarnation": "00112233445566aa",\n  "revision": 42,\n'
        '  "set": [\n    "accounts",\n    "transfers"\n  ],\n  "nouns": [\n'
        '    {\n      "owner": "ann",\n      "cents": -5\n    },\n'
        '    {\n      "owner": "bob",\n      "cents": 5\n    }\n'
        "  ],\n"
    )
    assert json.loads(text)["checksum"] == json.loads(seal.removesuffix("}\n"))


@given(st.lists(st.builds(Account, st.text(), st.integers(-(2**60), 2**60)), max_size=5))
def test_what_is_written_is_read_back(accounts: list[Account]) -> None:
    found = read_page("accounts.json", page_bytes(accounts))
    assert found.stamp == STAMP
    assert nouns_of(found, Account) == accounts


@given(st.data())
def test_a_page_with_any_change_is_not_whole(data: st.DataObject) -> None:
    good = page_bytes([ANN, BOB])
    bad = bytearray(good)
    bad[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    assert read_page("accounts.json", bytes(bad)).stamp is None
    assert read_page("accounts.json", good[: data.draw(st.integers(0, len(good) - 1))]).stamp is None


@given(st.binary())
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert read_page("accounts.json", data).stamp is None


def test_a_page_under_another_kinds_name_does_not_count() -> None:
    assert read_page("transfers.json", page_bytes([])).why == "it holds accounts"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accounts.json", "accounts"),
        ("accounts.previous.json", "accounts"),
        ("accounts.json.new", None),
        ("damaged-1-accounts.json", None),
        ("journal-000000000000.jsonl", None),
    ],
)
def test_names(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_the_newest_set_of_which_nothing_is_missing_counts() -> None:
    """In the middle of an exchange: one page of the new set is in place, the old ones are set back."""
    pages = [
        page("accounts.json", 20),
        page("accounts.previous.json", 10),
        page("transfers.previous.json", 10),
        Page("transfers.json", "transfers", None),
    ]
    found = newest_whole(pages)
    assert found
    assert found.stamp.revision == 10
    assert {kind: part.name for kind, part in found.pages.items()} == {
        "accounts": "accounts.previous.json",
        "transfers": "transfers.previous.json",
    }
    assert highest_shown(pages) == 20
    assert newest_whole([*pages, page("transfers.json", 20)]) != found


def test_pages_of_two_histories_are_no_set() -> None:
    other = Page("transfers.json", "transfers", Stamp(10, "another", 1, ("accounts", "transfers")))
    assert newest_whole([page("accounts.json", 10), other]) is None
    assert newest_whole([]) is None
