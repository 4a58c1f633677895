from structlog.testing import capture_logs

from nano.model.errors import NoAddress
from nano.model.task import Fault, error_of, fault_of
from nano.saga.faults import fault_from


def test_an_expected_error_keeps_its_fields() -> None:
    error = NoAddress("pool lan is used up", field="pool", subject="lan")
    fault = fault_from(error, task="t", step="lease_address")
    assert fault == Fault("no_address", "pool lan is used up", "pool", "lan")
    again = error_of(fault)
    assert isinstance(again, NoAddress)
    assert fault_of(again) == fault


def test_a_defect_is_logged_once_under_the_id_that_its_fault_names() -> None:
    with capture_logs() as logs:
        fault = fault_from(KeyError("colour"), task="t", step="paint")
    assert fault.code == "internal"
    assert [entry["log_id"] for entry in logs] == [fault.subject]
    assert fault.subject in fault.message
    assert "colour" not in fault.message
