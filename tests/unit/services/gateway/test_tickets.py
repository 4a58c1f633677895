"""A ticket is good once, soon, for one holder; there are never too many, and none is kept as it is."""

import pytest

from nano.model.errors import Exhausted, NotFound
from nano.model.ids import InstanceId
from services.gateway import tickets as module
from services.gateway.tickets import LIFE_S, Holder, Tickets

GUEST = InstanceId("guest-1")
HOLDER = Holder("credential", "session")


def test_a_ticket_names_its_guest_once() -> None:
    book = Tickets()
    ticket = book.issue(GUEST, HOLDER, 100)
    assert len(ticket) == 43  # 32 bytes in base64 for URLs
    assert book.redeem(ticket, HOLDER, 100) == GUEST
    with pytest.raises(NotFound):
        book.redeem(ticket, HOLDER, 100)


def test_no_two_are_alike_and_none_is_kept_as_it_is() -> None:
    book = Tickets()
    issued = {book.issue(GUEST, HOLDER, 0) for _ in range(100)}
    assert len(issued) == 100
    assert not any(ticket.encode() in repr(vars(book)).encode() for ticket in issued)


@pytest.mark.parametrize(("after_s", "is_good"), [(0, True), (LIFE_S - 0.01, True), (LIFE_S, False)])
def test_a_ticket_is_good_for_its_time(after_s: float, is_good: bool) -> None:
    book = Tickets()
    ticket = book.issue(GUEST, HOLDER, 100)
    if is_good:
        assert book.redeem(ticket, HOLDER, 100 + after_s) == GUEST
    else:
        with pytest.raises(NotFound):
            book.redeem(ticket, HOLDER, 100 + after_s)


@pytest.mark.parametrize("stranger", [Holder("other", "session"), Holder("credential", ""), Holder("", "")])
def test_a_stranger_is_refused_with_the_same_words_and_spends_it(stranger: Holder) -> None:
    book = Tickets()
    ticket = book.issue(GUEST, HOLDER, 0)
    with pytest.raises(NotFound) as refused:
        book.redeem(ticket, stranger, 0)
    with pytest.raises(NotFound) as spent:
        book.redeem(ticket, HOLDER, 0)
    with pytest.raises(NotFound) as unknown:
        book.redeem("never issued", HOLDER, 0)
    assert refused.value.message == spent.value.message == unknown.value.message
    assert ticket not in refused.value.message


def test_those_of_one_credential_are_bounded_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EACH", 2)
    book = Tickets()
    first, _ = book.issue(GUEST, HOLDER, 0), book.issue(GUEST, HOLDER, 5)
    with pytest.raises(Exhausted) as full:
        book.issue(GUEST, HOLDER, 5)
    assert full.value.retry_after_s
    book.issue(GUEST, Holder("other", ""), 5)
    book.redeem(first, HOLDER, 5)
    book.issue(GUEST, HOLDER, 5)  # room by use
    book.issue(GUEST, HOLDER, 5 + LIFE_S)  # room by time
    assert len(book) == 1


def test_all_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    book = Tickets()
    for number in range(3):
        book.issue(GUEST, Holder(f"credential-{number}", ""), 0)
    with pytest.raises(Exhausted):
        book.issue(GUEST, Holder("one more", ""), LIFE_S - 1)
    assert book.issue(GUEST, Holder("one more", ""), LIFE_S)
    assert dict(book._of) == {"one more": 1}
