"""Policies as pure functions, with the examples of the IAM and KMS guides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.access.conditions import arn_like, holds, like, substituted, unknown_operators
from localcloud.access.decide import Policies, Principal, refusal
from localcloud.access.policy import Request, effect_of, parse

ACCOUNT = "123456789012"
ROLE = Principal(
    f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/r"
)
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
SERVICE = Principal("sns.amazonaws.com", ACCOUNT, is_service=True)
STREAM = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s"


def document(*statements: dict[str, Any]) -> Any:
    return parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def why(action: str, on: str, who: Principal = ROLE, **policies: Any) -> str | None:
    return refusal(who, action, on, Policies(**policies), {})


@pytest.mark.parametrize(
    ("statement", "action", "resource", "concerned"),
    [
        (allow("kinesis:PutRecords", STREAM), "kinesis:PutRecords", STREAM, True),
        (allow("kinesis:putrecords", STREAM), "kinesis:PutRecords", STREAM, True),
        (allow("kinesis:Put*", STREAM), "kinesis:PutRecords", STREAM, True),
        (allow("kinesis:Put*", STREAM), "kinesis:GetRecords", STREAM, False),
        (allow(["s3:*", "kinesis:*"]), "kinesis:GetRecords", STREAM, True),
        (allow("*", STREAM[:-1] + "?"), "kinesis:GetRecords", STREAM, True),
        (allow("*", STREAM.upper()), "kinesis:GetRecords", STREAM, False),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "iam:GetRole", "*", False),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "s3:GetObject", "*", True),
        ({"Effect": "Allow", "Action": "*", "NotResource": STREAM}, "kinesis:X", STREAM, False),
        ({"Effect": "Allow", "Action": "*", "NotResource": STREAM}, "kinesis:X", "arn:x", True),
    ],
)
def test_a_statement_is_about_what_it_names(statement, action, resource, concerned):
    found = effect_of([document(statement)], Request(action, resource))
    assert (found == "Allow") == concerned


def test_a_denial_wins_wherever_it_stands():
    both = [document(allow("*")), document(deny("kinesis:GetRecords"))]
    assert effect_of(both, Request("kinesis:GetRecords", STREAM)) == "Deny"
    assert effect_of(both[::-1], Request("kinesis:GetRecords", STREAM)) == "Deny"
    assert effect_of(both, Request("kinesis:PutRecords", STREAM)) == "Allow"


def test_the_words_are_those_of_aws():
    told = why("kinesis:GetRecords", STREAM)
    assert told == (
        f"User: {ROLE.arn} is not authorized to perform: kinesis:GetRecords on resource: {STREAM} "
        "because no identity-based policy allows the kinesis:GetRecords action"
    )
    denied = why("kinesis:GetRecords", STREAM, identity=(document(allow("*"), deny("kinesis:*")),))
    assert denied is not None
    assert denied.endswith("with an explicit deny in an identity-based policy")


def test_within_an_account_either_policy_is_enough():
    resource = document({**allow("kinesis:*", STREAM), "Principal": {"AWS": ROLE.role_arn}})
    assert why("kinesis:GetRecords", STREAM, identity=(document(allow("kinesis:*")),)) is None
    assert why("kinesis:GetRecords", STREAM, resource=resource) is None
    # A policy that names the account only says that the account may let its own in.
    account = document({**allow("kinesis:*", STREAM), "Principal": {"AWS": ACCOUNT}})
    assert why("kinesis:GetRecords", STREAM, resource=account) is not None


def test_a_boundary_bounds():
    everything = (document(allow("*")),)
    boundary = document(allow("kinesis:*"))
    assert why("kinesis:GetRecords", STREAM, identity=everything, boundary=boundary) is None
    told = why("sqs:SendMessage", "*", identity=everything, boundary=boundary)
    assert told is not None
    assert "permissions boundary" in told


def test_a_boundary_bounds_what_a_resource_gives_to_the_role_and_not_to_a_session():
    boundary = document(allow("s3:*"))
    to_role = document({**allow("sqs:*"), "Principal": {"AWS": ROLE.role_arn}})
    to_session = document({**allow("sqs:*"), "Principal": {"AWS": ROLE.arn}})
    denial = document(allow("*"), deny("sqs:*"))
    assert why("sqs:SendMessage", "q", resource=to_role) is None
    assert why("sqs:SendMessage", "q", resource=to_role, boundary=boundary) is not None
    assert why("sqs:SendMessage", "q", resource=to_session, boundary=boundary) is None
    told = why("sqs:SendMessage", "q", resource=to_session, boundary=denial)
    assert told is not None
    assert told.endswith("with an explicit deny in a permissions boundary")


def test_what_a_variable_stands_for_is_no_wildcard():
    def allowed(pattern: str, resource: str) -> bool:
        context = {"aws:username": ("*",)}
        policy = document(allow("*", pattern))
        return effect_of([policy], Request("a:b", resource, context=context)) == "Allow"

    assert allowed("arn:x:${*}", "arn:x:*")
    assert not allowed("arn:x:${*}", "arn:x:anything")
    assert not allowed("arn:x:${?}", "arn:x:a")
    assert allowed("arn:x:${aws:username}/*", "arn:x:*/key")
    assert not allowed("arn:x:${aws:username}/*", "arn:x:ann/key")


def test_a_key_lets_in_whom_its_policy_does():
    identity = (document(allow("kms:Decrypt")),)
    delegating = document({**allow("kms:*"), "Principal": {"AWS": ROOT}})
    closed = document({**allow("kms:*"), "Principal": {"AWS": "arn:aws:iam::1:user/x"}})
    naming = document({**allow("kms:Decrypt"), "Principal": {"AWS": ROLE.role_arn}})
    assert why("kms:Decrypt", "k", identity=identity, resource=delegating, key=True) is None
    assert why("kms:Decrypt", "k", resource=delegating, key=True) is not None
    assert why("kms:Decrypt", "k", identity=identity, resource=closed, key=True) is not None
    assert why("kms:Decrypt", "k", resource=naming, key=True) is None


def test_a_service_is_let_in_by_the_resource_alone():
    policy = document({**allow("sqs:SendMessage"), "Principal": {"Service": SERVICE.arn}})
    assert why("sqs:SendMessage", "q", SERVICE, resource=policy) is None
    assert why("sqs:SendMessage", "q", SERVICE, identity=(document(allow("*")),)) is not None
    account = document({**allow("sqs:*"), "Principal": {"AWS": ROOT}})
    assert why("sqs:SendMessage", "q", SERVICE, resource=account) is not None


@pytest.mark.parametrize(
    ("block", "true"),
    [
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"StringEquals": {"AWS:sourceaccount": [ACCOUNT, "1"]}}, True),
        ({"StringEquals": {"aws:SourceAccount": "1"}}, False),
        ({"StringNotEquals": {"aws:SourceAccount": ["1", ACCOUNT]}}, False),
        ({"StringNotEquals": {"aws:SourceAccount": ["1", "2"]}}, True),
        ({"StringLike": {"aws:SourceArn": "arn:aws:sns:*"}}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:topic-?"}}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:*:topic-1"}}, False),
        ({"ArnNotLike": {"aws:SourceArn": "arn:aws:sqs:*:*:*"}}, True),
        ({"Bool": {"aws:SecureTransport": True}}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, False),
        ({"Null": {"aws:TokenIssueTime": "true"}}, True),
        ({"Null": {"aws:SourceArn": "true"}}, False),
        ({"StringEquals": {"missing": "x"}}, False),
        ({"StringEqualsIfExists": {"missing": "x"}}, True),
        ({"StringNotEquals": {"missing": "x"}}, True),
        ({"NumericLessThan": {"size": "5"}}, True),
        ({"NumericGreaterThanEquals": {"size": 5}}, False),
        ({"NumericEquals": {"aws:SourceArn": "5"}}, False),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}, False),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}, False),
        ({"ForAnyValue:StringEquals": {"tags": ["b", "c"]}}, True),
        ({"ForAllValues:StringEquals": {"tags": ["a", "c"]}}, False),
        ({"ForAllValues:StringEquals": {"missing": "a"}}, True),
        ({"ForAnyValue:StringEquals": {"missing": "a"}}, False),
        ({"ForAnyValue:StringNotEquals": {"missing": "a"}}, False),
        ({"StringEquals": {"name": "${aws:SourceAccount}"}}, False),
        ({"StringEquals": {"aws:SourceAccount": "${aws:SourceAccount}"}}, True),
        (
            {
                "StringEquals": {"aws:SourceAccount": ACCOUNT},
                "Bool": {"aws:SecureTransport": "false"},
            },
            False,
        ),
    ],
)
def test_a_condition_holds_as_documented(block, true):
    context = {
        "aws:sourceaccount": (ACCOUNT,), "aws:sourcearn": ("arn:aws:sns:us-east-1:1:topic-1",),
        "aws:securetransport": ("true",), "size": ("4",), "aws:sourceip": ("127.0.0.1",),
        "aws:currenttime": ("2026-11-26T10:00:00Z",), "tags": ("a", "b"), "name": ("n",),
    }  # fmt: skip
    assert holds(block, context, otherwise=False) == true


def test_an_operator_that_is_unknown_lets_nobody_in_and_still_denies():
    condition = {"StringSoundsLike": {"aws:username": "smith"}}
    allowing = document(allow("*", Condition=condition))
    denying = document(allow("*"), deny("*", Condition=condition))
    assert unknown_operators({**condition, "StringEqualsIfExists": {}}) == ["StringSoundsLike"]
    assert why("a:b", "*", identity=(allowing,)) is not None
    assert why("a:b", "*", identity=(denying,)) is not None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Statement": [{}]}', '{"Statement": 7}',
                                  '{"Statement": {"Effect": "Maybe", "Action": "*"}}'])  # fmt: skip
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


def test_variables_are_replaced():
    context = {"aws:username": ("ann",)}
    assert substituted("home/${aws:username}/*", context) == "home/ann/*"
    assert substituted("${*}${?}${$}", context) == "*?$"
    assert substituted("${aws:nobody}", context) is None
    assert substituted("${aws:nobody, 'guest'}", context) == "guest"


texts = st.text(alphabet="ab:*?.[(\\", max_size=8)


@given(texts, texts)
def test_a_pattern_matches_as_a_naive_matcher_says(pattern, text):
    def naive(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return naive(p[1:], t) or (bool(t) and naive(p, t[1:]))
        return bool(t) and p[0] in {"?", t[0]} and naive(p[1:], t[1:])

    assert like(pattern, text) == naive(pattern, text)


@given(st.lists(st.sampled_from(["a", "b", "*", "a*", "?"]), min_size=6, max_size=6),
       st.lists(st.sampled_from(["a", "b", "ab"]), min_size=6, max_size=6))  # fmt: skip
def test_a_wildcard_of_an_arn_stays_in_its_part(pattern, arn):
    assert arn_like(":".join(pattern), ":".join(arn)) == all(map(like, pattern, arn))


statement = st.builds(
    lambda effect, action, resource: {"Effect": effect, "Action": action, "Resource": resource},
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(["*", "a:*", "a:x", "b:y"]),
    st.sampled_from(["*", "r1", "r2"]),
)


@given(st.lists(statement, min_size=1, max_size=6), st.randoms())
def test_order_does_not_matter_and_a_further_denial_never_allows(statements, random):
    request = Request("a:x", "r1")
    found = effect_of([document(*statements)], request)
    shuffled = list(statements)
    random.shuffle(shuffled)
    assert effect_of([document(one) for one in shuffled], request) == found
    stricter = effect_of([document(*statements, deny("b:y", "r2"), deny("a:x", "r1"))], request)
    assert stricter == "Deny"
