"""UNLOAD, through the API: what lies in the bucket afterwards, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from typing import Any

import pytest
import pytest_asyncio
from pyarrow import parquet

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = (
    "SELECT n, x, at, site FROM (VALUES (1, 1.5, TIMESTAMP '2026-01-02 03:04:05.000000006', 'a'), "
    "(2, NULL, TIMESTAMP '2026-01-02 03:04:06', 'b'), (3, 2.5, NULL, 'a')) AS v(n, x, at, site)"
)
TIMES = ["2026-01-02 03:04:05.000000006", "2026-01-02 03:04:06.000000000"]


class Bucket:
    """A bucket, and what an UNLOAD into it left there."""

    def __init__(self, query: Any, s3: Any, name: str) -> None:
        self.query, self.s3, self.name = query, s3, name

    async def unload(self, select: str, options: str = "", folder: str = "out") -> dict[str, Any]:
        """The answer's only row, with the manifest and the metadata in the place of their URIs."""
        sql = f"UNLOAD ({select}) TO 's3://{self.name}/{folder}'"
        answer = await self.query.query(QueryString=sql + (f" WITH ({options})" if options else ""))
        [row] = answer["Rows"]
        names = [column["Name"] for column in answer["ColumnInfo"]]
        told = dict(zip(names, (one["ScalarValue"] for one in row["Data"]), strict=True))
        place = rf"s3://{self.name}/{folder.strip('/')}/{answer['QueryId']}_[0-9a-f-]{{36}}_"
        for kind in ("metadata", "manifest"):
            assert re.fullmatch(f"{place}{kind}.json", told[f"{kind}File"])
            told[kind] = json.loads(await self.read(told[f"{kind}File"]))
        return told

    async def read(self, uri: str) -> bytes:
        key = uri.removeprefix(f"s3://{self.name}/")
        return bytes(await (await self.s3.get_object(Bucket=self.name, Key=key))["Body"].read())

    async def files(self, told: dict[str, Any]) -> dict[str, bytes]:
        """The files of the manifest by their folders and endings, checked against it."""
        found = {}
        for one in told["manifest"]["result_files"]:
            body = await self.read(one["url"])
            assert one["file_metadata"]["content_length_in_bytes"] == len(body)
            key = one["url"].removeprefix(f"s3://{self.name}/")
            found[re.sub(r"[0-9A-F]{32}_[0-9a-f-]{36}", "", key)] = body
        whole = told["manifest"]["query_metadata"]
        assert whole["total_content_length_in_bytes"] == sum(map(len, found.values()))
        assert whole["total_row_count"] == int(told["rows"])
        return found


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(cloud, name):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    return Bucket(await cloud.client("timestream-query"), s3, name)


async def test_csv_is_compressed_and_has_no_header_where_nothing_is_said(bucket):
    told = await bucket.unload(ROWS)

    assert told["rows"] == "3"
    assert told["manifest"]["query_metadata"]["result_format"] == "CSV"
    assert told["manifest"]["author"] == {
        "name": "Amazon Timestream", "manifest_file_version": "1.0"
    }  # fmt: skip
    assert told["metadata"] == {
        "ColumnInfo": [
            {"Name": "n", "Type": {"ScalarType": "INTEGER"}},
            {"Name": "x", "Type": {"ScalarType": "DOUBLE"}},
            {"Name": "at", "Type": {"ScalarType": "TIMESTAMP"}},
            {"Name": "site", "Type": {"ScalarType": "VARCHAR"}},
        ],
        "Author": {"Name": "Amazon Timestream", "MetadataFileVersion": "1.0"},
    }
    [(name, body)] = (await bucket.files(told)).items()
    assert name == "out/results/.gz"
    assert gzip.decompress(body).decode() == f"1,1.5,{TIMES[0]},a\n2,,{TIMES[1]},b\n3,2.5,,a\n"


async def test_doubles_that_json_has_no_number_for_are_texts_in_csv(bucket):
    select = "SELECT 1.5 / 0 AS a, ARRAY[-1 / 0.0, 0 / 0.0, 2.5, NULL] AS b, ROW(1 / 0.0) AS c"
    [body] = (await bucket.files(await bucket.unload(select, "compression = 'NONE'"))).values()

    [[plain, inner, row]] = csv.reader(
        io.StringIO(body.decode()), escapechar="\\", doublequote=False
    )
    assert plain == "Infinity"
    assert json.loads(inner) == ["-Infinity", "NaN", 2.5, None]
    assert list(json.loads(row).values()) == ["Infinity"]


