"""Where a join token says that its scheduler is."""

from nano.service import Discovery, FabricSettings
from services.scheduler.invitations import places


def test_places_are_as_given_as_it_listens_or_all_of_the_host() -> None:
    anywhere = FabricSettings(port=5610)
    assert places(anywhere, ["nano.example:7", "10.0.0.1"]) == ["nano.example:7", "10.0.0.1:5610"]
    assert places(FabricSettings(listen="10.0.0.2"), []) == ["10.0.0.2:5600"]
    pinned = FabricSettings(discovery=Discovery(interfaces=("127.0.0.1",)))
    assert places(pinned, []) == ["127.0.0.1:5600"]
    found = places(anywhere, [])
    assert found
    assert all(place.endswith(":5610") for place in found)
