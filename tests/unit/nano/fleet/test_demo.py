"""What the demo verifies when all has ended."""

import json
from pathlib import Path

from nano.fleet.demo import claims_in


def test_a_task_that_has_not_ended_keeps_its_claims(tmp_path: Path) -> None:
    shelf = tmp_path / "data" / "scheduler" / "shelf"
    shelf.mkdir(parents=True)
    ended = {"id": "a", "claims": ["instance/1"], "ended_ms": 5}
    still_open = {"id": "b", "claims": ["instance/2", "name/default/x"]}
    (shelf / "tasks.json").write_text(json.dumps({"nouns": [ended, still_open]}))
    assert claims_in(tmp_path) == ["instance/2", "name/default/x"]
    (shelf / "tasks.json").write_text(json.dumps({"nouns": [ended]}))
    assert claims_in(tmp_path) == []
