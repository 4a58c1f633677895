"""Whom a remote step is meant for: a named peer, or the one peer of a role.

In the journal both are one word: `cell/Cell_5254001a2b3c`, or `addresspool`.
"""

from functools import lru_cache
from typing import TypeAlias

from nano.model.peers import Peer, Role

Target: TypeAlias = Peer | Role


def target_text(target: Target) -> str:
    return str(target)


@lru_cache(maxsize=32_768)
def target_of(text: str) -> Target:
    """The target that a journal's word stands for; `ValueError` if the role is none of ours."""
    role, slash, peer_id = text.partition("/")
    return Peer(Role(role), peer_id) if slash else Role(role)


def same_peer(text: str, peer: Peer) -> bool:
    """Whether `peer` may answer for the target `text`."""
    return text in {str(peer), str(peer.role)}
