"""What a task's steps do to the ledger, and how they are taken back. Pure: `Callee` commits it."""

from collections.abc import Callable

from nano.model.action import LeaseAddress, Leased, Nothing, ReleaseAddress
from nano.saga.callee import Callee
from nano.saga.handlers import Did
from services.addresspool.ledger import Changes, Ledger


def offer(callee: Callee, now_ms: Callable[[], int]) -> None:
    """Have `callee` take the steps that are the address pool's own."""
    callee.immediate(
        LeaseAddress, do=lambda action, ledger: lease_address(action, ledger, now_ms()), undo=return_address
    )
    callee.immediate(ReleaseAddress, do=release_address)


def lease_address(action: LeaseAddress, ledger: Ledger, now_ms: int) -> Did:
    lease, changes = ledger.lease(action.pool, action.owner, action.instance, now_ms)
    return changes, Leased(ledger.binding(lease))


def return_address(action: LeaseAddress, _result: Leased | None, ledger: Ledger) -> Changes:
    """The owner's name was minted for this task, so what it holds was leased by this step."""
    return ledger.release_owner(action.owner)


def release_address(action: ReleaseAddress, ledger: Ledger) -> Did:
    return ledger.release(action.instance), Nothing()
