"""Each setting of the stack is known for what a change of it does; the table is complete."""

from __future__ import annotations

from stack.config import StackConfig
from tests.stack.settings import CHANGES, IDENTITY, OPTIONAL


def test_every_setting_is_in_the_table_of_what_its_change_does() -> None:
    listed = [*CHANGES, *IDENTITY, *OPTIONAL, "tags"]
    assert sorted(listed) == sorted(StackConfig.model_fields)


def test_the_other_value_of_each_is_another_and_can_be_used() -> None:
    for name, (value, where) in CHANGES.items():
        before = StackConfig.for_target("local", "dev")
        after = StackConfig.for_target("local", "dev", **{name: value})
        assert getattr(before, name) != getattr(after, name), name
        assert where
