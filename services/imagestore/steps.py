"""What a task's steps do to the catalog, and how they are taken back. Pure: `Callee` commits it."""

from nano.model.action import PinImage
from nano.saga.callee import Callee
from nano.saga.handlers import errand


def offer(callee: Callee) -> None:
    """Have `callee` take the steps that are the image store's own."""
    callee.immediate(
        PinImage,
        do=lambda action, book: book.pin(action),
        undo=lambda _action, _result, book: book.unpin(errand.get().task),
    )
    callee.when_forgotten(lambda task, book: book.unpin(task))
