"""Deletes environments that nobody destroyed: the leftovers of nightly runs, when they are old."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import FleetcastError, TargetError, UsageError
from stack.deploy.builtin.apply import check_reachable, open_clients
from stack.deploy.builtin.types import TYPES
from stack.deploy.leftovers import find_leftovers
from stack.deploy.options import DEFAULTS, AwsOptions
from stack.names import is_production

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetcast.target import Target
    from stack.deploy.builtin.resource import Clients
    from stack.deploy.leftovers import Found, Leftover

LEAST_PREFIX = 3
# AWS deletes a thing type five minutes after it was deprecated, and says so until then.
_LATER = "5 minutes"


@dataclass(slots=True)
class Swept:
    """What became of the leftovers.

    Attributes:
        deleted: Environments that are gone.
        kept: Those that are not old enough, or of unknown age.
        failed: Resources that could not be deleted, with the reason.
    """

    deleted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def sweep(
    target: Target,
    *,
    older_than: timedelta,
    prefix: str,
    progress: Callable[[str], None],
    dry_run: bool = False,
    options: AwsOptions = DEFAULTS,
    retire: Callable[[str], Awaitable[int]] | None = None,
    now: datetime | None = None,
) -> Swept:
    """Deletes environments whose youngest resource is older than a time.

    Args:
        target: Where to look.
        older_than: An environment that has anything younger is left alone.
        prefix: Of the names of environments; no other is touched.
        progress: Is told each deletion in a line.
        dry_run: Tell what would be deleted, and delete nothing.
        options: Where states lie: that of an environment that was deleted goes, too.
        retire: Takes the devices of an environment out of IoT Core, and tells how many there were:
            no policy and no thing type is deleted that is in use.
        now: The time to reckon from; the clock's if not given.

    Raises:
        UsageError: the prefix is so short that it could be anybody's.
        TargetError: the account could not be looked through.
    """
    if len(prefix) < LEAST_PREFIX:
        raise UsageError(f"--prefix {prefix!r} is too short: give at least {LEAST_PREFIX} letters")
    if target.name == "local":
        await check_reachable(target)
    moment = now or datetime.now(UTC)
    swept = Swept()
    async with open_clients(target) as clients:
        try:
            leftovers = await find_leftovers(clients, prefix)
        except (ClientError, BotoCoreError, OSError) as error:
            raise TargetError(f"looking for leftovers: {' '.join(str(error).split())}") from error
        for leftover in leftovers:
            kept = _why_kept(leftover, moment, older_than)
            if kept:
                swept.kept.append(leftover.environment)
                progress(f"kept {leftover.environment}: {kept}")
            elif dry_run:
                progress(
                    f"would delete {leftover.environment}: {len(leftover.resources)} resources"
                )
            else:
                if retire is not None:
                    await _retire(leftover.environment, retire, swept, progress)
                await _delete(leftover, clients, swept, progress)
                if leftover.environment in swept.deleted:
                    await _forget(leftover.environment, clients, options, swept)
    return swept


def _why_kept(leftover: Leftover, now: datetime, older_than: timedelta) -> str:
    """Why an environment is left alone; empty where it is not."""
    if is_production(leftover.environment):
        return "it has the name of a production"
    if leftover.newest is None:
        return "no service tells how old it is"
    age = now - leftover.newest
    if age < older_than:
        return f"it is {age.total_seconds() / 3600:.1f} h old"
    return ""


async def _retire(
    environment: str,
    retire: Callable[[str], Awaitable[int]],
    swept: Swept,
    progress: Callable[[str], None],
) -> None:
    """Retires devices; those that cannot be keep their policies and thing type."""
    try:
        retired = await retire(environment)
    except (FleetcastError, ClientError, BotoCoreError, OSError) as error:
        swept.failed.append(f"{environment}: its devices: {' '.join(str(error).split())}")
        progress(swept.failed[-1])
        return
    if retired:
        progress(f"retired {retired:,} devices of {environment}")


async def _delete(
    leftover: Leftover, clients: Clients, swept: Swept, progress: Callable[[str], None]
) -> None:
    """Deletes what can be deleted; one refusal does not keep the rest."""
    failed, postponed = [], False
    for found in leftover.resources:
        try:
            await TYPES[found.type].delete(clients, found.attributes)
        except (ClientError, BotoCoreError, OSError) as error:
            if _LATER in str(error):
                postponed = True
                progress(f"{found} will go with the next sweep: AWS keeps it for five minutes")
                continue
            failed.append(_failure(leftover, found, error))
            progress(failed[-1])
    swept.failed += failed
    if not failed and not postponed:
        swept.deleted.append(leftover.environment)
        progress(f"deleted {leftover.environment}: {len(leftover.resources)} resources")


async def _forget(environment: str, clients: Clients, options: AwsOptions, swept: Swept) -> None:
    """Deletes the state of an environment that is gone, and the lock of whoever was killed."""
    if options.state_bucket is None:
        return
    key = options.state_key(environment)
    try:
        s3 = await clients("s3")
        for name in (key, f"{key}.tflock"):
            await s3.delete_object(Bucket=options.state_bucket, Key=name)
    except (ClientError, BotoCoreError, OSError) as error:
        told = " ".join(str(error).split())
        swept.failed.append(f"{environment}: its state in {options.state_bucket}: {told}")


def _failure(leftover: Leftover, found: Found, error: BaseException) -> str:
    return f"{leftover.environment}: {found}: {' '.join(str(error).split())}"
