"""Query, CancelQuery and PrepareQuery: pages over results that do not change while they are read.

A query that takes longer than a client should wait is answered with a page without rows and a
NextToken, as the service does; the pages that follow come from the same run.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from botocore.exceptions import ClientError
from sqlglot import exp

from localcloud.http import AwsError
from localcloud.timestream import exporting
from localcloud.timestream.dialect import parse
from localcloud.timestream.reading import Readers, Work
from localcloud.timestream.results import column_info, rows_of
from localcloud.timestream.showing import shown
from localcloud.timestream.store import now_ns
from localcloud.timestream.translate import translate
from localcloud.timestream.unload import is_unload, parse_unload

if TYPE_CHECKING:
    from localcloud.seams import CloudContext
    from localcloud.timestream.catalog import Catalog
    from localcloud.timestream.store import Store
    from localcloud.timestream.unload import Unload

TIMEOUT_S = 60.0
PATIENCE_S = 20.0
MAX_ROWS = 1000
PAGE_BYTES = 1_000_000
RUN_LIFE_S = 3600
MAX_RUNS = 100
KEPT_BYTES = 256_000_000
_STEP_ROWS = 500


@dataclass(eq=False)
class Run:
    """A query that was asked: the work, and when it is done the result."""

    query_id: str
    sql: str
    client_token: str | None
    task: asyncio.Task[pa.Table]
    work: Work = field(default_factory=Work)
    made_s: float = field(default_factory=time.time)
    columns: list[dict[str, Any]] = field(default_factory=list)


class QueryEngine:
    """Runs queries and keeps the results of those whose pages may still be asked for.

    Attributes:
        timeout_s: After how long a query is ended.
        patience_s: After how long a query that runs on is answered without rows.
    """

    def __init__(self, context: CloudContext, catalog: Catalog, store: Store) -> None:
        self._context = context
        self._catalog = catalog
        self._store = store
        self._readers = Readers(store)
        self._runs: dict[str, Run] = {}
        self._by_token: dict[str, Run] = {}
        self.timeout_s = TIMEOUT_S
        self.patience_s = PATIENCE_S

    def close(self) -> None:
        """Ends what runs."""
        for run in self._runs.values():
            run.work.stop("The service stops.")
            run.task.cancel()
        self._readers.close()

    async def query(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a Query request.

        Raises:
            AwsError: ValidationException; QueryExecutionException where it took too long;
                ConflictException where a ClientToken comes again with another query.
        """
        limit = body.get("MaxRows")
        if limit is not None and not 1 <= int(limit) <= MAX_ROWS:
            raise AwsError("ValidationException", f"MaxRows must be from 1 to {MAX_ROWS}.")
        if body.get("NextToken"):
            run, first = self._continued(body)
        else:
            run, first = self._begun(body), 0
        done, _ = await asyncio.wait({run.task}, timeout=self.patience_s)
        if not done:
            return self._answer(run, [], first, None)
        if run.task.cancelled() or run.task.exception() is not None:
            self._forget(run)
        table = await run.task
        run.columns = run.columns or column_info(table)
        rows = _page(table, first, limit)
        answer = self._answer(run, rows, first + len(rows), table)
        if (body.get("QueryInsights") or {}).get("Mode") == "ENABLED_WITH_RATE_CONTROL":
            answer["QueryInsightsResponse"] = {
                "OutputRows": table.num_rows, "OutputBytes": table.nbytes,
            }  # fmt: skip
        return answer

    def cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a CancelQuery request: what runs is ended, and no further page is given."""
        run = self._runs.get(body["QueryId"])
        if run is None:
            raise AwsError("ValidationException", f"Query {body['QueryId']} is not running.")
        run.work.stop(f"Query {run.query_id} was cancelled.")
        self._forget(run)
        return {"CancellationMessage": f"Query {run.query_id} has been cancelled."}

    async def prepare(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a PrepareQuery request: the columns and parameters of a query, which is not run.

        Raises:
            AwsError: ValidationException.
        """
        if not body.get("ValidateOnly"):
            raise AwsError("ValidationException", "PrepareQuery needs ValidateOnly to be true.")
        sql = body["QueryString"]
        tree = parse(sql)
        parameters: list[dict[str, Any]] = []
        for node in list(tree.find_all(exp.Parameter, exp.Placeholder, bfs=False)):
            name = f"@{node.name}" if isinstance(node, exp.Parameter) else "?"
            if name == "?" or all(one["Name"] != name for one in parameters):
                kind = "TIMESTAMP" if name == "@scheduled_runtime" else "UNKNOWN"
                parameters.append({"Name": name, "Type": {"ScalarType": kind}})
            node.replace(
                exp.cast(exp.Null(), "timestamp") if name == "@scheduled_runtime" else exp.Null()
            )
        found = translate(tree, self._catalog, self._store, now_ns(), sql)
        table = await self._readers.run(
            f"SELECT * FROM ({found.sql}) LIMIT 0",  # noqa: S608 - translated
            found.tables, sql, self.timeout_s, Work(),
        )  # fmt: skip
        columns = []
        plain = _plain_columns(tree)
        for info in column_info(table):
            source = plain.get(info["Name"])
            columns.append({**info, **(source or {}), "Aliased": source is None})
        return {"QueryString": sql, "Columns": columns, "Parameters": parameters}

    def _begun(self, body: dict[str, Any]) -> Run:
        sql, token = body["QueryString"], body.get("ClientToken")
        known = self._by_token.get(token) if token else None
        if known is not None and time.time() - known.made_s < RUN_LIFE_S:
            if known.sql != sql:
                raise AwsError(
                    "ConflictException", "The ClientToken was used with another QueryString."
                )
            return known
        work, query_id = Work(), uuid.uuid4().hex.upper()
        if is_unload(sql):
            task = asyncio.create_task(self._unload(parse_unload(sql), work, query_id))
        else:
            task = asyncio.create_task(self._select(sql, work, now_ns()))
        run = Run(query_id, sql, token, task, work)
        self._keep(run)
        return run

    async def _select(self, sql: str, work: Work, at_ns: int) -> pa.Table:
        table = shown(sql, self._catalog, self._store)
        if table is not None:
            return table
        found = translate(parse(sql), self._catalog, self._store, at_ns, sql)
        return await self._readers.run(found.sql, found.tables, sql, self.timeout_s, work)

    async def _unload(self, unload: Unload, work: Work, query_id: str) -> pa.Table:
        """Writes a result to S3 as the caller, and tells where it is."""
        table = await self._select(unload.select, work, now_ns())
        files = await asyncio.to_thread(exporting.export, table, unload, query_id)
        if work.why:
            raise AwsError("QueryExecutionException", work.why)
        name = f"{unload.folder}{query_id}_{uuid.uuid4()}"
        encryption = {"ServerSideEncryption": "aws:kms" if unload.kms else "AES256"}
        if unload.kms_key:
            encryption["SSEKMSKeyId"] = unload.kms_key
        bodies = {
            **{one.key: one.body for one in files},
            f"{name}_metadata.json": exporting.metadata(table),
            f"{name}_manifest.json": exporting.manifest(files, unload),
        }
        client = await self._context.client("s3")
        try:
            # It is the account's own bucket to which AWS writes.
            await client.get_bucket_acl(Bucket=unload.bucket)
            for key, body in bodies.items():
                await client.put_object(Bucket=unload.bucket, Key=key, Body=body, **encryption)
        except ClientError as error:
            told = error.response["Error"]
            denied = "AccessDenied" in told["Code"]
            raise AwsError(
                "AccessDeniedException" if denied else "ValidationException",
                f"UNLOAD: s3://{unload.bucket}: {told['Message']}",
            ) from error
        location = f"s3://{unload.bucket}/{name}"
        return pa.table({
            "rows": pa.array([table.num_rows], pa.int64()),
            "metadataFile": [f"{location}_metadata.json"],
            "manifestFile": [f"{location}_manifest.json"],
        })  # fmt: skip

    def _continued(self, body: dict[str, Any]) -> tuple[Run, int]:
        query_id, _, first = str(body["NextToken"]).partition("|")
        run = self._runs.get(query_id)
        if run is None or not first.isdecimal():
            raise AwsError("ValidationException", "Invalid or expired NextToken.")
        if run.sql != body.get("QueryString"):
            raise AwsError("ValidationException", "NextToken belongs to another QueryString.")
        return run, int(first)

    def _answer(
        self, run: Run, rows: list[dict[str, Any]], end: int, table: pa.Table | None
    ) -> dict[str, Any]:
        whole = table.num_rows if table is not None else 0
        answer: dict[str, Any] = {
            "QueryId": run.query_id,
            "Rows": rows,
            "ColumnInfo": run.columns,
            "QueryStatus": {
                "ProgressPercentage": 0.0
                if table is None
                else 100.0 * end / whole
                if whole
                else 100.0,
                "CumulativeBytesScanned": 0,
                "CumulativeBytesMetered": 0,
            },
        }
        if table is None or end < whole:
            answer["NextToken"] = f"{run.query_id}|{end}"
        else:
            # The last page; the same ClientToken may ask for it again.
            self._runs.pop(run.query_id, None)
        return answer

    def _keep(self, run: Run) -> None:
        self._runs[run.query_id] = run
        if run.client_token:
            self._by_token[run.client_token] = run
        now = time.time()
        runs = list(
            {id(one): one for one in (*self._runs.values(), *self._by_token.values())}.values()
        )
        size = sum(_bytes_of(one) for one in runs)
        for old in sorted(runs, key=lambda one: one.made_s):
            if old is run:
                continue
            if now - old.made_s > RUN_LIFE_S or len(runs) > MAX_RUNS or size > KEPT_BYTES:
                old.work.stop("The query was given up for newer ones.")
                self._forget(old)
                runs.remove(old)
                size -= _bytes_of(old)

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.query_id, None)
        if run.client_token and self._by_token.get(run.client_token) is run:
            del self._by_token[run.client_token]


