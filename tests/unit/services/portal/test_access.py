"""A menu lets in, or says which one would."""

import pytest

from nano.model.errors import Forbidden
from services.portal.access import MENUS, Menu, check_menu


def test_the_menus_are_the_documented_ones_in_their_order() -> None:
    documented = (
        "dashboard, compute_pool, address_pool, storage_pool, instance, image, media, templates, policies, "
        "user, log, visibility"
    )
    assert ", ".join(MENUS) == documented


def test_any_of_the_menus_lets_in() -> None:
    check_menu(frozenset({Menu.LOG}), {Menu.LOG, Menu.USER}, "x")
    check_menu(frozenset(), (), "x")


def test_none_of_them_does_not() -> None:
    with pytest.raises(Forbidden, match="log or visibility"):
        check_menu(frozenset({Menu.IMAGE}), {Menu.VISIBILITY, Menu.LOG}, "reading the log")
