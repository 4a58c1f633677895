"""A small book for tests of the shelf: accounts and the transfers between them, two kinds that must agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import msgspec

from nano import codec


@dataclass(frozen=True)
class Account:
    owner: str
    cents: int


@dataclass(frozen=True)
class Transfer:
    number: int
    source: str
    target: str
    cents: int
    memo: str


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    owner: str


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    transfer: Transfer


class Bank:
    """Money is never made: the balances always add up to zero."""

    changes: ClassVar[Any] = Opened | Moved
    kinds: ClassVar[Mapping[str, Any]] = {"accounts": Account, "transfers": Transfer}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.transfers: dict[int, Transfer] = {}

    def transfer(self, source: str, target: str, cents: int, memo: str = "") -> tuple[Opened | Moved, ...]:
        """What changes when `cents` are moved; accounts are opened as they are needed."""
        opened = [Opened(owner) for owner in (source, target) if owner not in self.accounts]
        return (*opened, Moved(Transfer(len(self.transfers) + 1, source, target, cents, memo)))

    def apply(self, change: Opened | Moved) -> None:
        match change:
            case Opened(owner):
                self.accounts[owner] = Account(owner, 0)
            case Moved(transfer):
                self.transfers[transfer.number] = transfer
                self._add(transfer.source, -transfer.cents)
                self._add(transfer.target, transfer.cents)

    def _add(self, owner: str, cents: int) -> None:
        account = self.accounts[owner]
        self.accounts[owner] = replace(account, cents=account.cents + cents)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {"accounts": tuple(self.accounts.values()), "transfers": tuple(self.transfers.values())}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        bank = cls()
        bank.accounts = {account.owner: account for account in snapshot["accounts"]}
        bank.transfers = {transfer.number: transfer for transfer in snapshot["transfers"]}
        return bank

    def as_bytes(self) -> bytes:
        """The whole state, comparable."""
        return codec.encode(self.snapshot())
