from hypothesis import given
from hypothesis import strategies as st

from nano.saga.callees import split_key, step_key

names = st.from_regex(r"[a-z][a-z_]*", fullmatch=True)


@given(names, st.integers(1, 10**6))
def test_a_step_and_its_attempt_come_back_from_the_key(name: str, attempt: int) -> None:
    assert split_key(step_key(name, attempt)) == (name, attempt)


@given(st.text())
def test_any_text_from_outside_is_a_key(text: str) -> None:
    name, attempt = split_key(text)
    assert attempt == 1 or text.startswith(f"{name}~")


def test_the_first_attempt_is_named_as_the_step_is() -> None:
    assert step_key("start_instance", 1) == "start_instance"
    assert step_key("start_instance", 2) == "start_instance~2"
