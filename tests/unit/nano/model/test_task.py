"""A task, as it is shown."""

from nano.model.errors import BY_CODE, Invalid
from nano.model.task import Fault, error_of, fault_of


def test_an_error_comes_back_from_its_fault() -> None:
    for code, kind in BY_CODE.items():
        fault = Fault(code, "what", "field" if kind is Invalid else "", "subject")
        raised = error_of(fault)
        assert type(raised) is kind
        assert fault_of(raised) == fault
