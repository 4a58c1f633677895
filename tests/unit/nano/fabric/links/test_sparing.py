"""What is written of a flood, and what is said of the rest."""

from nano.fabric.links.sparing import LINES, SPAN_S, Sparing


def test_the_first_lines_of_a_flood_are_written_and_the_rest_is_counted() -> None:
    sparing = Sparing()
    said = [sparing.left_out("refused", now=n / 100) for n in range(1000)]
    assert said == [0] * LINES + [None] * (1000 - LINES)
    assert sparing.left_out("refused", now=SPAN_S) == 1000 - LINES
    assert sparing.left_out("refused", now=SPAN_S) == 0


def test_kinds_do_not_stand_in_each_others_way() -> None:
    sparing = Sparing()
    for _ in range(LINES + 1):
        sparing.left_out("refused", now=0.0)
    assert sparing.left_out("refused", now=0.0) is None
    assert sparing.left_out("defect", now=0.0) == 0


def test_what_is_rare_is_always_written() -> None:
    sparing = Sparing()
    assert {sparing.left_out("refused", now=n * SPAN_S / LINES) for n in range(100)} == {0}
