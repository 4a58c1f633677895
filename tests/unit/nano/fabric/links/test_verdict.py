"""What is said to whom is turned away, and what is understood of it."""

import pytest
from aioquic.tls import AlertDescription

from nano.fabric.identity.identity import Foreign, Removed
from nano.fabric.links import verdict
from nano.fabric.links.verdict import Verdict
from nano.model.errors import Untrusted


@pytest.mark.parametrize(
    ("error", "said", "alert"),
    [
        (Removed("gone"), Verdict.REMOVED, AlertDescription.certificate_revoked),
        (Foreign("of nobody"), Verdict.FOREIGN, AlertDescription.unknown_ca),
        (Untrusted("too late"), Verdict.UNFIT, AlertDescription.bad_certificate),
    ],
)
def test_it_is_understood_as_it_was_said(error: Untrusted, said: Verdict, alert: int) -> None:
    assert verdict.on(error) is said
    assert said.value == alert
    assert verdict.heard(alert) is said


def test_any_other_alert_says_no_more_than_that_something_is_wrong() -> None:
    assert {verdict.heard(alert) for alert in range(256) if alert not in {44, 48}} == {Verdict.UNFIT}
