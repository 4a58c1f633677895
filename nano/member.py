"""The service `nano.v1.Member`: every peer but the scheduler hears here whom the zone trusts.

Also where `ZoneTrust`, as peers keep it, and the contract that carries it meet.
"""

import msgspec

from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.identity.identity import Identity
from nano.fabric.identity.renewal import Renewal
from nano.fabric.identity.trust import ZoneTrust
from nano.model.errors import Invalid
from nano.model.peers import Role
from nano.outlook import Outlook

MEMBER_ROLES = {"/nano.v1.Member/Trust": frozenset({Role.SCHEDULER})}
"""Whom to trust is the scheduler's word alone."""


class Member:
    """This process as a member of its zone: what it was told, kept and in force."""

    def __init__(
        self,
        fabric: Fabric,
        folder: IdentityFolder,
        identity: Identity,
        renewal: Renewal,
        outlook: Outlook | None = None,
    ) -> None:
        """`outlook` is told that the scheduler has spoken; on the scheduler's own host there is none."""
        self.fabric = fabric
        self.outlook = outlook
        self._folder = folder
        self._identity = identity
        self._renewal = renewal

    @property
    def issuer(self) -> str:
        """Which authority signed the certificate that this process shows."""
        return self._folder.issuer

    def told(self, trust: ZoneTrust) -> ZoneTrust:
        """Keep what the zone trusts and put it in force; gives what is in force then. `Invalid` names what is
        wrong with it."""
        before = self._folder.trust()
        known = self._folder.trusts(trust)
        if known != before:
            self.fabric.renewed(self._identity)
            self._renewal.told()
        if self.outlook is not None:
            self.outlook.told(known)
        return known


class MemberRpc(v1.MemberBase):
    """The service, for one process."""

    def __init__(self, member: Member, zone: str) -> None:
        self._member = member
        self._zone = zone

    async def trust(self, message: v1.ZoneTrust) -> v1.TrustReply:
        known = self._member.told(zone_trust(message, self._zone))
        return v1.TrustReply(revision=known.revision, issuer=self._member.issuer)


def zone_trust(message: v1.ZoneTrust | None, zone: str) -> ZoneTrust:
    """What a message says of whom `zone` trusts; `Invalid` names the field that cannot be meant."""
    said = message or v1.ZoneTrust()
    plain = {
        "zone": zone,
        "revision": said.revision,
        "authorities": said.authorities,
        "removals": [
            {
                "fingerprint": each.fingerprint,
                "role": each.role,
                "id": each.id,
                "until_ms": each.until_ms,
            }
            for each in said.removals
        ],
    }
    try:
        return msgspec.convert(plain, ZoneTrust)
    except msgspec.ValidationError as error:
        raise Invalid("trust", f"what the zone trusts cannot be read: {error}") from error


def trust_message(trust: ZoneTrust) -> v1.ZoneTrust:
    """What to say of it."""
    return v1.ZoneTrust(
        revision=trust.revision,
        authorities=list(trust.authorities),
        removals=[
            v1.Removal(fingerprint=each.fingerprint, role=each.role, id=each.id, until_ms=each.until_ms)
            for each in trust.removals
        ],
    )
