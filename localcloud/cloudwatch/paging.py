"""Pages of long answers. A token is a position in the whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def position(token: str | None) -> int:
    """The position that a NextToken stands for.

    Raises:
        AwsError: InvalidNextToken.
    """
    if not token:
        return 0
    if not token.isdecimal():
        raise AwsError("InvalidNextToken", f"NextToken {token!r} is not one of ours")
    return int(token)


def page(found: Sequence[T], token: str | None, limit: int) -> tuple[Sequence[T], dict[str, str]]:
    """A page, and the NextToken of the answer, if there is more.

    Raises:
        AwsError: InvalidNextToken.
    """
    first = position(token)
    more = {"NextToken": str(first + limit)} if len(found) > first + limit else {}
    return found[first : first + limit], more
