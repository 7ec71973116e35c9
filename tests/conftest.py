"""What holds for all tests: the longest file begins first, so that no process waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests with the real Terraform, which mostly wait for it, at the beginning."""
    items.sort(key=lambda item: item.get_closest_marker("terraform") is None)
