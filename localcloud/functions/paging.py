"""Pages of the Lambda API's lists: MaxItems, Marker and NextMarker."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.http import Request

MAX_ITEMS = 10_000


def page(request: Request, name: str, items: Sequence[Any], most: int) -> dict[str, Any]:
    """One page of a list, of at most `most` items, and where the next begins.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    wanted = parse_qs(request.query)
    try:
        count = int(wanted.get("MaxItems", [str(most)])[0])
        marker = wanted.get("Marker", [""])[0]
        first = int(base64.b64decode(marker, validate=True)) if marker else 0
    except (ValueError, binascii.Error) as error:
        raise AwsError("InvalidParameterValueException", "MaxItems or Marker is invalid") from error
    if not 1 <= count <= MAX_ITEMS or first < 0:
        raise AwsError("InvalidParameterValueException", f"MaxItems must be from 1 to {MAX_ITEMS}")
    end = first + min(count, most)
    answer: dict[str, Any] = {name: list(items[first:end])}
    if end < len(items):
        answer["NextMarker"] = base64.b64encode(str(end).encode()).decode()
    return answer
