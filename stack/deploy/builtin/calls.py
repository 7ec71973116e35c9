"""Calls of AWS APIs that may find nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_GONE = (
    "NotFound", "NoSuch", "NonExistent", "DoesNotExist", "ResourceNotFound", "404",
    "ServerSideEncryptionConfigurationNotFoundError", "OwnershipControlsNotFoundError",
)  # fmt: skip


def means_gone(error: ClientError) -> bool:
    """Whether an error says that the resource is not there."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return any(text in code for text in _GONE)


async def exists(
    call: Awaitable[Any], tells: Callable[[Mapping[str, Any]], bool] = lambda _: True
) -> bool:
    """Whether a describing call finds its resource.

    Args:
        call: The call, under way.
        tells: Whether its answer has the resource, where the answer comes without it, too.
    """
    try:
        answer = await call
    except ClientError as error:
        if means_gone(error):
            return False
        raise
    return tells(answer)


async def unless_gone(call: Awaitable[Any]) -> None:
    """Makes a deleting call; a resource that is gone already is fine."""
    try:
        await call
    except ClientError as error:
        if not means_gone(error):
            raise
