"""Who makes a request, and whether it is allowed.

A caller with any key pair is the account's root, who may do everything. Functions and engines act
as their roles: functions by the credentials in their environment, engines by a token that their
clients send; both are known only to the cloud that issued them.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.access.decide import Policies, Principal, refusal
from localcloud.access.needs import BOTH, READ, Need, Needs
from localcloud.access.policy import Request as Asked
from localcloud.access.policy import effect_of
from localcloud.access.stored import Stored
from localcloud.http import AwsError
from localcloud.naming import operation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from localcloud.access.conditions import Values
    from localcloud.http import Request

HEADER = "x-fleetcast-acting"
# Decisions are kept that long, and until a policy changes: conditions may look at the time.
KEPT_S = 5.0
MAX_KEPT = 10_000
_CREDENTIAL = re.compile(r"Credential=([^/,]+)/")
_ALPHABET = string.ascii_uppercase + string.digits
# Access keys of functions begin so: one that is not known any more, or of another cloud, is over.
_SESSION_KEY = "ASIAFCAST"
# Calls that change no policy, and of which there are many.
_PLAIN = {
    "SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch",
    "ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "GetQueueAttributes", "GetQueueUrl",
    "ListQueues", "Publish", "PublishBatch", "GetSecretValue", "Decrypt", "GenerateDataKey",
    "Encrypt", "PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObject", "UploadPart",
}  # fmt: skip
_WITH_POLICIES = {"iam", "kms", "sns", "sqs", "s3", "secretsmanager", "sts"}
# (code, status) of what a principal may not do, and of a key that it may not use.
_REFUSALS = {
    "s3": ("AccessDenied", 403),
    "sns": ("AuthorizationError", 403),
    "sqs": ("AccessDenied", 403),
    "monitoring": ("AccessDenied", 403),
    "iam": ("AccessDenied", 403),
    "sts": ("AccessDenied", 403),
    "lambda": ("AccessDeniedException", 403),
}
_KEY_REFUSALS = {
    "kinesis": ("KMSAccessDeniedException", 400),
    "sns": ("KMSAccessDenied", 400),
    "sqs": ("KmsAccessDenied", 400),
    "s3": ("AccessDenied", 403),
}
# Of a key that is disabled, by service and whether it was to decrypt.
_DISABLED = {
    **{("kinesis", reads): ("KMSDisabledException", 400) for reads in (True, False)},
    **{("sns", reads): ("KMSDisabled", 400) for reads in (True, False)},
    **{("sqs", reads): ("KmsDisabled", 400) for reads in (True, False)},
    **{("s3", reads): ("KMS.DisabledException", 400) for reads in (True, False)},
    ("secretsmanager", True): ("DecryptionFailure", 400),
    ("secretsmanager", False): ("EncryptionFailure", 400),
}
_DISABLED_ELSEWHERE = ("AccessDeniedException", 400)


@dataclass(frozen=True, slots=True)
class Acting:
    """Somebody who makes requests, with what is known of all of them."""

    principal: Principal
    context: Mapping[str, Values] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of a session of a role."""

    access_key_id: str
    secret_access_key: str
    session_token: str


_acting: contextvars.ContextVar[str] = contextvars.ContextVar("acting", default="")


