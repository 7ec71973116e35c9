"""The API clients of the page: one for each service and region, and what their errors say."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as UnreachableError

from fleetcast.target import Target

if TYPE_CHECKING:
    from types import TracebackType

# A page that waits for long is as good as blank; what it asked for is asked again anyway.
CONNECT_S = 3
# As long as Timestream lets a query run.
READ_S = 65


class ApiProblem(Exception):  # noqa: N818 - told to the page, not raised to a person
    """What the page shows in place of an answer.

    Args:
        told: For a person.
        code: AWS's code, where it came from there.
        status: HTTP status.
        away: Whether the API did not answer at all.
    """

    def __init__(self, told: str, code: str = "", status: int = 502, *, away: bool = False) -> None:
        super().__init__(told)
        self.code, self.status, self.away = code, status, away


class Clients:
    """Clients of a target, made when they are first needed."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._open = AsyncExitStack()
        self._made: dict[tuple[str, str], Any] = {}
        self._making = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def get(self, service: str, region: str = "") -> Any:
        """The client of a service in a region; the target's where none is given."""
        where = region or self.target.region
        async with self._making:
            client = self._made.get((service, where))
            if client is None:
                target = Target(self.target.name, where, self.target.endpoint_url)
                made = target.client(
                    service,
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                    retries={"mode": "standard", "max_attempts": 2},
                )
                try:
                    client = await self._open.enter_async_context(made)
                except BotoCoreError as error:
                    raise problem_of(error, self.target) from error
                self._made[service, where] = client
        return client

    async def call(self, service: str, operation: str, region: str = "", **arguments: Any) -> Any:
        """Calls an operation.

        Raises:
            ApiProblem: it was refused, or nobody answered.
        """
        client = await self.get(service, region)
        try:
            return await getattr(client, operation)(**arguments)
        except (ClientError, BotoCoreError) as error:
            raise problem_of(error, self.target) from error


def problem_of(error: Exception, target: Target) -> ApiProblem:
    """What the page tells of an error of botocore."""
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        return ApiProblem(str(told.get("Message") or error), str(told.get("Code", "")))
    if isinstance(error, NoCredentialsError):
        return ApiProblem("no AWS credentials: log in, then start fleetcast dashboard again")
    if isinstance(error, UnreachableError | HTTPClientError):
        if target.endpoint_url is None:
            return ApiProblem(f"AWS does not answer in {target.region}", status=503, away=True)
        return ApiProblem(
            f"the local cloud on {target.endpoint_url} does not answer: run fleetcast cloud start",
            status=503,
            away=True,
        )
    return ApiProblem(str(error))
