"""The policies that moto keeps: of roles, users, keys, topics, queues, secrets and buckets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.access.policy import Statement, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

Policy = tuple[Statement, ...]
# Which reads nothing, so that a document that is broken lets nobody in.
_NOTHING: Policy = ()
_AWS_MANAGED = "alias/aws/"


@dataclass(frozen=True, slots=True)
class Identity:
    """Policies of a role or a user."""

    policies: tuple[Policy, ...]
    boundary: Policy | None
    trust: Policy = ()


@dataclass(frozen=True, slots=True)
class Key:
    """A KMS key."""

    arn: str
    policy: Policy
    enabled: bool


class Stored:
    """Reads moto's state of one account and region.

    Args:
        account_id: The account.
        region: The region.
    """

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id = account_id
        self._region = region

    def role(self, arn: str) -> Identity | None:
        """The policies of a role; None where there is no such role."""
        found = next((r for r in list(self._iam().roles.values()) if r.arn == arn), None)
        if found is None:
            return None
        trust = found.assume_role_policy_document
        if not isinstance(trust, str):
            trust = json.dumps(trust)
        return Identity(_attached(found), self._boundary(found), _parsed(trust))

    def user_of(self, access_key_id: str) -> str | None:
        """ARN of the user that an access key belongs to."""
        for user in list(self._iam().users.values()):
            if any(key.access_key_id == access_key_id for key in user.access_keys):
                return str(user.arn)
        return None

    def user(self, arn: str) -> Identity | None:
        """The policies of a user and its groups; None where there is no such user."""
        user = next((u for u in list(self._iam().users.values()) if u.arn == arn), None)
        if user is None:
            return None
        groups = [group for group in list(self._iam().groups.values()) if user in group.users]
        policies = [policy for holder in (user, *groups) for policy in _attached(holder)]
        return Identity(tuple(policies), self._boundary(user))

    def session_of(self, access_key_id: str) -> tuple[str, str] | None:
        """(ARN of the session, ARN of the role) of temporary credentials that STS gave."""
        from moto.sts.models import sts_backends  # noqa: PLC0415 - slow

        backend = sts_backends[self._account_id]["aws"]
        role = backend.get_assumed_role_from_access_key(access_key_id)
        return (role.arn, role.role_arn) if role is not None else None

    def key(self, key_id: str) -> Key | None:
        """A key by its id, ARN or alias; None where there is none, or AWS manages it."""
        if not key_id or _AWS_MANAGED in key_id:
            return None
        from moto.kms.models import kms_backends  # noqa: PLC0415 - slow

        backend = kms_backends[self._account_id][self._region]
        found = backend.keys.get(backend.any_id_to_key_id(key_id))
        if found is None:
            return None
        return Key(found.arn, _parsed(found.policy), bool(found.enabled))

    def topic(self, arn: str) -> tuple[Policy | None, str]:
        """(policy, key) of a topic."""
        from moto.sns.models import sns_backends  # noqa: PLC0415 - slow

        topic = sns_backends[self._account_id][self._region].topics.get(arn)
        if topic is None:
            return None, ""
        return _parsed(topic.policy), topic.kms_master_key_id or ""

    def queue(self, name: str) -> tuple[Policy | None, str]:
        """(policy, key) of a queue."""
        from moto.sqs.models import sqs_backends  # noqa: PLC0415 - slow

        queue = sqs_backends[self._account_id][self._region].queues.get(name)
        if queue is None:
            return None, ""
        policy = _parsed(queue.policy) if queue.policy else None
        return policy, queue.kms_master_key_id or ""

    def secret(self, secret_id: str) -> tuple[str, Policy | None, str]:
        """(ARN, policy, key) of a secret by its name or ARN."""
        from moto.secretsmanager.models import secretsmanager_backends  # noqa: PLC0415 - slow

        backend = secretsmanager_backends[self._account_id][self._region]
        secret = backend.secrets.get(secret_id) if secret_id else None
        if secret is None:
            return secret_id or "*", None, ""
        policy = getattr(secret, "policy", None)
        return secret.arn, _parsed(policy) if policy else None, secret.kms_key_id or ""

    def bucket(self, name: str) -> tuple[Policy | None, str]:
        """(policy, key of the default encryption) of a bucket."""
        from moto.s3.models import s3_backends  # noqa: PLC0415 - slow

        bucket = s3_backends[self._account_id]["aws"].buckets.get(name)
        if bucket is None:
            return None, ""
        text = bucket.policy.decode() if isinstance(bucket.policy, bytes) else bucket.policy
        rule = (bucket.encryption or {}).get("Rule", {})
        if isinstance(rule, list):
            rule = rule[0] if rule else {}
        by_default = rule.get("ApplyServerSideEncryptionByDefault", {})
        return _parsed(text) if text else None, by_default.get("KMSMasterKeyID", "")

    def object_key(self, bucket: str, key: str) -> str:
        """The KMS key of an object."""
        from moto.s3.models import s3_backends  # noqa: PLC0415 - slow

        found = s3_backends[self._account_id]["aws"].buckets.get(bucket)
        stored = found.keys.get(key) if found is not None else None
        return getattr(stored, "kms_key_id", "") or ""

    def log_group(self, name: str) -> str | None:
        """The KMS key of a log group, or empty; None where there is no such group."""
        from moto.logs.models import logs_backends  # noqa: PLC0415 - slow

        group = logs_backends[self._account_id][self._region].groups.get(name)
        return (group.kms_key_id or "") if group is not None else None

    def _iam(self) -> Any:
        from moto.iam.models import iam_backends  # noqa: PLC0415 - slow

        return iam_backends[self._account_id]["aws"]

    def _boundary(self, holder: Any) -> Policy | None:
        arn = getattr(holder, "permissions_boundary_arn", None)
        if not arn:
            return None
        policy = self._iam().managed_policies.get(arn)
        return _parsed(policy.document) if policy is not None else _NOTHING


def _attached(holder: Any) -> tuple[Policy, ...]:
    inline = holder.policies.values()
    managed = (policy.document for policy in holder.managed_policies.values())
    return tuple(_parsed(document) for document in _all(inline, managed))


def _all(*several: Iterable[Any]) -> list[Any]:
    # Copied at once: moto changes its dictionaries in threads.
    return [one for some in several for one in list(some)]


def _parsed(document: Any) -> Policy:
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        return parse(text)
    except ValueError:
        return _NOTHING
