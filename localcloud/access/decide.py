"""Whether a request is allowed, within one account.

Follows "Policy evaluation logic" of the IAM user guide and "Key policies in AWS KMS".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localcloud.access.policy import Request, Statement, effect_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.access.conditions import Values

Policy = tuple["Statement", ...]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        arn: ARN as errors name it: of a user or of a session of a role; of the account's root; or
            the name of a service, such as `cloudwatch.amazonaws.com`.
        role_arn: ARN of the role, where it is a session of one.
        account_id: Its account.
        is_root: Whether it is the account itself.
        is_service: Whether it is a service acting by itself.
    """

    arn: str
    account_id: str
    role_arn: str = ""
    is_root: bool = False
    is_service: bool = False

    @property
    def direct_names(self) -> frozenset[str]:
        """The names under which a resource's policy may let it in by itself."""
        if self.is_root:
            return frozenset({self.arn, self.account_id})
        return frozenset({name for name in (self.arn, self.role_arn) if name})

    @property
    def account_names(self) -> frozenset[str]:
        """The names of its account, which let it in where its own policies do."""
        if self.is_service:
            return frozenset()
        return frozenset({self.account_id, f"arn:aws:iam::{self.account_id}:root"})


@dataclass(frozen=True, slots=True)
class Policies:
    """What applies to a request.

    Attributes:
        identity: Policies of the principal.
        boundary: Its permissions boundary, if it has one.
        resource: Policy of the resource, if it has one.
        key: Whether the resource is a KMS key: its policy alone decides who else does.
    """

    identity: Sequence[Policy] = ()
    boundary: Policy | None = None
    resource: Policy | None = None
    key: bool = False


def refusal(
    principal: Principal,
    action: str,
    resource: str,
    policies: Policies,
    context: Mapping[str, Values],
) -> str | None:
    """Why a request is not allowed, in AWS's words; None where it is."""
    request = Request(action, resource, principal.direct_names | principal.account_names, context)
    by_resource = [policies.resource] if policies.resource is not None else []
    where = f"{principal.arn} is not authorized to perform: {action} on resource: {resource}"
    user = where if principal.is_service else f"User: {where}"
    if effect_of(by_resource, request) == "Deny":
        return f"{user} with an explicit deny in a resource-based policy"
    if effect_of(policies.identity, request) == "Deny":
        return f"{user} with an explicit deny in an identity-based policy"
    boundary = None
    if policies.boundary is not None:
        boundary = effect_of([policies.boundary], request)
        if boundary == "Deny":
            return f"{user} with an explicit deny in a permissions boundary"
    bounded = policies.boundary is not None and boundary != "Allow"
    # A boundary bounds what a resource's policy gives to a role, and not what it gives to a session.
    names = {principal.arn} if bounded else principal.direct_names
    directly = effect_of(by_resource, replace(request, principals=frozenset(names)))
    delegated = effect_of(by_resource, replace(request, principals=principal.account_names))
    if principal.is_root and not policies.key:
        return None
    if directly == "Allow":
        return None
    if principal.is_service or (policies.key and delegated != "Allow"):
        return f"{user} because no resource-based policy allows the {action} action"
    if principal.is_root:
        return None
    if effect_of(policies.identity, request) != "Allow":
        return f"{user} because no identity-based policy allows the {action} action"
    if bounded:
        return f"{user} because no permissions boundary allows the {action} action"
    return None
