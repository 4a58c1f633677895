"""Why a peer that has proven itself turns us away, in words for programs: an alert of TLS (RFC 8446, 6.2).

An alert counts only when it comes from somebody who has proven who it is, which a link knows: before that
anybody on the network can say anything.
"""

from enum import Enum

from aioquic.tls import AlertDescription

from nano.fabric.identity.identity import Foreign, Removed
from nano.model.errors import Untrusted


class Verdict(Enum):
    UNFIT = int(AlertDescription.bad_certificate)
    """For another reason than these, such as a clock that is wrong."""
    REMOVED = int(AlertDescription.certificate_revoked)
    """Our key was shut out of the zone."""
    FOREIGN = int(AlertDescription.unknown_ca)
    """The authority that signed our certificate is not trusted, or not any more."""


def on(error: Untrusted) -> Verdict:
    """What to tell a peer that is turned away for `error`."""
    match error:
        case Removed():
            return Verdict.REMOVED
        case Foreign():
            return Verdict.FOREIGN
    return Verdict.UNFIT


def heard(alert: int) -> Verdict:
    """What a peer has said of us by `alert`."""
    return Verdict(alert) if alert in {each.value for each in Verdict} else Verdict.UNFIT
