"""Principals and what they may do, through the API."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from fleetcast.target import Target
from localcloud.app import LocalCloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "123456789012"}}
        ],
    }
)


class Account:
    """The cloud as its root sees it, and clients of others."""

    def __init__(self, local: LocalCloud, target: Target, open_clients: AsyncExitStack) -> None:
        self.local, self.target, self._open = local, target, open_clients

    async def client(self, service: str, **credentials: str) -> Any:
        settings = {**self.target.client_kwargs(), **credentials}
        return await self._open.enter_async_context(
            get_session().create_client(service, **settings)
        )

    async def as_role(self, service: str, *statements: dict[str, Any]) -> Any:
        """A client of a role with these statements."""
        iam, sts = await self.client("iam"), await self.client("sts")
        role = "r" + service + str(len((await iam.list_roles())["Roles"]))
        made = await iam.create_role(RoleName=role, AssumeRolePolicyDocument=TRUST)
        await iam.put_role_policy(
            RoleName=role, PolicyName="p", PolicyDocument=document(*statements)
        )
        answer = await sts.assume_role(RoleArn=made["Role"]["Arn"], RoleSessionName="session")
        return await self.client(service, **keys(answer["Credentials"]))


def keys(credentials: dict[str, Any]) -> dict[str, str]:
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def account() -> AsyncIterator[Account]:
    async with LocalCloud(port=0) as local, AsyncExitStack() as open_clients:
        yield Account(local, Target.named("local", port=local.port), open_clients)


async def test_a_role_may_do_what_its_policies_allow(account, code_of, name):
    root = await account.client("sqs")
    url = (await root.create_queue(QueueName=name))["QueueUrl"]
    mine = await account.as_role("sqs", allow("sqs:SendMessage", f"arn:aws:sqs:*:*:{name}"))

    await mine.send_message(QueueUrl=url, MessageBody="x")
    with pytest.raises(ClientError) as caught:
        await mine.receive_message(QueueUrl=url)
    assert code_of(caught.value) == "AccessDenied"
    assert "no identity-based policy allows the sqs:ReceiveMessage action" in str(caught.value)


async def test_a_user_has_the_policies_of_its_groups(account, name):
    iam = await account.client("iam")
    await iam.create_user(UserName=name)
    key = (await iam.create_access_key(UserName=name))["AccessKey"]
    mine = await account.client(
        "sns", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )
    with pytest.raises(ClientError, match="not authorized to perform: sns:ListTopics"):
        await mine.list_topics()

    await iam.create_group(GroupName=name)
    await iam.add_user_to_group(GroupName=name, UserName=name)
    await iam.put_group_policy(
        GroupName=name, PolicyName="p", PolicyDocument=document(allow("sns:List*"))
    )
    assert "Topics" in await mine.list_topics()


async def test_a_copy_needs_its_source(account, code_of, name):
    root = await account.client("s3")
    source, target = f"{name}-source", f"{name}-target"
    for bucket in (source, target):
        await root.create_bucket(Bucket=bucket)
    await root.put_object(Bucket=source, Key="secret", Body=b"1")
    write = allow("s3:PutObject", f"arn:aws:s3:::{target}/*")
    read = allow("s3:GetObject", f"arn:aws:s3:::{source}/*")
    copy = {"Bucket": target, "Key": "k", "CopySource": f"{source}/secret"}

    with pytest.raises(ClientError, match="s3:GetObject") as caught:
        await (await account.as_role("s3", write)).copy_object(**copy)
    assert code_of(caught.value) == "AccessDenied"
    await (await account.as_role("s3", write, read)).copy_object(**copy)


async def test_each_object_that_is_deleted_must_be_allowed(account, name):
    root = await account.client("s3")
    await root.create_bucket(Bucket=name)
    for key in ("mine/a", "yours/b"):
        await root.put_object(Bucket=name, Key=key, Body=b"1")
    mine = await account.as_role("s3", allow("s3:DeleteObject", f"arn:aws:s3:::{name}/mine/*"))

    with pytest.raises(ClientError, match="yours/b"):
        await mine.delete_objects(
            Bucket=name, Delete={"Objects": [{"Key": "mine/a"}, {"Key": "yours/b"}]}
        )
    await mine.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "mine/a"}]})
    listed = await root.list_objects_v2(Bucket=name)
    assert [one["Key"] for one in listed["Contents"]] == ["yours/b"]


async def test_a_disabled_key_is_of_no_use(account, code_of, name):
    kms, secrets = await account.client("kms"), await account.client("secretsmanager")
    key = (await kms.create_key())["KeyMetadata"]["KeyId"]
    await secrets.create_secret(Name=name, SecretString="v", KmsKeyId=key)
    mine = await account.as_role(
        "secretsmanager", allow(["kms:*", "secretsmanager:GetSecretValue"])
    )
    assert (await mine.get_secret_value(SecretId=name))["SecretString"] == "v"

    await kms.disable_key(KeyId=key)
    with pytest.raises(ClientError, match="is disabled") as caught:
        await mine.get_secret_value(SecretId=name)
    assert code_of(caught.value) == "DecryptionFailure"
    await kms.enable_key(KeyId=key)
    assert (await mine.get_secret_value(SecretId=name))["SecretString"] == "v"


async def test_credentials_that_were_taken_back_are_nobodys(account, code_of):
    access = account.local.context.access
    made = access.credentials(access.role("arn:aws:iam::123456789012:role/none", "s"))
    mine = await account.client(
        "sqs", aws_access_key_id=made.access_key_id,
        aws_secret_access_key=made.secret_access_key, aws_session_token=made.session_token,
    )  # fmt: skip
    with pytest.raises(ClientError) as caught:
        await mine.list_queues()
    assert code_of(caught.value) == "AccessDenied"

    access.forget(made.access_key_id)
    with pytest.raises(ClientError) as caught:
        await mine.list_queues()
    assert code_of(caught.value) == "ExpiredTokenException"


UNKNOWN = allow("*", Condition={"StringSoundsLike": {"aws:username": "smith"}})


@pytest.mark.parametrize("place", ["role", "trust", "key", "topic", "queue", "bucket", "stream"])
async def test_an_operator_that_is_unknown_is_refused_by_name(
    account: Account, name: str, place: str
) -> None:
    policy = document({**UNKNOWN, **({} if place == "role" else {"Principal": "*"})})
    clients = SimpleNamespace(
        **{s: await account.client(s) for s in ("iam", "kms", "sns", "sqs", "s3", "kinesis")}
    )
    put: Callable[[], Any]
    match place:
        case "role":
            await clients.iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
            put = lambda: clients.iam.put_role_policy(  # noqa: E731
                RoleName=name, PolicyName="p", PolicyDocument=policy
            )
        case "trust":
            put = lambda: clients.iam.create_role(  # noqa: E731
                RoleName=name, AssumeRolePolicyDocument=policy
            )
        case "key":
            put = lambda: clients.kms.create_key(Policy=policy)  # noqa: E731
        case "topic":
            arn = (await clients.sns.create_topic(Name=name))["TopicArn"]
            put = lambda: clients.sns.set_topic_attributes(  # noqa: E731
                TopicArn=arn, AttributeName="Policy", AttributeValue=policy
            )
        case "queue":
            put = lambda: clients.sqs.create_queue(  # noqa: E731
                QueueName=name, Attributes={"Policy": policy}
            )
        case "bucket":
            await clients.s3.create_bucket(Bucket=name)
            put = lambda: clients.s3.put_bucket_policy(  # noqa: E731
                Bucket=name, Policy=policy
            )
        case _:
            await clients.kinesis.create_stream(StreamName=name, ShardCount=1)
            arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{name}"
            put = lambda: clients.kinesis.put_resource_policy(  # noqa: E731
                ResourceARN=arn, Policy=policy
            )
    with pytest.raises(ClientError, match="StringSoundsLike is not known"):
        await put()


async def test_an_unload_needs_rights_to_the_table_and_to_the_bucket(account, code_of, name):
    await (await account.client("s3")).create_bucket(Bucket=name)
    write = await account.client("timestream-write")
    await write.create_database(DatabaseName=name)
    await write.create_table(DatabaseName=name, TableName="rows")
    table, bucket = f"arn:aws:timestream:*:*:database/{name}/table/rows", f"arn:aws:s3:::{name}"
    sql = f'UNLOAD (SELECT * FROM "{name}"."rows") TO \'s3://{name}/mine\''  # noqa: S608
    allowed = [allow("timestream:DescribeEndpoints")]
    for action, resource in [
        ("timestream:Select", table),
        ("timestream:Unload", table),
        ("s3:GetBucketAcl", bucket),
        ("s3:PutObject", f"{bucket}/mine/*"),
    ]:
        mine = await account.as_role("timestream-query", *allowed)
        with pytest.raises(ClientError, match=action) as caught:
            await mine.query(QueryString=sql)
        assert code_of(caught.value) == "AccessDeniedException"
        allowed.append(allow(action, resource))

    mine = await account.as_role("timestream-query", *allowed)
    assert (await mine.query(QueryString=sql))["Rows"]
    with pytest.raises(ClientError, match="s3:PutObject"):
        await mine.query(QueryString=sql.replace("/mine", "/yours"))


async def test_account_settings_of_timestream_need_rights_of_their_own(account):
    mine = await account.as_role(
        "timestream-query",
        allow(["timestream:DescribeEndpoints", "timestream:DescribeAccountSettings"]),
    )
    assert (await mine.describe_account_settings())["QueryPricingModel"] == "COMPUTE_UNITS"
    with pytest.raises(ClientError, match="timestream:UpdateAccountSettings on resource"):
        await mine.update_account_settings(MaxQueryTCU=8)


async def test_a_batch_load_reads_and_reports_as_who_made_it(account, name):
    s3, write = await account.client("s3"), await account.client("timestream-write")
    await s3.create_bucket(Bucket=name)
    await s3.put_object(
        Bucket=name, Key="in/a.csv", Body=f"at,d,v\n{int(time.time())},x,1".encode()
    )
    await write.create_database(DatabaseName=name)
    await write.create_table(DatabaseName=name, TableName="rows")
    table, bucket = f"arn:aws:timestream:*:*:database/{name}/table/rows", f"arn:aws:s3:::{name}"
    given = {
        "TargetDatabaseName": name,
        "TargetTableName": "rows",
        "DataSourceConfiguration": {
            "DataSourceS3Configuration": {"BucketName": name, "ObjectKeyPrefix": "in/"},
            "DataFormat": "CSV",
        },
        "DataModelConfiguration": {
            "DataModel": {
                "TimeColumn": "at",
                "TimeUnit": "SECONDS",
                "DimensionMappings": [{"SourceColumn": "d"}],
                "MixedMeasureMappings": [{"SourceColumn": "v", "MeasureValueType": "DOUBLE"}],
            }
        },
        "ReportConfiguration": {"ReportS3Configuration": {"BucketName": name}},
    }
    asked = ["DescribeEndpoints", "DescribeBatchLoadTask"]
    allowed = [allow([f"timestream:{one}" for one in asked])]
    for action in ("timestream:CreateBatchLoadTask", "timestream:WriteRecords"):
        mine = await account.as_role("timestream-write", *allowed)
        with pytest.raises(ClientError, match=action):
            await mine.create_batch_load_task(**given)
        allowed.append(allow(action, table))
    for action, resource in [
        ("s3:GetBucketAcl", bucket),
        ("s3:ListBucket", bucket),
        ("s3:GetObject", f"{bucket}/*"),
        (None, ""),
    ]:
        mine = await account.as_role("timestream-write", *allowed)
        task_id = (await mine.create_batch_load_task(**given))["TaskId"]
        async with asyncio.timeout(30):
            while True:
                answer = await mine.describe_batch_load_task(TaskId=task_id)
                task = answer["BatchLoadTaskDescription"]
                if task["TaskStatus"] not in {"CREATED", "IN_PROGRESS"}:
                    break
                await asyncio.sleep(0.01)
        if action is None:
            assert task["TaskStatus"] == "SUCCEEDED"
        else:
            assert (task["TaskStatus"], action in task["ErrorMessage"]) == ("FAILED", True)
            allowed.append(allow(action, resource))
