"""The image store's book: names, uploads, pins."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from nano import codec
from nano.model.action import PinImage
from nano.model.errors import Busy, Conflict, Exists, Invalid, NotFound
from nano.model.ids import ImageId, TaskId
from nano.model.image import Content, ImageKind
from nano.saga.handlers import Errand, errand
from services.imagestore.catalog import Catalog
from tests.support.nouns import IMAGE

TASK = TaskId("task")
EMPTY = replace(IMAGE, content=None)
CONTENT = Content(1, 5, "b3", "s1", "qcow2", 10)


def applied(book: Catalog, changes: Sequence[Any]) -> Catalog:
    for change in changes:
        book.apply(change)
    return book


def catalog(*contents: Content) -> Catalog:
    book = Catalog()
    applied(book, book.create(EMPTY))
    for content in contents:
        applied(book, book.begin_upload(IMAGE.id))
        applied(book, book.end_upload(IMAGE.id, content, 9))
    return book


def pin(book: Catalog) -> None:
    token = errand.set(Errand(TASK, "pin_image"))
    try:
        changes, result = book.pin(PinImage(IMAGE.id, ImageKind.DISK))
    finally:
        errand.reset(token)
    assert result.content == book.images[IMAGE.id].content
    applied(book, changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "two words"}, "name"),
        ({"name": ""}, "name"),
        ({"owner": "a.b"}, "owner"),
        ({"group": ""}, "group"),
        ({"tags": ("ok", "bad\n")}, "tags[1]"),
    ],
)
def test_a_record_that_cannot_be_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        Catalog().create(replace(EMPTY, **changes))
    assert refused.value.field == field


def test_a_medium_may_have_any_name_and_names_are_unique_for_group_and_kind() -> None:
    book = catalog()
    applied(book, book.create(replace(EMPTY, id=ImageId("m"), kind=ImageKind.MEDIA, name="debian")))
    applied(book, book.create(replace(EMPTY, id=ImageId("g"), group="other")))
    applied(book, book.create(replace(EMPTY, id=ImageId("s"), kind=ImageKind.MEDIA, name="two words (1)")))
    with pytest.raises(Exists) as refused:
        book.create(replace(EMPTY, id=ImageId("again")))
    assert refused.value.subject == IMAGE.id


def test_a_rename_frees_the_old_name_and_takes_the_new_one() -> None:
    book = catalog()
    applied(book, book.modify(replace(EMPTY, name="new"), 7))
    applied(book, book.create(replace(EMPTY, id=ImageId("two"))))
    with pytest.raises(Exists):
        book.modify(replace(EMPTY, id=ImageId("two"), name="new"), 8)
    with pytest.raises(Conflict, match="like that already"):
        book.modify(book.images[IMAGE.id], 8)
    assert book.images[IMAGE.id].modified_ms == 7


def test_an_image_of_the_other_kind_is_not_found() -> None:
    with pytest.raises(NotFound):
        catalog().delete(IMAGE.id, ImageKind.MEDIA)


def test_one_upload_at_a_time_and_its_end_gives_content() -> None:
    book = catalog()
    applied(book, book.begin_upload(IMAGE.id))
    with pytest.raises(Busy):
        book.begin_upload(IMAGE.id)
    with pytest.raises(Busy):
        book.delete(IMAGE.id, ImageKind.DISK)
    applied(book, book.end_upload(IMAGE.id, CONTENT, 9))
    assert book.images[IMAGE.id].content == CONTENT
    assert not book.images[IMAGE.id].uploading


def test_an_upload_that_was_broken_off_leaves_the_content_as_it_was() -> None:
    book = catalog(CONTENT)
    applied(book, book.begin_upload(IMAGE.id))
    applied(book, book.abort_all_uploads())
    assert book.images[IMAGE.id].content == CONTENT
    assert not book.images[IMAGE.id].uploading
    assert book.abort_all_uploads() == []


def test_pinned_bytes_stay_through_a_replacement_and_until_the_task_has_ended() -> None:
    book = catalog(CONTENT)
    pin(book)
    with pytest.raises(Busy, match=TASK):
        book.delete(IMAGE.id, ImageKind.DISK)
    applied(book, book.begin_upload(IMAGE.id))
    assert book.next_version(IMAGE.id) == 2
    applied(book, book.end_upload(IMAGE.id, replace(CONTENT, version=2), 9))
    assert book.kept() == {(IMAGE.id, 1), (IMAGE.id, 2)}
    assert book.content(IMAGE.id, 1) == CONTENT
    applied(book, book.unpin(TASK))
    assert book.kept() == {(IMAGE.id, 2)}
    with pytest.raises(NotFound, match="no version 1"):
        book.content(IMAGE.id, 1)
    assert book.unpin(TASK) == []
    applied(book, book.delete(IMAGE.id, ImageKind.DISK))
    assert book.kept() == set()


def test_what_has_no_content_cannot_be_pinned() -> None:
    errand.set(Errand(TASK, "pin_image"))
    with pytest.raises(Conflict, match="no content yet"):
        catalog().pin(PinImage(IMAGE.id, ImageKind.DISK))


def test_a_snapshot_brings_back_the_same_book() -> None:
    book = catalog(CONTENT)
    pin(book)
    stored = {kind: codec.encode(nouns) for kind, nouns in book.snapshot().items()}
    read = {kind: codec.decode(stored[kind], list[noun]) for kind, noun in Catalog.kinds.items()}  # type: ignore[valid-type]
    again = Catalog.restore(read)
    assert {kind: codec.encode(nouns) for kind, nouns in again.snapshot().items()} == stored
    with pytest.raises(Exists):
        again.create(replace(EMPTY, id=ImageId("again")))
