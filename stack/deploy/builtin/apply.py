"""Applies a plan to the local cloud: creates, updates, replaces, deletes, and remembers each step.

What an apply would do can be told without doing it.

Resources that do not need one another are made at the same time. What is remembered is checked
against the cloud, so that a cloud that was restarted empty gets everything anew.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import FleetcastError, TargetError
from stack.deploy.builtin.expressions import resolve
from stack.deploy.builtin.plan import Plan, Wanted, read_plan
from stack.deploy.builtin.state import Entry, State
from stack.deploy.builtin.types import TYPES
from stack.deploy.explain import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from fleetcast.target import Target
    from stack.deploy.builtin.resource import Clients, Resource

AT_ONCE = 8
CONNECT_S = 3


async def check_listening(target: Target) -> None:
    """Makes sure that something listens where the local cloud should be, which takes no time.

    Raises:
        TargetError: nothing does.
    """
    where = urlsplit(target.endpoint_url or "")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
    except OSError as error:
        raise _unreachable(target) from error
    writer.close()


async def check_reachable(target: Target) -> None:
    """Makes sure that the local cloud answers.

    Raises:
        TargetError: it does not.
    """
    try:
        async with target.client(
            "sts", connect_timeout=CONNECT_S, retries={"max_attempts": 1}
        ) as sts:
            await sts.get_caller_identity()
    except (BotoCoreError, ClientError, OSError) as error:
        raise _unreachable(target) from error


def _unreachable(target: Target) -> TargetError:
    return TargetError(
        f"no local cloud answers on {target.endpoint_url}: run fleetcast cloud start"
    )


async def apply(
    synthesized: Path, folder: Path, target: Target, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Brings the target to what the synthesized stack wants; returns its outputs.

    Raises:
        UsageError: the stack has something that the engine does not know; nothing was touched.
        TargetError: an API call failed; what was done before is remembered.
    """
    plan = read_plan(synthesized)
    state = State(folder)
    async with open_clients(target) as clients:
        return await _Application(plan, state, clients, progress).run()


async def destroy(folder: Path, target: Target, progress: Callable[[str], None]) -> None:
    """Deletes everything that is remembered.

    Raises:
        TargetError: an API call failed; what is left is remembered.
    """
    state = State(folder)
    async with open_clients(target) as clients:
        await _delete(state, set(state.entries), clients, progress)


async def changes(synthesized: Path, folder: Path, target: Target) -> list[str]:
    """What an apply would do: `action address (arguments)` each; empty where nothing differs.

    Raises:
        UsageError: the stack has something that the engine does not know.
        TargetError: an API call failed.
    """
    plan = read_plan(synthesized)
    state = State(folder)
    async with open_clients(target) as clients:
        return await _Application(plan, state, clients, lambda _: None).preview()


@asynccontextmanager
async def open_clients(target: Target) -> AsyncIterator[Clients]:
    """Clients by service, made when first asked for and closed at the end."""
    made: dict[str, asyncio.Task[Any]] = {}
    async with AsyncExitStack() as stack:

        async def client(service: str) -> Any:
            if service not in made:
                opening = stack.enter_async_context(target.client(service))
                made[service] = asyncio.ensure_future(opening)
            return await made[service]

        yield client


class _KnownAfterApply(dict[str, Any]):
    """Attributes of what is not made yet."""

    def __missing__(self, _: str) -> str:
        return "(known after apply)"

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _Decision:
    """What is to be done with a resource, and which of its arguments differ."""

    action: Literal["keep", "create", "update", "replace"]
    changed: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f" ({', '.join(sorted(self.changed))})" if self.changed else ""


