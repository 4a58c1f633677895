"""What passes to the gateway: members that are judged have one spelling."""

import pytest

from nano.model.errors import Invalid
from services.portal.forwarding import members

JUDGED = ("owner", "group", "all")


def test_members_keep_their_spelling_but_for_those_that_are_judged() -> None:
    found = members(b'{"Name": "x", "OWNER": "bob", "Group": "g"}', JUDGED)
    assert found == {"Name": "x", "owner": "bob", "group": "g"}


def test_the_exact_name_wins_and_no_other_spelling_is_left() -> None:
    found = members(b'{"ALL": true, "all": false, "Owner": "eve", "owner": "ann"}', JUDGED)
    assert found == {"all": False, "owner": "ann"}


def test_an_empty_body_is_an_empty_object() -> None:
    assert members(b"", JUDGED) == {}


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        members(body, JUDGED)
    assert refused.value.field == "body"
