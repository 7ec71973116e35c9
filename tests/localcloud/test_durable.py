"""A local cloud that is killed with kill -9 goes on where it was, and nothing acknowledged is lost."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest
import pytest_asyncio
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast import cloudctl
from fleetcast.errors import UsageError
from fleetcast.target import Target

pytestmark = pytest.mark.asyncio(loop_scope="function")

ROLE = "arn:aws:iam::123456789012:role/any"


class Killable:
    """A cloud in a process of its own, with a folder; it keeps its port when it starts again."""

    def __init__(self, folder):
        self.folder, self.port = folder, cloudctl.free_port()
        self.process = None
        self.open = contextlib.AsyncExitStack()

    async def start(self):
        self.process = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not waited for
            [
                *(sys.executable, "-m", "localcloud", "--no-iam"),
                *("--port", str(self.port), "--data", str(self.folder)),
            ],
            stderr=subprocess.PIPE,
        )
        while not await asyncio.to_thread(self._ready):
            assert self.process.poll() is None, self.process.stderr.read().decode()
            await asyncio.sleep(0.05)
        return self

    def _ready(self):
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.port}/_fleetcast/health"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.loads(answer.read())["ready"]
        return False

    async def client(self, service):
        target = Target.named("local", port=self.port)
        return await self.open.enter_async_context(
            target.client(service, retries={"total_max_attempts": 1})
        )

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()

    async def again(self):
        self.kill()
        await self.open.aclose()
        return await self.start()


@pytest_asyncio.fixture
async def cloud(tmp_path):
    cloud = Killable(tmp_path / "data")
    await cloud.start()
    yield cloud
    await cloud.open.aclose()
    cloud.kill()


async def fill(client, name, acknowledged, first):
    """Puts numbered records until the cloud is gone; notes what was acknowledged."""
    number = first
    with contextlib.suppress(BotoCoreError, OSError):
        while True:
            entries = [
                {"PartitionKey": f"key-{n % 17}", "Data": f"{n}".encode()}
                for n in range(number, number + 40)
            ]
            answer = await client.put_records(StreamName=name, Records=entries)
            for entry, told in zip(entries, answer["Records"], strict=True):
                if "SequenceNumber" in told:
                    acknowledged[entry["Data"]] = (told["ShardId"], told["SequenceNumber"])
            number += 40
            await asyncio.sleep(0.01)


async def read_all(client, name):
    found = {}
    shards = await client.list_shards(StreamName=name)
    for shard in shards["Shards"]:
        answer = await client.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        iterator = answer["ShardIterator"]
        while iterator:
            page = await client.get_records(ShardIterator=iterator)
            for record in page["Records"]:
                place = (shard["ShardId"], record["SequenceNumber"])
                found.setdefault(record["Data"], []).append(place)
            iterator = page.get("NextShardIterator")
            if page["MillisBehindLatest"] == 0 and not page["Records"]:
                break
    return found


async def test_records_stand_where_they_were_acknowledged(cloud, eventually):
    acknowledged: dict = {}
    for round_ in range(3):
        client = await cloud.client("kinesis")
        if round_ == 0:
            await client.create_stream(StreamName="readings", ShardCount=2)
        if round_ == 1:
            await client.update_shard_count(
                StreamName="readings", TargetShardCount=3, ScalingType="UNIFORM_SCALING"
            )
        filling = asyncio.create_task(fill(client, "readings", acknowledged, round_ * 1_000_000))
        seen = len(acknowledged)
        await eventually(lambda seen=seen: len(acknowledged) >= seen + 400)
        await cloud.again()
        await filling
    client = await cloud.client("kinesis")
    found = await read_all(client, "readings")
    assert {data: found.get(data) for data in acknowledged} == {
        data: [place] for data, place in acknowledged.items()
    }
    # What a client remembers of a record is good for going on after it.
    last = max(acknowledged.values(), key=lambda place: (place[0], place[1]))
    answer = await client.get_shard_iterator(
        StreamName="readings", ShardId=last[0],
        ShardIteratorType="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=last[1],
    )  # fmt: skip
    page = await client.get_records(ShardIterator=answer["ShardIterator"])
    assert not {record["Data"] for record in page["Records"]} & acknowledged.keys()


async def test_a_stream_of_an_old_name_has_nothing_of_the_old_one(cloud):
    client = await cloud.client("kinesis")
    await client.create_stream(StreamName="twice", ShardCount=1)
    await client.put_record(StreamName="twice", PartitionKey="k", Data=b"old")
    await client.delete_stream(StreamName="twice")
    await client.create_stream(StreamName="twice", ShardCount=1)
    await client.put_record(StreamName="twice", PartitionKey="k", Data=b"new")
    await cloud.again()
    client = await cloud.client("kinesis")
    assert list(await read_all(client, "twice")) == [b"new"]
    await client.delete_stream(StreamName="twice")
    assert not (cloud.folder / "streams" / "twice").exists()


async def test_rows_of_a_table_are_back_with_their_versions(cloud):
    write = await cloud.client("timestream-write")
    query = await cloud.client("timestream-query")
    await write.create_database(DatabaseName="fleet")
    await write.create_table(DatabaseName="fleet", TableName="readings")
    now_ms = int(time.time() * 1000)

    def record(device, at_ms, value, version=1):
        return {
            "Dimensions": [{"Name": "device", "Value": device}],
            "MeasureName": "reading", "MeasureValueType": "MULTI",
            "MeasureValues": [
                {"Name": "temperature", "Value": str(value), "Type": "DOUBLE"},
                {"Name": "state", "Value": 'a "word"', "Type": "VARCHAR"},
                {"Name": "on", "Value": "true", "Type": "BOOLEAN"},
            ],
            "Time": str(at_ms), "Version": version,
        }  # fmt: skip

    records = [record(f"d{n % 7}", now_ms - n, n) for n in range(90)]
    await write.write_records(DatabaseName="fleet", TableName="readings", Records=records)
    await write.write_records(
        DatabaseName="fleet", TableName="readings", Records=[record("d0", now_ms, 500, 2)]
    )
    sql = 'SELECT * FROM "fleet"."readings" ORDER BY time, device'
    before = (await query.query(QueryString=sql))["Rows"]
    assert len(before) == 90
    await cloud.again()
    write = await cloud.client("timestream-write")
    query = await cloud.client("timestream-query")
    assert (await query.query(QueryString=sql))["Rows"] == before
    with pytest.raises(ClientError) as refused:
        await write.write_records(
            DatabaseName="fleet", TableName="readings", Records=[record("d0", now_ms, 1, 1)]
        )
    assert refused.value.response["RejectedRecords"][0]["ExistingVersion"] == 2
    await write.write_records(
        DatabaseName="fleet", TableName="readings", Records=[record("d9", now_ms, 1)]
    )
    await cloud.again()
    query = await cloud.client("timestream-query")
    assert len((await query.query(QueryString=sql))["Rows"]) == 91


async def test_a_scheduled_query_is_there_again_and_runs(cloud):
    query, sqs = await cloud.client("timestream-query"), await cloud.client("sqs")
    sns = await cloud.client("sns")
    url = (await sqs.create_queue(QueueName="runs"))["QueueUrl"]
    topic = (await sns.create_topic(Name="runs"))["TopicArn"]
    await sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:runs"
    )
    made = await query.create_scheduled_query(
        Name="kept",
        QueryString="SELECT 1 AS one",
        ScheduleConfiguration={"ScheduleExpression": "cron(0 0 1 1 ? *)"},
        NotificationConfiguration={"SnsConfiguration": {"TopicArn": topic}},
        ScheduledQueryExecutionRoleArn=ROLE,
        ErrorReportConfiguration={"S3Configuration": {"BucketName": "errors"}},
    )
    arn = made["Arn"]
    await query.update_scheduled_query(ScheduledQueryArn=arn, State="DISABLED")
    await query.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}])
    before = (await query.list_scheduled_queries())["ScheduledQueries"]

    await cloud.again()

    query, sqs = await cloud.client("timestream-query"), await cloud.client("sqs")
    assert (await query.list_scheduled_queries())["ScheduledQueries"] == before
    assert before[0]["State"] == "DISABLED"
    tags = await query.list_tags_for_resource(ResourceARN=arn)
    assert tags["Tags"] == [{"Key": "a", "Value": "1"}]
    await query.execute_scheduled_query(ScheduledQueryArn=arn, InvocationTime=1_714_564_800)
    told = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    assert "MANUAL_TRIGGER_SUCCESS" in told["Messages"][0]["Body"]


async def test_account_settings_of_timestream_are_as_they_were(cloud):
    query = await cloud.client("timestream-query")
    await query.update_account_settings(MaxQueryTCU=16)
    with pytest.raises(ClientError):
        await query.update_account_settings(MaxQueryTCU=5)

    await cloud.again()

    query = await cloud.client("timestream-query")
    assert (await query.describe_account_settings())["MaxQueryTCU"] == 16


async def test_messages_that_were_not_deleted_are_visible_again(cloud):
    sqs, sns = await cloud.client("sqs"), await cloud.client("sns")
    url = (await sqs.create_queue(QueueName="quarantine"))["QueueUrl"]
    arn = "arn:aws:sqs:us-east-1:123456789012:quarantine"
    topic = (await sns.create_topic(Name="alarms"))["TopicArn"]
    await sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )
    fifo = await sqs.create_queue(
        QueueName="ordered.fifo",
        Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
    )
    for body in ("deleted", "received", "waiting"):
        await sqs.send_message(
            QueueUrl=url, MessageBody=body,
            MessageAttributes={"why": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
        )  # fmt: skip
    await sns.publish(TopicArn=topic, Message="from a topic")
    for body in ("first", "second"):
        await sqs.send_message(QueueUrl=fifo["QueueUrl"], MessageBody=body, MessageGroupId="g")
    answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)
    gone = next(one for one in answer["Messages"] if one["Body"] == "deleted")
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=gone["ReceiptHandle"])
    for _ in range(2):
        await cloud.again()
    sqs, sns = await cloud.client("sqs"), await cloud.client("sns")
    answer = await sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )
    bodies = {one["Body"]: one for one in answer["Messages"]}
    assert sorted(bodies) == ["from a topic", "received", "waiting"]
    assert bodies["waiting"]["MessageAttributes"]["why"]["BinaryValue"] == b"\x00\xff"
    answer = await sqs.receive_message(QueueUrl=fifo["QueueUrl"], MaxNumberOfMessages=10)
    assert [one["Body"] for one in answer["Messages"]] == ["first", "second"]
    # The subscription is there and delivers once.
    await sqs.purge_queue(QueueUrl=url)
    await sns.publish(TopicArn=topic, Message="again")
    answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    assert [one["Body"] for one in answer["Messages"]] == ["again"]


async def test_names_keys_and_secrets_are_the_same_ones(cloud):
    kms, secrets = await cloud.client("kms"), await cloud.client("secretsmanager")
    s3, iam, sts = await cloud.client("s3"), await cloud.client("iam"), await cloud.client("sts")
    key = (await kms.create_key())["KeyMetadata"]["KeyId"]
    sealed = (await kms.encrypt(KeyId=key, Plaintext=b"reading"))["CiphertextBlob"]
    secret = await secrets.create_secret(Name="signing", SecretString="s3cret")
    await s3.create_bucket(Bucket="archive")
    await s3.put_bucket_versioning(Bucket="archive", VersioningConfiguration={"Status": "Enabled"})
    versions = [
        (await s3.put_object(Bucket="archive", Key="k", Body=body))["VersionId"]
        for body in (b"one", b"two")
    ]
    await iam.create_user(UserName="u")
    access = (await iam.create_access_key(UserName="u"))["AccessKey"]["AccessKeyId"]
    session = (await sts.assume_role(RoleArn=ROLE, RoleSessionName="session"))["Credentials"]
    upload = await s3.create_multipart_upload(Bucket="archive", Key="big")
    part = await s3.upload_part(
        Bucket="archive", Key="big", UploadId=upload["UploadId"], PartNumber=1, Body=b"part"
    )
    modified = (await s3.head_object(Bucket="archive", Key="k"))["LastModified"]
    created = (await iam.get_user(UserName="u"))["User"]["CreateDate"]
    await asyncio.sleep(1.1)  # so that a time of the restart would be another second

    await cloud.again()

    kms, secrets = await cloud.client("kms"), await cloud.client("secretsmanager")
    s3, iam = await cloud.client("s3"), await cloud.client("iam")
    assert (await kms.decrypt(CiphertextBlob=sealed))["Plaintext"] == b"reading"
    again = await secrets.get_secret_value(SecretId=secret["ARN"])
    assert (again["SecretString"], again["VersionId"]) == ("s3cret", secret["VersionId"])
    for version, body in zip(versions, (b"one", b"two"), strict=True):
        answer = await s3.get_object(Bucket="archive", Key="k", VersionId=version)
        assert await answer["Body"].read() == body
    listed = await iam.list_access_keys(UserName="u")
    assert [one["AccessKeyId"] for one in listed["AccessKeyMetadata"]] == [access]
    async with get_session().create_client(
        "sts", "us-east-1", endpoint_url=f"http://127.0.0.1:{cloud.port}",
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    ) as assumed:  # fmt: skip
        assert (await assumed.get_caller_identity())["Arn"].endswith("assumed-role/any/session")
    await s3.complete_multipart_upload(
        Bucket="archive", Key="big", UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    assert abs((await s3.head_object(Bucket="archive", Key="k"))["LastModified"] - modified
               ).total_seconds() <= 1  # fmt: skip
    assert abs((await iam.get_user(UserName="u"))["User"]["CreateDate"] - created
               ).total_seconds() <= 1  # fmt: skip


def zipped(source):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", source)
    return packed.getvalue()


CONSUMER = """
import base64, boto3, os
sqs = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
def handle(event, context):
    for record in event["Records"]:
        body = base64.b64decode(record["kinesis"]["data"]).decode()
        sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=body)