class _Application:
    def __init__(
        self, plan: Plan, state: State, clients: Clients, progress: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._state = state
        self._clients = clients
        self._progress = progress
        self._attributes: dict[str, Mapping[str, Any]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._done: dict[str, asyncio.Task[None]] = {}

    async def _look_up(self) -> None:
        for address, given in self._plan.data.items():
            self._attributes[address] = await self._read_data(address, given)

    async def run(self) -> dict[str, Any]:
        await self._look_up()
        for address in self._plan.resources:
            self._done[address] = asyncio.create_task(self._after_needs(address))
        results = await asyncio.gather(*self._done.values(), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        # A failure makes what needs it fail too: the first that is not such an echo is told.
        for failure in failures:
            if not isinstance(failure, _NeedFailedError):
                raise failure
        gone = self._state.entries.keys() - self._plan.resources.keys()
        await _delete(self._state, set(gone), self._clients, self._progress)
        outputs: dict[str, Any] = resolve(self._plan.outputs, self._attributes, self._plan.folder)
        return outputs

    async def _after_needs(self, address: str) -> None:
        wanted = self._plan.resources[address]
        for need in wanted.needs:
            if need in self._done:
                try:
                    await asyncio.shield(self._done[need])
                except Exception as error:
                    raise _NeedFailedError(f"{address} needs {need}, which failed") from error
        async with self._at_once:
            began = time.monotonic()
            try:
                verb = await self._bring(wanted)
            except (ClientError, BotoCoreError, OSError) as error:
                raise TargetError(f"{address}: {explain(_plain(error))}") from error
            self._progress(f"{verb} {address} ({time.monotonic() - began:.1f} s)")

    async def preview(self) -> list[str]:
        """What `run` would do, in an order in which it could."""
        await self._look_up()
        told = []
        for address in self._plan.in_order():
            wanted = self._plan.resources[address]
            _, remembered = self._arguments(wanted)
            decision = await self._decide(wanted, remembered)
            if decision.action in {"create", "replace"}:
                self._attributes[address] = _KnownAfterApply()
            else:
                self._attributes[address] = self._state.entries[address].attributes
            if decision.action != "keep":
                told.append(f"{decision.action} {address}{decision}")
        gone = self._state.entries.keys() - self._plan.resources.keys()
        return [*told, *(f"delete {a}" for a in self._state.deletion_order(set(gone)))]

    def _arguments(self, wanted: Wanted) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments of a resource, and those of them that are remembered and compared."""
        new = resolve(wanted.arguments, self._attributes, self._plan.folder)
        if "filename" in new:
            # Paths of the synthesized JSON are relative to its folder.
            new["filename"] = str(self._plan.folder / new["filename"])
        if TYPES[wanted.type].taggable:
            new["tags"] = {**self._plan.default_tags, **(new.get("tags") or {})}
        return new, {k: v for k, v in new.items() if k not in wanted.ignored and k != "filename"}

    async def _decide(self, wanted: Wanted, remembered: dict[str, Any]) -> _Decision:
        kind, entry = TYPES[wanted.type], self._state.entries.get(wanted.address)
        if entry is None or not await kind.read(self._clients, entry.attributes):
            return _Decision("create")
        changed = frozenset(
            name
            for name in remembered.keys() | entry.arguments.keys()
            if remembered.get(name) != entry.arguments.get(name)
        )
        if not changed:
            return _Decision("keep")
        in_place = kind.update is not None and not changed & kind.replace_on
        return _Decision("update" if in_place else "replace", changed)

    async def _bring(self, wanted: Wanted) -> str:
        """Brings one resource to what is wanted; returns what was done."""
        kind = TYPES[wanted.type]
        new, remembered = self._arguments(wanted)
        decision = await self._decide(wanted, remembered)
        entry = self._state.entries.get(wanted.address)
        if entry is not None and decision.action == "keep":
            self._attributes[wanted.address] = entry.attributes
            return "unchanged"
        if entry is not None and kind.update is not None and decision.action == "update":
            attributes = await kind.update(self._clients, entry.attributes, entry.arguments, new)
            self._remember(wanted, remembered, attributes)
            return f"updated{decision}"
        if entry is not None and decision.action == "replace":
            await self._remove(wanted.address, kind, entry)
        elif entry is not None:
            # Somebody else deleted it.
            self._state.remove(wanted.address)
        attributes = await kind.create(self._clients, new)
        self._remember(wanted, remembered, attributes)
        return f"{decision.action}d"

    async def _remove(self, address: str, kind: Resource, entry: Entry) -> None:
        await kind.delete(self._clients, entry.attributes)
        self._state.remove(address)

    def _remember(
        self, wanted: Wanted, arguments: dict[str, Any], attributes: dict[str, Any]
    ) -> None:
        self._attributes[wanted.address] = attributes
        entry = Entry(wanted.type, arguments, attributes, wanted.needs)
        self._state.put(wanted.address, entry)

    async def _read_data(self, address: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            if address.startswith("data.aws_caller_identity."):
                told = await (await self._clients("sts")).get_caller_identity()
                return {
                    "account_id": told["Account"], "arn": told["Arn"], "user_id": told["UserId"]
                }  # fmt: skip
            drawn = await (await self._clients("secretsmanager")).get_random_password(
                PasswordLength=int(given.get("password_length", 32)),
                ExcludePunctuation=bool(given.get("exclude_punctuation")),
            )
        except (ClientError, BotoCoreError, OSError) as error:
            raise TargetError(f"{address}: {_plain(error)}") from error
        return {"random_password": drawn["RandomPassword"]}


class _NeedFailedError(FleetcastError):
    """Something was not tried, since what it needs failed."""


async def _delete(
    state: State, addresses: set[str], clients: Clients, progress: Callable[[str], None]
) -> None:
    for address in state.deletion_order(addresses):
        entry = state.entries[address]
        try:
            await TYPES[entry.type].delete(clients, entry.attributes)
        except (ClientError, BotoCoreError, OSError) as error:
            raise TargetError(f"deleting {address}: {explain(_plain(error))}") from error
        state.remove(address)
        progress(f"deleted {address}")


def _plain(error: BaseException) -> str:
    return str(error).replace("\n", " ")
