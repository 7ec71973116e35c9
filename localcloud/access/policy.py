"""Policy documents, parsed once, and which of their statements are about a request.

Follows "IAM JSON policy elements reference" of the IAM user guide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from localcloud.access.conditions import Values, holds, like, substituted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Effect = Literal["Allow", "Deny"]


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to do.

    Attributes:
        action: Such as `kinesis:PutRecords`.
        resource: ARN, or `*` where the action has no resource.
        principals: Names that the principal answers to in a resource's policy: its ARNs, its
            account, or a service.
        context: Condition keys, lower case, to their values.
    """

    action: str
    resource: str
    principals: frozenset[str] = frozenset()
    context: Mapping[str, Values] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, its alternatives as tuples; what is not there is None."""

    effect: Effect
    actions: Values | None
    not_actions: Values | None
    resources: Values | None
    not_resources: Values | None
    principals: frozenset[str] | None
    not_principals: frozenset[str] | None
    conditions: dict[str, dict[str, Any]]

    def concerns(self, request: Request) -> bool:
        """Whether it is about the action, the resource and the principal, and its conditions hold."""
        if not self._names_action(request.action.lower()):
            return False
        if not self._names_resource(request):
            return False
        if self.principals is not None and not _named(self.principals, request.principals):
            return False
        if self.not_principals is not None and _named(self.not_principals, request.principals):
            return False
        # What is not understood must neither let anyone in nor be forgotten.
        return holds(self.conditions, request.context, otherwise=self.effect == "Deny")

    def _names_action(self, action: str) -> bool:
        if self.actions is not None:
            return any(like(pattern, action) for pattern in self.actions)
        return self.not_actions is not None and not any(
            like(pattern, action) for pattern in self.not_actions
        )

    def _names_resource(self, request: Request) -> bool:
        if self.resources is not None:
            return _names(self.resources, request)
        if self.not_resources is not None:
            return not _names(self.not_resources, request)
        return True


@lru_cache(maxsize=1024)
def parse(document: str) -> tuple[Statement, ...]:
    """The statements of a policy document.

    Raises:
        ValueError: it is no policy document.
    """
    try:
        value = json.loads(document)
        statements = value["Statement"]
        return tuple(
            _statement(one)
            for one in (statements if isinstance(statements, list) else [statements])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a policy document: {error}") from error


def effect_of(policies: Sequence[Sequence[Statement]], request: Request) -> Effect | None:
    """What policies together say of a request: a Deny wins; None where none is about it."""
    found: Effect | None = None
    for policy in policies:
        for statement in policy:
            if (found is None or statement.effect == "Deny") and statement.concerns(request):
                found = statement.effect
                if found == "Deny":
                    return found
    return found


def _names(patterns: Values, request: Request) -> bool:
    return any(
        (pattern := substituted(one, request.context, pattern=True)) is not None
        and like(pattern, request.resource)
        for one in patterns
    )


def _named(wanted: frozenset[str], principals: frozenset[str]) -> bool:
    return "*" in wanted or not wanted.isdisjoint(principals)


def _statement(value: dict[str, Any]) -> Statement:
    effect = value["Effect"]
    if effect not in ("Allow", "Deny"):
        raise ValueError(f"Effect {effect!r} is neither Allow nor Deny")
    return Statement(
        effect,
        _lower(_several(value, "Action")),
        _lower(_several(value, "NotAction")),
        _several(value, "Resource"),
        _several(value, "NotResource"),
        _principals(value.get("Principal")),
        _principals(value.get("NotPrincipal")),
        value.get("Condition") or {},
    )


def _several(value: dict[str, Any], name: str) -> Values | None:
    found = value.get(name)
    if found is None:
        return None
    return tuple(map(str, found)) if isinstance(found, list) else (str(found),)


def _lower(values: Values | None) -> Values | None:
    return None if values is None else tuple(value.lower() for value in values)


def _principals(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if value == "*":
        return frozenset({"*"})
    names = [
        name
        for several in value.values()
        for name in (several if isinstance(several, list) else [several])
    ]
    return frozenset(map(str, names))