async def test_csv_is_quoted_and_escaped_as_it_is_asked_for(bucket):
    select = (
        "SELECT 'Time,stream' AS \"a|b\", 'Time\"stream' AS b, 'Time\\stream' AS c, 'x|y' AS d, "
        "'two' || chr(10) || 'lines' AS e, ARRAY[1.5, 2.5] AS f, CAST(ROW(23.0, 'hello') AS "
        "ROW(x DOUBLE, y VARCHAR)) AS g"
    )
    options = (
        "compression = 'NONE', include_header = 'true', field_delimiter = '|', escaped_by = '\\'"
    )
    told = await bucket.unload(select, options)
    [(name, body)] = (await bucket.files(told)).items()

    assert name == "out/results/.csv"
    text = body.decode()
    assert text.startswith(
        '"a|b"|b|c|d|e|f|g\nTime,stream|Time\\"stream|Time\\\\stream|"x|y"|"two\n'
    )
    _, row = csv.reader(io.StringIO(text), delimiter="|", escapechar="\\", doublequote=False)
    assert row[:5] == ["Time,stream", 'Time"stream', "Time\\stream", "x|y", "two\nlines"]
    assert [json.loads(one) for one in row[5:]] == [[1.5, 2.5], {"x": 23.0, "y": "hello"}]


async def test_a_time_series_is_json_with_its_times(bucket):
    select = f"SELECT create_time_series(at, x) AS s FROM ({ROWS}) WHERE n = 1"  # noqa: S608
    told = await bucket.unload(select, "compression = 'NONE'")
    [body] = (await bucket.files(told)).values()

    [[series]] = csv.reader(io.StringIO(body.decode()), escapechar="\\", doublequote=False)
    assert json.loads(series) == [{"time": TIMES[0], "value": 1.5}]
    assert "TimeSeriesMeasureValueColumnInfo" in told["metadata"]["ColumnInfo"][0]["Type"]


@pytest.mark.parametrize(("compression", "codec"), [("GZIP", "GZIP"), ("NONE", "UNCOMPRESSED")])
async def test_parquet_has_the_types_and_times_in_twelve_bytes(bucket, compression, codec):
    select = f"SELECT n, x, at, ARRAY[n] AS l, sum(n) OVER () AS s FROM ({ROWS}) ORDER BY n"  # noqa: S608
    told = await bucket.unload(select, f"format = 'parquet', compression = '{compression}'")
    [(name, body)] = (await bucket.files(told)).items()

    assert name == "out/results/.parquet"
    assert told["manifest"]["query_metadata"]["result_format"] == "PARQUET"
    file = parquet.ParquetFile(io.BytesIO(body))
    assert file.metadata.row_group(0).column(0).compression == codec
    kinds = [file.schema.column(at).physical_type for at in range(5)]
    assert kinds == ["INT32", "DOUBLE", "INT96", "INT32", "INT64"]
    table = file.read()
    assert table["x"].to_pylist() == [1.5, None, 2.5]
    assert table["l"].to_pylist() == [[1], [2], [3]]
    assert table["s"].to_pylist() == [6, 6, 6]
    assert table["at"].cast("int64").to_pylist() == [
        1_767_323_045_000_000_006,
        1_767_323_046 * 10**9,
        None,
    ]


async def test_partitions_are_folders_and_no_columns(bucket):
    options = "partitioned_by = ARRAY['site', 'kind'], compression = 'NONE'"
    told = await bucket.unload(f"SELECT n, site, 'x/y' AS kind FROM ({ROWS})", options, "deep/er/")  # noqa: S608

    assert {name: body.decode() for name, body in (await bucket.files(told)).items()} == {
        "deep/er/results/site=a/kind=x%2Fy/.csv": "1\n3\n",
        "deep/er/results/site=b/kind=x%2Fy/.csv": "2\n",
    }
    columns = [column["Name"] for column in told["metadata"]["ColumnInfo"]]
    assert columns == ["n", "site", "kind"]


async def test_a_result_without_rows_has_a_manifest_without_files(bucket):
    told = await bucket.unload(f"SELECT n FROM ({ROWS}) WHERE n > 9")  # noqa: S608

    assert told["rows"] == "0"
    assert told["manifest"]["result_files"] == []
    assert told["metadata"]["ColumnInfo"] == [{"Name": "n", "Type": {"ScalarType": "INTEGER"}}]