"""


async def test_a_mapping_and_a_delivery_stream_go_on_where_they_were(cloud, eventually):
    kinesis, sqs = await cloud.client("kinesis"), await cloud.client("sqs")
    awslambda, firehose = await cloud.client("lambda"), await cloud.client("firehose")
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket="archive")
    url = (await sqs.create_queue(QueueName="landed"))["QueueUrl"]
    await kinesis.create_stream(StreamName="readings", ShardCount=2)
    stream = "arn:aws:kinesis:us-east-1:123456789012:stream/readings"
    await kinesis.put_record(StreamName="readings", PartitionKey="k", Data=b"before")
    await awslambda.create_function(
        FunctionName="consumer", Runtime="python3.12", Role=ROLE, Handler="main.handle",
        Code={"ZipFile": zipped(CONSUMER)}, Timeout=30,
        Environment={"Variables": {"QUEUE": url}},
    )  # fmt: skip
    mapping = await awslambda.create_event_source_mapping(
        FunctionName="consumer", EventSourceArn=stream, StartingPosition="LATEST", BatchSize=10
    )
    await firehose.create_delivery_stream(
        DeliveryStreamName="to-archive", DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": stream, "RoleARN": ROLE},
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE, "BucketARN": "arn:aws:s3:::archive", "Prefix": "stream/",
            "BufferingHints": {"IntervalInSeconds": 1, "SizeInMBs": 1},
        },
    )  # fmt: skip
    await firehose.create_delivery_stream(
        DeliveryStreamName="direct",
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE, "BucketARN": "arn:aws:s3:::archive", "Prefix": "direct/",
            "BufferingHints": {"IntervalInSeconds": 900, "SizeInMBs": 64},
        },
    )  # fmt: skip
    put = [f"p{n}" for n in range(20)]
    for body in put:
        await firehose.put_record(
            DeliveryStreamName="direct", Record={"Data": f"{body}\n".encode()}
        )
    acknowledged: dict = {}
    for round_ in range(2):
        kinesis = await cloud.client("kinesis")
        filling = asyncio.create_task(fill(kinesis, "readings", acknowledged, round_ * 1_000_000))
        seen = len(acknowledged)
        await eventually(lambda seen=seen: len(acknowledged) >= seen + 400)
        await cloud.again()
        await filling
    wanted = {data.decode() for data in acknowledged}
    sqs, s3 = await cloud.client("sqs"), await cloud.client("s3")
    landed: set[str] = set()

    async def all_landed():
        answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        landed.update(one["Body"] for one in answer.get("Messages", ()))
        return wanted <= landed

    await eventually(all_landed, timeout_s=120)
    assert "before" not in landed

    async def archived(prefix):
        listed = await s3.list_objects_v2(Bucket="archive", Prefix=prefix)
        content = b""
        for one in listed.get("Contents", ()):
            answer = await s3.get_object(Bucket="archive", Key=one["Key"])
            content += await answer["Body"].read()
        return content

    async def all_archived():
        content = (await archived("stream/")).decode()
        # There is no delimiter: digits of records that follow one another run together.
        return len(content) >= sum(map(len, wanted))

    await eventually(all_archived, timeout_s=120)
    awslambda, firehose = await cloud.client("lambda"), await cloud.client("firehose")
    found = await awslambda.get_event_source_mapping(UUID=mapping["UUID"])
    assert found["State"] == "Enabled"
    described = await firehose.describe_delivery_stream(DeliveryStreamName="direct")
    version = described["DeliveryStreamDescription"]["VersionId"]
    await firehose.update_destination(
        DeliveryStreamName="direct", CurrentDeliveryStreamVersionId=version,
        DestinationId="destinationId-000000000001",
        ExtendedS3DestinationUpdate={"BufferingHints": {"IntervalInSeconds": 1, "SizeInMBs": 1}},
    )  # fmt: skip

    async def direct_archived():
        return sorted((await archived("direct/")).decode().split()) == sorted(put)

    await eventually(direct_archived, timeout_s=60)
    # What is delivered is not delivered again.
    await cloud.again()
    s3 = await cloud.client("s3")
    assert await direct_archived()


async def test_a_cloud_says_what_it_keeps_and_a_damaged_folder_is_refused(cloud, monkeypatch):
    sqs = await cloud.client("sqs")
    await sqs.create_queue(QueueName="q")
    await cloud.again()
    told = await asyncio.to_thread(cloudctl.status, cloud.port)
    assert told["data"]["folder"] == str(cloud.folder)
    assert told["data"]["requests_made_again"] == 1
    assert any(str(cloud.folder) in line for line in cloudctl.describe(told))
    with pytest.raises(UsageError, match=r"keeps everything in .*data; stop it first"):
        cloudctl.start(cloud.port, data=cloud.folder.parent / "other")
    (log,) = (cloud.folder / "requests").glob("*.log")
    content = bytearray(log.read_bytes())
    content[20] ^= 0xFF
    cloud.kill()
    log.write_bytes(bytes(content) + b"more")
    failed = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "localcloud", "--no-iam"),
            *("--port", str(cloud.port), "--data", str(cloud.folder)),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 3
    assert "is damaged at byte 0" in failed.stderr.strip().splitlines()[-1]
    log.unlink()
    await cloud.start()