class AccessControl:
    """Decides for one cloud.

    Args:
        account_id: Its account.
        region: Its region.
        enabled: Whether anything is ever refused.
    """

    def __init__(self, account_id: str, region: str, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.denied = 0
        self._account_id = account_id
        self._region = region
        self._stored = Stored(account_id, region)
        self.needs = Needs(self._stored, account_id, region)
        self._issued: dict[str, Acting] = {}
        self._tokens: dict[Any, str] = {}
        self._kept: dict[Any, str | None] = {}
        self._kept_until_s = 0.0

    def status(self) -> dict[str, Any]:
        """Whether policies are enforced, and how much was refused."""
        return {"enforced": self.enabled, "denied": self.denied}

    # Who

    def role(self, role_arn: str, session: str) -> Acting:
        """A session of a role."""
        name = role_arn.rpartition("/")[2]
        arn = f"arn:aws:sts::{self._account_id}:assumed-role/{name}/{session}"
        return Acting(Principal(arn, self._account_id, role_arn))

    def service(self, name: str, source_arn: str) -> Acting:
        """A service that acts for a resource of the account."""
        context = {
            "aws:sourcearn": (source_arn,),
            "aws:sourceaccount": (self._account_id,),
        }
        return Acting(Principal(name, self._account_id, is_service=True), context)

    def credentials(self, acting: Acting) -> Credentials:
        """Credentials for a process that acts as a session of a role."""
        key = _SESSION_KEY + "".join(secrets.choice(_ALPHABET) for _ in range(11))
        self._issued[key] = acting
        return Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(60))

    def forget(self, access_key_id: str) -> None:
        """Takes credentials back."""
        self._issued.pop(access_key_id, None)

    @contextlib.contextmanager
    def acting(self, who: Acting) -> Iterator[None]:
        """Lets the cloud's own clients act as somebody while the block runs."""
        kind = (who.principal, tuple(sorted(who.context.items())))
        token = self._tokens.get(kind)
        if token is None:
            token = self._tokens[kind] = secrets.token_urlsafe(24)
            self._issued[token] = who
        before = _acting.set(token)
        try:
            yield
        finally:
            _acting.reset(before)

    def who(self, request: Request) -> Acting | None:
        """Who makes a request; None for the account's root.

        Raises:
            AwsError: ExpiredTokenException, for credentials that were taken back.
        """
        if not self.enabled:
            return None
        token = request.headers.get(HEADER)
        if token is not None:
            return self._issued.get(token)
        found = _CREDENTIAL.search(request.headers.get("authorization", ""))
        if found is None:
            return None
        key = found.group(1)
        issued = self._issued.get(key)
        if issued is not None or not key.startswith(("AKIA", "ASIA")):
            return issued
        if key.startswith(_SESSION_KEY):
            raise AwsError(
                "ExpiredTokenException", "The security token included in the request is expired"
            )
        session = self._stored.session_of(key)
        if session is not None:
            return Acting(Principal(session[0], self._account_id, session[1]))
        user = self._stored.user_of(key)
        return Acting(Principal(user, self._account_id)) if user is not None else None

    # What

    def authorize(self, request: Request, who: Acting) -> None:
        """Refuses a request that its maker may not make.

        Raises:
            AwsError: the service's way of saying so.
        """
        operation = operation_of(request)
        for need in self.needs.of(request, operation):
            self.require(request.service, need, who)

    def require(self, service: str, need: Need, who: Acting) -> None:
        """Refuses an action.

        Raises:
            AwsError: in the words and with the code of the service.
        """
        if not self.enabled:
            return
        if need.action:
            reason = self._refusal(who, need.action, need.resource, need.policy)
            if reason is not None:
                self.denied += 1
                code, status = _REFUSALS.get(service, ("AccessDeniedException", 400))
                raise AwsError(code, reason, status)
        key = self._stored.key(need.key) if need.key_actions else None
        if key is None:
            return
        if not key.enabled and service != "kms":
            self.denied += 1
            code, status = _DISABLED.get((service, need.key_actions == READ), _DISABLED_ELSEWHERE)
            raise AwsError(code, f"{key.arn} is disabled.", status)
        reason = self.key_refusal(who, need.key, need.key_actions, need.key_context)
        if reason is not None:
            self.denied += 1
            code, status = _KEY_REFUSALS.get(service, ("AccessDeniedException", 400))
            raise AwsError(code, reason, status)

    def key_refusal(
        self, who: Acting, key_id: str, actions: tuple[str, ...], context: Mapping[str, str]
    ) -> str | None:
        """Why somebody may not use a key; None where it is allowed, or AWS manages the key."""
        if not self.enabled:
            return None
        key = self._stored.key(key_id)
        if key is None:
            return None
        more = {name: (value,) for name, value in context.items() if value}
        for action in actions:
            reason = self._refusal(who, action, key.arn, key.policy, more, key=True)
            if reason is not None:
                return reason
        return None

    def may_assume(self, role_arn: str, service: str, source_arn: str = "") -> bool:
        """Whether there is such a role and a service may assume it."""
        if not self.enabled:
            return True
        role = self._stored.role(role_arn)
        if role is None:
            return False
        acting = self.service(service, source_arn)
        asked = Asked(
            "sts:AssumeRole",
            role_arn,
            frozenset({service}),
            {**self._about(acting), **acting.context},
        )
        return effect_of([role.trust], asked) == "Allow"

    def changed(self, request: Request) -> None:
        """Forgets decisions, where a request may have changed a policy."""
        if not self._kept or request.method in {"GET", "HEAD"}:
            return
        if (
            request.service in _WITH_POLICIES and operation_of(request) not in _PLAIN
        ) or request.operation.endswith("ResourcePolicy"):
            self._kept.clear()

    def delivery_refusal(self, topic_arn: str, queue_arn: str) -> str | None:
        """Why SNS may not deliver a topic's messages to a queue; None where it may."""
        who = self.service("sns.amazonaws.com", topic_arn)
        try:
            self.require("sqs", self.needs.destination(queue_arn), who)
        except AwsError as error:
            return error.message
        return None

    def log_refusal(self, who: Acting, group: str, stream: str) -> str | None:
        """Why somebody's lines may not go into a log stream; None where they may."""
        if not self.enabled:
            return None
        key = self._stored.log_group(group)
        actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
        for action in ["logs:CreateLogGroup", *actions] if key is None else actions:
            need = self.needs.log(action, group, stream)
            reason = self._refusal(who, need.action, need.resource, None)
            if reason is not None:
                return reason
        return self.log_key_refusal(group, key) if key else None

    def log_key_refusal(self, group: str, key: str) -> str | None:
        """Why CloudWatch Logs may not use a key for a group; None where it may."""
        found = self._stored.key(key)
        if found is not None and not found.enabled:
            return f"{found.arn} is disabled."
        arn = f"arn:aws:logs:{self._region}:{self._account_id}:log-group:{group}"
        logs = self.service(f"logs.{self._region}.amazonaws.com", arn)
        context = {"kms:encryptioncontext:aws:logs:arn": arn}
        return self.key_refusal(logs, key, BOTH, context)

    def _refusal(
        self, who: Acting, action: str, resource: str, policy: Any,
        more: Mapping[str, Values] | None = None, *, key: bool = False,
    ) -> str | None:  # fmt: skip
        now_s = time.monotonic()
        if now_s > self._kept_until_s or len(self._kept) > MAX_KEPT:
            self._kept.clear()
            self._kept_until_s = now_s + KEPT_S
        place = (
            who.principal, action, resource,
            tuple(sorted(who.context.items())), tuple(sorted((more or {}).items())),
        )  # fmt: skip
        if place in self._kept:
            return self._kept[place]
        identity = None
        if who.principal.role_arn:
            identity = self._stored.role(who.principal.role_arn)
        elif not who.principal.is_service:
            identity = self._stored.user(who.principal.arn)
        policies = Policies(
            identity.policies if identity else (), identity.boundary if identity else None,
            policy, key,
        )  # fmt: skip
        context = {**self._about(who), **who.context, **(more or {})}
        self._kept[place] = found = refusal(who.principal, action, resource, policies, context)
        return found

    def _about(self, who: Acting) -> dict[str, Values]:
        principal = who.principal
        about: dict[str, Values] = {
            # The loopback interface stands for TLS: nobody listens in on it.
            "aws:securetransport": ("true",),
            "aws:requestedregion": (self._region,),
            "aws:currenttime": (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),),
            "aws:epochtime": (str(int(time.time())),),
            "aws:principalisawsservice": (str(principal.is_service).lower(),),
        }
        if not principal.is_service:
            about["aws:principalarn"] = (principal.role_arn or principal.arn,)
            about["aws:principalaccount"] = (principal.account_id,)
        return about


def acting_token() -> str:
    """The token of whoever the cloud's own clients act as; empty for the cloud itself."""
    return _acting.get()