async def test_files_are_no_larger_than_asked_for(bucket, monkeypatch):
    monkeypatch.setattr("localcloud.timestream.unload.MIN_FILE_BYTES", 1)
    monkeypatch.setattr("localcloud.timestream.exporting.CHUNK_ROWS", 1000)
    select = "SELECT n FROM UNNEST(sequence(1, 10000)) AS u(n)"
    told = await bucket.unload(select, "compression = 'NONE', max_file_size = '0.01MB'")

    counts = [one["file_metadata"]["row_count"] for one in told["manifest"]["result_files"]]
    assert len(counts) > 2
    assert sum(counts) == 10_000
    bodies = [await bucket.read(one["url"]) for one in told["manifest"]["result_files"]]
    assert [len(body) < 20_000 for body in bodies] == [True] * len(bodies)
    assert b"".join(bodies).decode().split() == [str(n) for n in range(1, 10_001)]


async def test_all_files_are_encrypted_as_asked_for(cloud, bucket):
    key = (await (await cloud.client("kms")).create_key())["KeyMetadata"]["Arn"]
    await bucket.unload(ROWS, f"encryption = 'SSE_KMS', kms_key = '{key}'")
    await bucket.unload(ROWS, folder="plain")

    listed = (await bucket.s3.list_objects_v2(Bucket=bucket.name))["Contents"]
    heads = {
        one["Key"]: await bucket.s3.head_object(Bucket=bucket.name, Key=one["Key"])
        for one in listed
    }
    assert len(heads) == 6
    for path, head in heads.items():
        if path.startswith("out/"):
            assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
        else:
            assert head["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UNLOAD SELECT 1 TO 's3://bkt/x'", r"line 1:8: UNLOAD: '\(' is expected"),
        ("UNLOAD (SELECT 1", r"line 1:17: UNLOAD: '\)' is expected"),
        ("UNLOAD (SELECT 1)\nTO 'bkt/x'", "line 2:4: UNLOAD: 's3://bucket-name/folder' is expected"),
        ("UNLOAD (SELECT foo(')')) TO 's3://bkt/x'", "line 1:16: function foo is not supported"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (format = 'ORC')", "one of CSV, PARQUET, not 'ORC'"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (colour = 'red')", "line 1:\\d+: .*an option is expected"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (format = 'CSV', format = 'CSV')", "format is given twice"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (max_file_size = '1MB')", "from 16MB to 78GB, not '1MB'"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (field_delimiter = '||')", "a single ASCII character"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (escaped_by = ',')", "must be different characters"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (kms_key = 'k')", "kms_key needs encryption = 'SSE_KMS'"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' WITH (include_header = 'maybe')", "one of TRUE, FALSE"),
        ("UNLOAD (SELECT 1) TO 's3://bkt/x' AND MORE", "line 1:\\d+: .*the end of the statement"),
        ("UNLOAD (SELECT 1) TO 's3://no-such-bucket/x'", "bucket does not exist"),
        ("UNLOAD (SELECT NULL AS n) TO 's3://bkt/x'", "the column n has type unknown"),
        ("UNLOAD (SELECT 1 AS a, 2 AS b) TO 's3://bkt/x' WITH (partitioned_by = ARRAY['a'])",
         r"partitioned_by \(a\) must be the last columns"),
        ("UNLOAD (SELECT 1 AS a, 'é' AS b) TO 's3://bkt/x' WITH (partitioned_by = ARRAY['b'])",
         "other characters than ASCII"),
        (("UNLOAD (SELECT 1 AS a, n FROM UNNEST(sequence(1, 101)) AS u(n)) TO 's3://bkt/x' "
          "WITH (partitioned_by = ARRAY['n'])"), "101 partitions are more than 100"),
    ],
)  # fmt: skip
async def test_what_cannot_be_unloaded_is_refused_by_name(bucket, sql, why):
    with pytest.raises(bucket.query.exceptions.ValidationException, match=why):
        await bucket.query.query(QueryString=sql.replace("bkt", bucket.name))
    assert "Contents" not in await bucket.s3.list_objects_v2(Bucket=bucket.name)


@pytest.mark.parametrize("kind", ["CSV", "PARQUET"])
async def test_a_sum_that_is_no_bigint_is_refused_in_both_formats(bucket, kind):
    sql = (
        f"UNLOAD (SELECT sum(n) AS s FROM (VALUES 9223372036854775807, 1) AS t(n)) "  # noqa: S608
        f"TO 's3://{bucket.name}/x' WITH (format = '{kind}')"
    )
    with pytest.raises(bucket.query.exceptions.QueryExecutionException, match="bigint overflow"):
        await bucket.query.query(QueryString=sql)


async def test_an_unload_is_not_prepared(bucket):
    with pytest.raises(bucket.query.exceptions.ValidationException, match="line 1:1: UNLOAD is"):
        await bucket.query.prepare_query(
            QueryString="UNLOAD (SELECT 1) TO 's3://bkt/x'", ValidateOnly=True
        )
