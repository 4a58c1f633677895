"""The name that a cell goes by."""

import pytest

from nano.model.errors import Invalid
from services.cell.config import Config, Driver, cell_id


def test_a_cell_is_named_by_its_bridge_or_as_configured() -> None:
    assert cell_id(Config(), "02:4E:0a:39:00:00", "h") == "Cell_024e0a390000"
    assert cell_id(Config(id="Cell_00163e000001"), "02:4e:0a:39:00:00", "h") == "Cell_00163e000001"


@pytest.mark.parametrize("wrong", ["cell-1", "Cell_00163E000001", "Cell_123"])
def test_a_name_of_another_form_is_refused(wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        cell_id(Config(id=wrong), None, "h")
    assert caught.value.field == "id"


@pytest.mark.parametrize("mac", [None, "00:00:00:00:00:00"])
def test_without_a_bridge_a_real_cell_has_no_name(mac: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        cell_id(Config(), mac, "h")
    assert caught.value.field == "bridge"


def test_a_pretended_cell_without_a_bridge_keeps_its_name() -> None:
    pretended = Config(hypervisor=Driver.SIMULATED)
    name = cell_id(pretended, None, "laptop")
    assert name == cell_id(pretended, None, "laptop")
    assert name != cell_id(pretended, None, "other")
    assert name.startswith("Cell_02")
