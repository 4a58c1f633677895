"""What a task is made of: steps that say how to do something and, beside it, how to take it back.

    @step
    def reserve_room(notes: CreateInstance, book: Inventory) -> Moved[CreateInstance]: ...

    @reserve_room.undo
    def free_room(notes: CreateInstance, book: Inventory) -> Changes: ...

    @remote(Role.ADDRESSPOOL)
    def lease_address(notes: CreateInstance) -> LeaseAddress: ...

    @lease_address.done
    def note_binding(notes: CreateInstance, result: Leased, book: Inventory) -> Moved[CreateInstance]: ...

    CREATE_INSTANCE = Saga("create_instance", CreateInstance, (reserve_room, lease_address, ...), pivot=...)

A local step changes the service's own book, and is whole because its change and its mark are one commit. A
remote step asks another service; that one keeps what it did, so taking it back is the same for all: `Undo`.
Every function here is pure: it sees the notes and the book, and says what changes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, overload

import msgspec

from nano import codec
from nano.model.action import Action
from nano.saga.targets import Target

N = TypeVar("N")
"""A task's notes: a frozen dataclass or `msgspec.Struct`, all that a step or an undo needs to know."""

Changes: TypeAlias = Sequence[msgspec.Struct]
"""What a book is told to apply: its own frozen, tagged changes."""
Moved: TypeAlias = tuple[N, Changes]
"""The notes as they are after a step, and what it changes in the book."""

_Do: TypeAlias = Callable[[N, Any], Moved[N]]
_Undo: TypeAlias = Callable[[N, Any], Changes]
_When: TypeAlias = Callable[[N], bool]
_Act: TypeAlias = Callable[[N], Action]
_Peer: TypeAlias = Callable[[N], Target]
_Fold: TypeAlias = Callable[[N, Any, Any], Moved[N]]


class Step(Generic[N]):
    """One move of a task with its way back: a `Local` or a `Remote`.

    `no_undo` says why there is no way back: it is a read, it stands at or behind the pivot, or its trace goes
    with the task's end.
    """

    def __init__(self, name: str, no_undo: str) -> None:
        self.name = name
        self.no_undo = no_undo
        self._when: _When[N] | None = None

    def when(self, wanted: _When[N]) -> _When[N]:
        """Decorates the predicate that says whether these notes need the step at all."""
        self._when = wanted
        return wanted

    def wanted(self, notes: N) -> bool:
        return self._when is None or self._when(notes)

    @property
    def can_undo(self) -> bool:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} step {self.name}>"


class Local(Step[N]):
    """A move in the service's own book, applied together with its mark."""

    def __init__(self, do: _Do[N], no_undo: str) -> None:
        super().__init__(do.__name__, no_undo)
        self.do = do
        self.take_back: _Undo[N] | None = None

    def undo(self, take_back: _Undo[N]) -> _Undo[N]:
        """Decorates the way back, which needs nothing but the notes and the book."""
        self.take_back = take_back
        return take_back

    @property
    def can_undo(self) -> bool:
        return self.take_back is not None


class Remote(Step[N]):
    """A move on another service, begun and not waited for; `to` is the peer, or the role of the only one."""

    def __init__(self, to: Target | _Peer[N], act: _Act[N], no_undo: str) -> None:
        super().__init__(act.__name__, no_undo)
        self._to = to
        self.act = act
        self.fold: _Fold[N] = _keep_notes
        self.let_go: _Undo[N] = _change_nothing

    def done(self, fold: _Fold[N]) -> _Fold[N]:
        """Decorates what takes the callee's result into the notes and the book."""
        self.fold = fold
        return fold

    def abandoned(self, let_go: _Undo[N]) -> _Undo[N]:
        """Decorates what follows in the book when the step, or its undo, is written off: whoever took it, or
        may have, was declared dead and says nothing of it any more."""
        self.let_go = let_go
        return let_go

    def target(self, notes: N) -> Target:
        return self._to(notes) if callable(self._to) else self._to

    @property
    def can_undo(self) -> bool:
        return not self.no_undo


def _keep_notes(notes: N, _result: object, _book: object) -> Moved[N]:
    return notes, ()


def _change_nothing(_notes: object, _book: object) -> Changes:
    return ()


@overload
def step(do: _Do[N]) -> Local[N]: ...
@overload
def step(*, no_undo: str) -> Callable[[_Do[N]], Local[N]]: ...
def step(do: _Do[N] | None = None, *, no_undo: str = "") -> Local[N] | Callable[[_Do[N]], Local[N]]:
    """Make a local step of a function `(notes, book) -> (notes, changes)`; give it `.undo` or say why not."""
    if do is not None:
        return Local(do, no_undo)
    return lambda do: Local(do, no_undo)


@overload
def remote(to: Target, *, no_undo: str = "") -> Callable[[_Act[N]], Remote[N]]: ...
@overload
def remote(to: _Peer[N], *, no_undo: str = "") -> Callable[[_Act[N]], Remote[N]]: ...
def remote(to: Target | _Peer[N], *, no_undo: str = "") -> Callable[[_Act[N]], Remote[N]]:
    """Make a remote step of a function `(notes) -> Action`; `to` may be read from the notes."""
    return lambda act: Remote(to, act, no_undo)


class Saga(Generic[N]):
    """A task's steps in order, and the pivot: the step after which it only goes forward, for ever.

    Without a pivot the last step is it. Refuses, when the program starts, what could not be taken back.
    """

    def __init__(
        self, name: str, notes: type[N], steps: Sequence[Step[N]], *, pivot: Step[N] | None = None
    ) -> None:
        self.name = name
        self.steps = tuple(steps)
        self._notes = notes
        self._at = {each.name: index for index, each in enumerate(self.steps)}
        if not self.steps or len(self._at) != len(self.steps):
            raise ValueError(f"saga {name}: it needs steps, and each a name of its own")
        self.pivot = self._at[(pivot or self.steps[-1]).name]
        for each in self.steps[: self.pivot + 1]:
            if not each.can_undo and not each.no_undo:
                raise ValueError(f"saga {name}: step {each.name} has no undo and does not say why (no_undo)")

    def index(self, step_name: str) -> int | None:
        return self._at.get(step_name)

    def encode(self, notes: N) -> msgspec.Raw:
        """The notes as they stand in the journal: JSON, kept as bytes until a step needs them."""
        return msgspec.Raw(codec.encode(notes))

    def decode(self, notes: msgspec.Raw) -> N:
        return codec.decode(notes, self._notes)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"<saga {self.name}: {', '.join(each.name for each in self.steps)}>"