def _bytes_of(run: Run) -> int:
    if not run.task.done() or run.task.cancelled() or run.task.exception() is not None:
        return 0
    return int(run.task.result().nbytes)


def _page(table: pa.Table, first: int, limit: int | None) -> list[dict[str, Any]]:
    """Rows from `first` on: at most `limit`, and no more than a page holds, but one at least."""
    rows: list[dict[str, Any]] = []
    size = 0
    end = table.num_rows if limit is None else min(table.num_rows, first + limit)
    for start in range(first, end, _STEP_ROWS):
        for row in rows_of(table.slice(start, min(_STEP_ROWS, end - start))):
            size += len(orjson.dumps(row))
            if rows and size > PAGE_BYTES:
                return rows
            rows.append(row)
    return rows


def _plain_columns(tree: exp.Expression) -> dict[str, dict[str, str]]:
    """Where columns come from that a query takes as they are from its only table."""
    select = tree if isinstance(tree, exp.Select) else None
    source = select.args.get("from_") if select else None
    if select is None or source is None or not isinstance(source.this, exp.Table):
        return {}
    if select.args.get("joins"):
        return {}
    where = {"DatabaseName": source.this.db, "TableName": source.this.name}
    return {one.name: where for one in select.expressions if isinstance(one, exp.Column)}
