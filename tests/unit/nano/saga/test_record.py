import msgspec
import pytest

from nano.model.ids import TaskId
from nano.model.task import TaskState
from nano.saga.record import Mark, TaskRecord

RECORD = TaskRecord(TaskId("t"), "create", "vm", msgspec.Raw(b"{}"), step_count=4, pivot=2, created_ms=0)


@pytest.mark.parametrize(
    ("index", "mark", "past"),
    [
        (-1, Mark.OPENED, False),
        (1, Mark.DONE, False),
        (2, Mark.BEGUN, False),
        (2, Mark.FAILED, False),
        (2, Mark.DONE, True),
        (3, Mark.BEGUN, True),
        (3, Mark.FAILED, True),
        (3, Mark.ABANDONED, True),
    ],
)
def test_the_pivot_is_passed_when_its_step_is_done(index: int, mark: Mark, past: bool) -> None:
    record = msgspec.structs.replace(RECORD, index=index, mark=mark)
    assert record.past_pivot is past
    assert record.cancellable is not past


def test_on_the_way_back_nothing_passes_the_pivot() -> None:
    record = msgspec.structs.replace(RECORD, index=2, mark=Mark.ABANDONED, back=True)
    assert not record.past_pivot


def test_what_has_ended_cannot_be_cancelled() -> None:
    assert not msgspec.structs.replace(RECORD, state=TaskState.FAILED).cancellable


def test_an_undo_goes_where_its_step_went_last() -> None:
    record = msgspec.structs.replace(RECORD, at=((1, "addresspool"), (2, "cell/a"), (2, "cell/b")))
    assert record.target(2) == "cell/b"
    assert record.target(0) is None
    assert record.peers == {"addresspool", "cell/a", "cell/b"}
