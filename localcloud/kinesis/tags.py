"""Tags of streams and consumers, within AWS's limits."""

from __future__ import annotations

import re
from typing import Any

from localcloud.http import AwsError

MAX_TAGS = 50
MAX_KEY_LENGTH = 128
MAX_VALUE_LENGTH = 256
# "Unicode letters, digits, white space, _ . : / = + - % @", as the API reference has it.
_WORDS = re.compile(r"[\w\s.:/=+\-%@]*")


def checked_tags(tags: dict[str, Any], present: dict[str, str]) -> dict[str, str]:
    """The tags of a resource after some were added to those present.

    Raises:
        AwsError: InvalidArgumentException.
    """
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_KEY_LENGTH or not _WORDS.fullmatch(key):
            raise _refused(f"tag key {key!r} has characters or a length that are not allowed")
        if key.lower().startswith("aws:"):
            raise _refused(f"tag key {key!r}: keys that begin with aws: are reserved")
        if len(value or "") > MAX_VALUE_LENGTH or not _WORDS.fullmatch(value or ""):
            raise _refused(f"the value of tag {key!r} has characters or a length not allowed")
    after = {**present, **{key: value or "" for key, value in tags.items()}}
    if len(after) > MAX_TAGS:
        raise _refused(f"a resource has at most {MAX_TAGS} tags")
    return after


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """The API's list of tags, by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _refused(message: str) -> AwsError:
    return AwsError("InvalidArgumentException", message)
