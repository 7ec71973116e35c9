"""Substitution templates: `${expression}` in the settings of an action."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.iot.sql.parse import parse_expression
from localcloud.iot.sql.values import UNDEFINED, Context, text

if TYPE_CHECKING:
    from typing import Any

_TEMPLATE = re.compile(r"\$\{([^}]*)\}")


class Template:
    """A text with `${...}` in it.

    Args:
        source: The text.

    Raises:
        SqlError: an expression in it is not served.
    """

    def __init__(self, source: str) -> None:
        self._parts: list[Any] = []
        at = 0
        for match in _TEMPLATE.finditer(source):
            self._parts += [source[at : match.start()], parse_expression(match.group(1))]
            at = match.end()
        self._parts.append(source[at:])

    def fill(self, context: Context) -> str:
        """The text for a message; what is Undefined is the text `undefined`."""
        out = []
        for part in self._parts:
            if isinstance(part, str):
                out.append(part)
                continue
            found = part(context)
            shown = text(found)
            out.append("null" if found is None else "undefined" if shown is UNDEFINED else shown)
        return "".join(out)
