"""Who may be in the zone: a name is held by one key, a token lets in one key, a removed key stays out."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nano import codec
from nano.fabric.identity.authority import BACKDATED, LIFETIME
from nano.model.errors import Conflict, Exhausted, Forbidden, Invalid, NotFound
from nano.model.membership import (
    VALID_MS,
    Applicant,
    How,
    JoinToken,
    Member,
    Phase,
    Removal,
    Trust,
)
from nano.model.peers import Peer, Role
from services.scheduler.membership import (
    APPLICANTS_LIMIT,
    REFUSED_MS,
    TOKEN_KEPT_MS,
    TOKENS_LIMIT,
    ApplicantGone,
    ApplicantPut,
    MemberGone,
    MemberPut,
    Membership,
    MembershipChange,
    RemovalGone,
    RemovalPut,
    TokenGone,
    TokenPut,
    TrustPut,
)

CELL = Peer(Role.CELL, "Cell_00163e000001")
OTHER = Peer(Role.CELL, "Cell_00163e000002")
KEY, KEY2, KEY3 = "a1" * 32, "a2" * 32, "b3" * 32
MINUTE = 60_000
TOKEN = JoinToken("0123abcd", "5e" * 32, Role.CELL, "", 0, 60 * MINUTE)


def applicant(
    fingerprint: str = KEY, since_ms: int = 10, *, peer: Peer = CELL, present: bool = True
) -> Applicant:
    return Applicant(fingerprint, peer.role, peer.id, "10.0.0.7", "ABCD-EFGH", since_ms, present)


def applied(book: Membership, changes: Sequence[MembershipChange]) -> Membership:
    for change in changes:
        book.apply(change)
    return book


def with_member(how: How = How.LOCAL, peer: Peer = CELL, fingerprint: str = KEY) -> Membership:
    book = Membership()
    return applied(book, book.enrolled(peer, fingerprint, how, 5))


def waiting(*applicants: Applicant) -> Membership:
    book = Membership()
    for one in applicants:
        applied(book, book.applied(one))
    return book


def test_how_long_a_key_may_hold_a_certificate_is_what_the_authority_gives() -> None:
    assert (LIFETIME + BACKDATED).total_seconds() * 1000 == VALID_MS


# ------------------------------------------------------------------ a name is held by one key


def test_a_key_that_enrols_again_stays_the_member_it_was() -> None:
    book = with_member()
    applied(book, book.enrolled(CELL, KEY, How.LOCAL, 99))
    assert book.members == {CELL: Member(Role.CELL, CELL.id, KEY, How.LOCAL, 5, 99)}
    assert book.holder(KEY) == book.member(CELL)
    assert book.holder(KEY2) is None


@pytest.mark.parametrize(
    ("known", "asking"),
    [(How.TOKEN, How.LOCAL), (How.LOCAL, How.TOKEN), (How.ADMITTED, How.ADMITTED), (How.TOKEN, How.TOKEN)],
)
def test_a_name_that_another_key_holds_is_refused_with_what_to_do(known: How, asking: How) -> None:
    book = with_member(known)
    with pytest.raises(Conflict, match="remove it first") as refused:
        book.enrolled(CELL, KEY2, asking, 9)
    assert refused.value.subject == str(CELL)


def test_a_local_service_that_lost_its_folder_comes_back_and_its_old_key_is_shut_out() -> None:
    book = with_member(How.LOCAL)
    applied(book, book.enrolled(CELL, KEY2, How.LOCAL, 9))
    assert book.member(CELL) == Member(Role.CELL, CELL.id, KEY2, How.LOCAL, 9, 9)
    assert book.holder(KEY) is None
    assert book.removals == {KEY: Removal(KEY, Role.CELL, CELL.id, 9 + VALID_MS)}
    with pytest.raises(Forbidden, match="was removed"):
        book.enrolled(CELL, KEY, How.LOCAL, 10)


def test_a_local_service_may_change_its_name_and_another_may_not() -> None:
    book = with_member(How.LOCAL)
    applied(book, book.enrolled(OTHER, KEY, How.LOCAL, 9))
    assert list(book.members) == [OTHER]
    assert not book.removals
    with pytest.raises(Conflict, match="a server has one name"):
        with_member(How.TOKEN).enrolled(OTHER, KEY, How.TOKEN, 9)


def test_only_the_members_own_key_renews() -> None:
    book = with_member()
    assert book.renewed(CELL, KEY, 50) == [MemberPut(replace(book.member(CELL), issued_ms=50))]
    with pytest.raises(Forbidden, match="join again"):
        book.renewed(CELL, KEY2, 50)
    with pytest.raises(Forbidden, match="join again"):
        book.renewed(OTHER, KEY, 50)
    applied(book, book.remove(CELL, 60))
    with pytest.raises(Forbidden, match="was removed"):
        book.renewed(CELL, KEY, 70)


@pytest.mark.parametrize(
    ("how", "by_itself"),
    [(How.LOCAL, True), (How.TOKEN, True), (How.ADMITTED, False), (How.FIRST_USE, False)],
)
def test_a_cell_enters_the_first_pool_by_itself_unless_a_person_let_it_in(how: How, by_itself: bool) -> None:
    assert with_member(how).enters_first_pool(CELL) is by_itself
    assert Membership().enters_first_pool(CELL)


# ------------------------------------------------------------------ tokens


def test_a_token_lets_in_the_first_key_and_that_one_again_until_it_ends() -> None:
    book = applied(Membership(), Membership().create_token(TOKEN))
    applied(book, book.redeem(TOKEN.digest, CELL, KEY, 10))
    assert book.member(CELL).how is How.TOKEN
    assert book.tokens[TOKEN.id].used_by == KEY
    assert MemberPut(replace(book.member(CELL), issued_ms=20)) in book.redeem(TOKEN.digest, CELL, KEY, 20)
    with pytest.raises(Forbidden, match=r"0123abcd \(for any cell\) was used by another server") as refused:
        book.redeem(TOKEN.digest, OTHER, KEY2, 20)
    assert (refused.value.field, refused.value.subject) == ("token", TOKEN.id)
    with pytest.raises(Forbidden, match="expired 60 seconds ago"):
        book.redeem(TOKEN.digest, CELL, KEY, TOKEN.expires_ms + MINUTE)


@pytest.mark.parametrize(
    ("token", "peer", "why"),
    [
        (TOKEN, Peer(Role.GATEWAY, "two"), "does not let in a gateway"),
        (replace(TOKEN, name=OTHER.id), CELL, rf"\(for cell/{OTHER.id}\) does not let in {CELL}"),
    ],
)
def test_a_token_lets_in_whom_it_is_for(token: JoinToken, peer: Peer, why: str) -> None:
    book = applied(Membership(), [TokenPut(token)])
    with pytest.raises(Forbidden, match=why):
        book.redeem(token.digest, peer, KEY, 10)


def test_an_unknown_or_revoked_token_lets_in_nobody() -> None:
    book = applied(Membership(), [TokenPut(TOKEN)])
    with pytest.raises(Forbidden, match="not known"):
        book.redeem("00" * 32, CELL, KEY, 10)
    applied(book, book.revoke_token(TOKEN.id))
    with pytest.raises(Forbidden, match="not known"):
        book.redeem(TOKEN.digest, CELL, KEY, 10)
    with pytest.raises(NotFound):
        book.revoke_token(TOKEN.id)


def test_a_token_does_not_take_a_name_from_the_key_that_holds_it_nor_let_a_removed_key_in() -> None:
    book = applied(with_member(How.LOCAL), [TokenPut(TOKEN)])
    with pytest.raises(Conflict, match="remove it first"):
        book.redeem(TOKEN.digest, CELL, KEY2, 10)
    applied(book, book.remove(CELL, 20))
    with pytest.raises(Forbidden, match="was removed"):
        book.redeem(TOKEN.digest, CELL, KEY, 30)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role": Role.SCHEDULER}, "role"),
        ({"role": Role.ADMIN}, "role"),
        ({"name": "no blanks"}, "id"),
        ({"expires_ms": 0}, "lifetime"),
        ({"expires_ms": 31 * 24 * 60 * MINUTE}, "lifetime"),
    ],
)
def test_a_token_that_cannot_be_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        Membership().create_token(replace(TOKEN, **changes))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_tokens_are_bounded_and_old_ones_go_when_another_is_made() -> None:
    book = Membership()
    for number in range(TOKENS_LIMIT):
        book.apply(TokenPut(replace(TOKEN, id=str(number), digest=f"d{number}")))
    with pytest.raises(Exhausted):
        book.create_token(replace(TOKEN, id="one more"))
    later = TOKEN.expires_ms + TOKEN_KEPT_MS
    changes = book.create_token(replace(TOKEN, id="x", created_ms=later, expires_ms=later + 1))
    assert len([one for one in changes if isinstance(one, TokenGone)]) == TOKENS_LIMIT


# ------------------------------------------------------------------ applicants


def test_a_code_is_compared_as_people_read_it_and_another_one_is_likely_a_slip() -> None:
    book = waiting(replace(applicant(KEY), code="10AB-01CD"))
    with pytest.raises(Conflict) as refused:
        book.admit(KEY, 20, code="10AB-01CE")
    said = refused.value.message
    assert said.index("was mistyped") < said.index("another server") < said.index("stands in between")
    assert book.admit(KEY, 20, code="loab oicd")


def test_two_that_claim_one_name_are_two() -> None:
    book = waiting(applicant(KEY), applicant(KEY2, 11))
    assert [one.fingerprint for one in book.claiming(CELL)] == [KEY, KEY2]
    with pytest.raises(Conflict, match="2 applicants have a fingerprint that begins with a"):
        book.admit("a", 20)
    applied(book, book.admit("A2", 20))
    assert book.member(CELL) == Member(Role.CELL, CELL.id, KEY2, How.ADMITTED, 20, 20)
    assert list(book.applicants) == [KEY]
    with pytest.raises(Conflict, match="remove it first"):
        book.admit(KEY, 30)


def test_an_applicant_that_comes_again_keeps_its_place_and_takes_the_new_code() -> None:
    book = waiting(applicant(since_ms=10))
    applied(book, book.applied(replace(applicant(since_ms=50), code="NEWC-ODE0")))
    assert (book.applicant(KEY).since_ms, book.applicant(KEY).code) == (10, "NEWC-ODE0")


@pytest.mark.parametrize("prefix", ["ff", ""])
def test_nobody_is_admitted_by_a_fingerprint_that_nobody_has(prefix: str) -> None:
    with pytest.raises((NotFound, Invalid)) as refused:
        waiting(applicant()).admit(prefix, 20)
    assert refused.value.field == "fingerprint"


def test_only_cells_may_wait() -> None:
    with pytest.raises(Forbidden, match="token create --role gateway"):
        Membership().applied(applicant(peer=Peer(Role.GATEWAY, "two")))


def test_a_removed_key_may_not_wait() -> None:
    book = with_member()
    applied(book, book.remove(CELL, 10))
    with pytest.raises(Forbidden, match="was removed"):
        book.applied(applicant(KEY))


def test_a_refused_key_is_told_so_for_a_day_and_may_be_admitted_all_the_same() -> None:
    book = waiting(applicant())
    applied(book, book.refuse(KEY[:8], 20))
    assert book.claiming(CELL) == []
    with pytest.raises(Forbidden, match="refused"):
        book.applied(applicant(since_ms=30))
    again = book.applied(applicant(since_ms=20 + REFUSED_MS))
    assert again == [ApplicantPut(applicant(since_ms=20 + REFUSED_MS))]
    applied(book, book.admit(KEY, 40))
    assert CELL in book.members


def test_the_oldest_that_is_away_gives_way_and_a_refused_one_first() -> None:
    keys = [f"{number:064x}" for number in range(APPLICANTS_LIMIT)]
    book = waiting(*(applicant(key, number) for number, key in enumerate(keys)))
    with pytest.raises(Exhausted):
        book.applied(applicant(KEY))
    applied(book, [*book.present(keys[9], present=False), *book.present(keys[5], present=False)])
    assert book.applied(applicant(KEY))[0] == ApplicantGone(keys[5])
    applied(book, book.refuse(keys[9], 70))
    assert book.applied(applicant(KEY))[0] == ApplicantGone(keys[9])
    assert book.applied(applicant(keys[3])) == [ApplicantPut(applicant(keys[3], 3))]


def test_who_comes_with_key_after_key_pushes_out_its_own() -> None:
    honest = replace(applicant(KEY, 1, present=False), host="10.0.0.8")
    keys = [f"{number:064x}" for number in range(APPLICANTS_LIMIT * 2)]
    book = waiting(honest)
    for number, key in enumerate(keys):
        applied(book, book.applied(applicant(key, number + 2, present=False)))
    assert len(book.applicants) == APPLICANTS_LIMIT
    assert book.applicant(KEY) == honest
    assert set(book.applicants) == {KEY, *keys[-APPLICANTS_LIMIT + 1 :]}


def test_presence_is_told_once_and_a_restart_finds_nobody() -> None:
    book = waiting(applicant(present=False))
    applied(book, book.present(KEY, present=True))
    assert book.present(KEY, present=True) == []
    assert book.present(KEY2, present=True) == []
    applied(book, book.nobody_is_present())
    assert not book.applicant(KEY).present
    assert book.nobody_is_present() == []


def test_the_first_use_of_a_name_admits_the_only_key_that_claims_it() -> None:
    book = waiting(applicant(KEY))
    assert MemberPut(Member(Role.CELL, CELL.id, KEY, How.FIRST_USE, 20, 20)) in book.admit_first(CELL, 20)
    with pytest.raises(NotFound):
        book.admit_first(OTHER, 20)
    applied(book, book.applied(applicant(KEY2)))
    with pytest.raises(Conflict, match="2 keys claim"):
        book.admit_first(CELL, 20)


# ------------------------------------------------------------------ removals


def test_a_removed_key_stays_out_and_its_name_is_free() -> None:
    book = with_member(How.TOKEN)
    applied(book, book.remove(CELL, 30))
    assert not book.members
    assert book.removals[KEY].until_ms == 30 + VALID_MS
    applied(book, book.enrolled(CELL, KEY2, How.ADMITTED, 40))
    assert book.holder(KEY2) == book.member(CELL)
    with pytest.raises(NotFound):
        book.remove(OTHER, 30)


def test_a_removed_key_does_not_come_back_by_its_token_once_the_removal_is_forgotten() -> None:
    book = Membership()
    token = replace(TOKEN, expires_ms=VALID_MS * 4)
    applied(book, [TokenPut(token), TokenPut(replace(TOKEN, id="other", digest="6f" * 32))])
    applied(book, book.redeem(token.digest, CELL, KEY, 5))
    applied(book, book.remove(CELL, 6))
    applied(book, book.forget_old_removals(VALID_MS * 2))
    assert (set(book.tokens), book.removals) == ({"other"}, {})
    with pytest.raises(Forbidden, match="not known here"):
        book.redeem(token.digest, CELL, KEY, VALID_MS * 2)


def test_the_scheduler_cannot_be_removed() -> None:
    scheduler = Peer(Role.SCHEDULER, "main")
    with pytest.raises(Conflict, match="cannot be removed"):
        with_member(peer=scheduler).remove(scheduler, 9)


def test_a_removal_is_forgotten_when_no_certificate_of_the_key_can_be_valid() -> None:
    book = with_member()
    applied(book, book.renewed(CELL, KEY, 100))
    applied(book, book.remove(CELL, 90))  # a clock that was set back does not shorten it
    assert book.forget_old_removals(99 + VALID_MS) == []
    assert book.forget_old_removals(100 + VALID_MS) == [RemovalGone(KEY)]


def test_each_change_of_what_is_trusted_is_a_new_revision_and_nothing_else_is() -> None:
    book = Membership()
    applied(book, book.first_authority("ca"))
    assert (book.trust_revision, book.trust.trusted) == (1, ("ca",))
    assert book.first_authority("ca") == []
    applied(book, book.enrolled(CELL, KEY, How.LOCAL, 5))
    assert book.trust_revision == 1
    applied(book, book.remove(CELL, 6))
    assert book.trust_revision == 2
    applied(book, book.forget_old_removals(6 + VALID_MS))
    assert book.trust_revision == 3


# ------------------------------------------------------------------ acknowledgement and rotation


def test_what_a_member_has_in_force_is_known_by_its_acknowledgement() -> None:
    book = with_member()
    assert book.behind(3) == [CELL]
    applied(book, book.acknowledged(CELL, 3, "ca"))
    assert book.behind(3) == []
    assert book.acknowledged(CELL, 3, "ca") == []
    assert book.acknowledged(OTHER, 3, "ca") == []


def test_a_rotation_goes_from_authority_to_authority_by_acknowledgements_alone() -> None:
    book = with_member()
    applied(book, [*book.first_authority("old"), *book.advance()])
    applied(book, book.rotate("new"))
    assert (book.trust.phase, book.trust.trusted) == (Phase.INTRODUCING, ("old", "new"))
    assert book.waiting_for() == [str(CELL)]
    assert book.advance() == []
    applied(book, book.acknowledged(CELL, book.trust_revision, "old"))
    applied(book, book.advance())
    assert (book.trust.phase, book.trust.trusted) == (Phase.MOVING, ("new", "old"))
    applied(book, book.acknowledged(CELL, book.trust_revision, "new"))
    applied(book, book.advance())
    assert (book.trust.phase, book.trust.trusted) == (Phase.STEADY, ("new",))


def test_a_rotation_goes_on_without_whom_it_leaves_behind() -> None:
    book = with_member()
    applied(book, book.first_authority("old"))
    with pytest.raises(Conflict):
        book.leave_behind()
    applied(book, book.rotate("new"))
    applied(book, book.leave_behind())
    for _ in range(2):
        applied(book, book.advance())
    assert book.trust.trusted == ("new",)


def test_a_book_from_a_backup_catches_up_with_what_members_have_and_believes_no_lie() -> None:
    book = with_member()
    applied(book, book.first_authority("ca"))
    applied(book, book.overtaken(7))
    assert (book.trust_revision, book.trust.trusted) == (8, ("ca",))
    assert book.overtaken(8) == book.overtaken(0) == []
    assert book.overtaken(2**64 - 1) == []


def test_what_a_member_knew_before_the_backup_is_not_taken_for_the_next_authority() -> None:
    book = with_member()
    applied(book, book.first_authority("old"))
    applied(book, book.rotate("new"))
    applied(book, [*book.overtaken(7), *book.acknowledged(CELL, 7, "old")])
    assert (book.waiting_for(), book.advance()) == ([str(CELL)], [])
    applied(book, book.acknowledged(CELL, 8, "old"))
    assert book.waiting_for() == []


def test_an_authority_that_nobody_trusts_is_not_written_down() -> None:
    book = with_member()
    applied(book, book.first_authority("ca"))
    applied(book, book.acknowledged(CELL, 1, "x" * 1_000_000))
    assert book.members[CELL].issuer == ""


# ------------------------------------------------------------------ on disk


def test_a_snapshot_brings_back_the_same_book() -> None:
    book = waiting(applicant(KEY2))
    applied(book, [TokenPut(TOKEN), *book.first_authority("ca"), *book.enrolled(CELL, KEY, How.LOCAL, 5)])
    applied(book, book.remove(CELL, 6))
    applied(book, book.enrolled(OTHER, KEY3, How.TOKEN, 7))
    stored = {kind: codec.encode(nouns) for kind, nouns in book.snapshot().items()}
    read = {kind: codec.decode(stored[kind], list[noun]) for kind, noun in Membership.kinds.items()}  # type: ignore[valid-type]
    again = Membership.restore(read)
    assert {kind: codec.encode(nouns) for kind, nouns in again.snapshot().items()} == stored
    assert again.holder(KEY3) == book.member(OTHER)
    assert again.trust_revision == book.trust_revision
    assert again.redeem(TOKEN.digest, CELL, KEY2, 8) == book.redeem(TOKEN.digest, CELL, KEY2, 8)


def test_each_change_is_read_back_from_the_journal_as_it_was_written() -> None:
    changes: list[MembershipChange] = [
        MemberPut(Member(Role.CELL, CELL.id, KEY, How.FIRST_USE, 5, 5)),
        MemberGone(Role.CELL, CELL.id),
        ApplicantPut(applicant()),
        ApplicantGone(KEY),
        TokenPut(TOKEN),
        TokenGone(TOKEN.id),
        RemovalPut(Removal(KEY, Role.CELL, CELL.id, 9)),
        RemovalGone(KEY),
        TrustPut(Trust(3, ("ca",), Phase.MOVING, 2, ("cell/x",))),
    ]
    assert codec.decode(codec.encode(changes), list[MembershipChange]) == changes
