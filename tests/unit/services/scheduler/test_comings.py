"""Each thing that happens at the door of the zone is one line, whatever is written of it into the book."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nano.model.membership import Applicant, How, JoinToken, Phase
from nano.model.peers import Peer, Role
from services.scheduler.comings import Comings, Line
from services.scheduler.membership import APPLICANTS_LIMIT, Membership, MembershipChange

CELL, STORE = Peer(Role.CELL, "c1"), Peer(Role.IMAGESTORE, "main")
KEY, KEY2 = "a1" * 32, "a2" * 32
TOKEN = JoinToken("0123abcd", "5e" * 32, Role.CELL, "", 0, 3_600_000)


class Zone:
    """A book, and who writes its lines."""

    def __init__(self) -> None:
        self.book = Membership()
        self.does(self.book.first_authority("f0" * 32), Comings(self.book))
        self._comings = Comings(self.book)

    def does(self, changes: Sequence[MembershipChange], comings: Comings | None = None) -> list[Line]:
        for change in changes:
            self.book.apply(change)
        return list((comings or self._comings).lines(changes))


def _who(peer: Peer, key: str, **more: Any) -> dict[str, Any]:
    return {"role": str(peer.role), "id": peer.id, "key": key[:16], **more}


def _applicant(key: str, since_ms: int = 10, **more: Any) -> Applicant:
    return replace(Applicant(key, Role.CELL, "c1", "10.0.0.7", "ABCD-EFGH", since_ms, present=True), **more)


def test_a_member_joins_once_however_often_it_renews_and_catches_up() -> None:
    zone = Zone()
    assert zone.does(zone.book.enrolled(STORE, KEY, How.LOCAL, 5)) == [
        Line("member.joined", _who(STORE, KEY, how="local"))
    ]
    assert zone.does(zone.book.renewed(STORE, KEY, 6)) == []
    assert zone.does(zone.book.acknowledged(STORE, 7, "f0" * 32)) == []
    assert list(Comings(zone.book).lines(zone.book.renewed(STORE, KEY, 8))) == [], "nor after our restart"


def test_a_token_is_made_and_redeemed_with_the_member_that_it_lets_in() -> None:
    zone = Zone()
    assert zone.does(zone.book.create_token(TOKEN)) == [
        Line("token.created", {"token": "0123abcd", "role": "cell", "id": ""})
    ]
    redeeming = zone.book.redeem(TOKEN.digest, CELL, KEY, 5)
    assert zone.does(redeeming) == [Line("member.joined", _who(CELL, KEY, how="token", token="0123abcd"))]
    assert zone.does(zone.book.redeem(TOKEN.digest, CELL, KEY, 6)) == [], "its answer was lost"


def test_who_waits_is_seen_once_for_each_code_and_once_when_an_administrator_has_decided() -> None:
    zone = Zone()
    waits = Line("applicant.waits", _who(CELL, KEY, host="10.0.0.7"), by_stranger=True)
    assert zone.does(zone.book.applied(_applicant(KEY))) == [waits]
    assert zone.does(zone.book.present(KEY, present=False)) == []
    assert zone.does(zone.book.applied(_applicant(KEY))) == []
    assert zone.does(zone.book.applied(_applicant(KEY, code="2345-6789"))) == [waits]
    refused = Line("applicant.refused", _who(CELL, KEY, host="10.0.0.7"))
    assert zone.does(zone.book.refuse(KEY, 20)) == [refused]
    assert zone.does(zone.book.present(KEY, present=False)) == []
    assert zone.does(zone.book.admit(KEY, 30)) == [Line("member.joined", _who(CELL, KEY, how="admitted"))]


def test_who_is_pushed_out_by_others_is_seen_to_go() -> None:
    zone = Zone()
    for number in range(APPLICANTS_LIMIT):
        zone.does(zone.book.applied(_applicant(f"{number:064x}", number, present=False)))
    gone, waits = zone.does(zone.book.applied(_applicant(KEY, 100)))
    assert (gone.event, gone.fields["key"], gone.by_stranger) == ("applicant.gone", "0" * 16, True)
    assert waits.event == "applicant.waits"


def test_a_key_that_is_shut_out_is_seen_with_the_name_that_it_had() -> None:
    zone = Zone()
    zone.does(zone.book.enrolled(CELL, KEY, How.ADMITTED, 5))
    assert zone.does(zone.book.remove(CELL, 6)) == [Line("member.removed", _who(CELL, KEY))]
    again = Line("member.joined", _who(CELL, KEY2, how="admitted"))
    assert zone.does(zone.book.enrolled(CELL, KEY2, How.ADMITTED, 7)) == [again]


def test_a_local_service_that_made_another_key_is_seen_to_go_and_to_come() -> None:
    zone = Zone()
    zone.does(zone.book.enrolled(STORE, KEY, How.LOCAL, 5))
    assert zone.does(zone.book.enrolled(STORE, KEY2, How.LOCAL, 6)) == [
        Line("member.removed", _who(STORE, KEY)),
        Line("member.joined", _who(STORE, KEY2, how="local")),
    ]


def test_each_phase_of_a_rotation_is_a_line_and_so_is_who_is_left_behind() -> None:
    zone = Zone()
    zone.does(zone.book.enrolled(CELL, KEY, How.ADMITTED, 5))
    old, new = "f0" * 8, "f1" * 8
    said = [
        *zone.does(zone.book.rotate("f1" * 32)),
        *zone.does(zone.book.advance()),
        *zone.does(zone.book.leave_behind()),
        *zone.does(zone.book.advance()),
        *zone.does(zone.book.advance()),
    ]
    assert [line.event for line in said] == ["authority.rotation"] * 4
    assert [line.fields for line in said] == [
        {"phase": str(Phase.INTRODUCING), "signs": old},
        {"phase": str(Phase.INTRODUCING), "signs": old, "left_behind": ["cell/c1"]},
        {"phase": str(Phase.MOVING), "signs": new, "left_behind": ["cell/c1"]},
        {"phase": str(Phase.STEADY), "signs": new},
    ]
