"""Names of Lambda operations by their HTTP form, so that what is not served is refused by name."""

from __future__ import annotations

import functools
import re


def name_of(method: str, path: str) -> str | None:
    """The operation of a request; None where Lambda has none."""
    for known, pattern, name in _operations():
        if known == method and pattern.match(path):
            return name
    return None


@functools.cache
def _operations() -> list[tuple[str, re.Pattern[str], str]]:
    from botocore.session import get_session  # noqa: PLC0415 - loads the service's model

    model = get_session().get_service_model("lambda")
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = http["requestUri"].partition("?")[0]
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", path.rstrip("/"))
        found.append((http["method"], re.compile(f"^{pattern}/?$"), name))
    return found
