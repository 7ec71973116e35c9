"""The Timestream API: dispatch of the write and query operations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError, Response, json_response
from localcloud.timestream.account import AccountSettings
from localcloud.timestream.batchload import BatchLoads
from localcloud.timestream.catalog import Catalog
from localcloud.timestream.columns import call_of, members_of
from localcloud.timestream.kept import KIND, KeptTable
from localcloud.timestream.query import QueryEngine
from localcloud.timestream.reports import Reports
from localcloud.timestream.scheduled import ScheduledQueries
from localcloud.timestream.store import NotFlushedError, Store, now_ns
from localcloud.timestream.window import DAY_NS, HOUR_NS
from localcloud.timestream.write import write_call, write_records
from localcloud.validation import check_request

if TYPE_CHECKING:
    from localcloud.http import Request
    from localcloud.seams import CloudContext
    from localcloud.timestream.catalog import Table
    from localcloud.timestream.write import Ingested

log = logging.getLogger(__name__)

NAMESPACE = "AWS/Timestream"
EXPIRE_INTERVAL_S = 60.0
CONTENT_TYPE = "application/x-amz-json-1.0"


class TimestreamService:
    """Timestream for LiveAnalytics, write and query, in memory."""

    signing_names = ("timestream",)

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._store = Store()
        self._catalog = Catalog(context, self._store)
        self._operations = {**self._catalog.operations(), **AccountSettings().operations()}
        self._queries = QueryEngine(context, self._catalog, self._store)
        self._reports = Reports(context)
        self._scheduled = ScheduledQueries(context, self._catalog, self._queries, self._reports)
        self._scheduling = self._scheduled.operations()
        self._loads = BatchLoads(context, self._catalog, self._write, self._reports)
        self._loading = self._loads.operations()
        self._task: asyncio.Task[None] | None = None
        self._kept: dict[str, KeptTable] = {}

    async def restore(self) -> None:
        """Puts the records of all tables back."""
        folder = self._context.folder
        if folder is None:
            return
        names = [table.storage for table in self._catalog.tables()]
        folder.keep_only(KIND, names)
        for name in names:
            kept = self._kept[name] = KeptTable(folder.log(KIND, name))
            await kept.restore(self._store, name)
            self._store.keepers[self._store.tables[name]] = kept

    async def start(self) -> None:
        """Starts the deletion of what retention has ended for."""
        self._task = asyncio.create_task(self._expire())
        self._scheduled.start()

    async def stop(self) -> None:
        """Stops it and closes the store."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._scheduled.stop()
        await self._loads.stop()
        await self._reports.close()
        self._queries.close()
        self._store.close()
        for kept in self._kept.values():
            kept.close()

    def status(self) -> dict[str, Any]:
        """Tables with the records they hold, and those of which DuckDB does not take the rows."""
        tables = {
            f"{table.database}.{table.name}": self._store.tables[table.storage]
            for table in self._catalog.tables()
        }
        return {
            "tables": {name: table.count() for name, table in tables.items()},
            "flushes_failed": self._store.failures,
            "waiting": {
                name: {"rows": table.unflushed(), "why": table.failure}
                for name, table in tables.items()
                if table.failure
            },
            "unsupported": ["QueryCompute of the account settings"],
        }

    def operations(self) -> frozenset[str]:
        """See `Service`."""
        return frozenset(
            {
                *self._operations,
                *self._scheduling,
                *self._loading,
                "WriteRecords",
                "Query",
                "CancelQuery",
                "PrepareQuery",
                "DescribeEndpoints",
            }
        )

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        began = time.perf_counter()
        writes = request.operation == "WriteRecords"
        body = members_of(request) if writes else request.json()
        where = {"Operation": request.operation} if request.operation else {}
        if isinstance(body.get("DatabaseName"), str) and isinstance(body.get("TableName"), str):
            where |= {"DatabaseName": body["DatabaseName"], "TableName": body["TableName"]}
        put = self._context.metrics.put
        try:
            if not writes:
                check_request(request)
            answer = await self._answer(request, body)
        except AwsError as error:
            kind = "UserErrors" if error.status < 500 else "SystemErrors"  # noqa: PLR2004 - HTTP
            put(NAMESPACE, kind, 1, unit="Count", dimensions=where)
            raise
        except KeyError as error:
            raise AwsError("ValidationException", f"{error.args[0]} is required.") from error
        elapsed_ms = (time.perf_counter() - began) * 1000
        put(
            NAMESPACE, "SuccessfulRequestLatency", elapsed_ms, unit="Milliseconds", dimensions=where
        )
        return json_response(answer, content_type=CONTENT_TYPE)

    async def _answer(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        operation = request.operation
        if operation == "WriteRecords":
            try:
                return await self._write_request(request, body)
            except (AttributeError, KeyError, TypeError):
                # Records are read without asking for types first; nothing of them was stored.
                check_request(request)
                raise
        if operation == "Query" or operation in self._loading:
            # What an UNLOAD writes, and what a batch load reads, is asked for as the caller.
            who = self._context.access.who(request)
            with self._context.access.acting(who) if who else contextlib.nullcontext():
                if operation == "Query":
                    return await self._queries.query(body)
                return self._loading[operation](body)
        if operation == "CancelQuery":
            return self._queries.cancel(body)
        if operation == "PrepareQuery":
            return await self._queries.prepare(body)
        if operation == "DescribeEndpoints":
            address = request.headers.get("host", f"{self._context.host}:{self._context.port}")
            # AWS gives a bare host, to which SDKs put https; there is no TLS here, so it is named.
            endpoint = {"Address": f"http://{address}", "CachePeriodInMinutes": 1440}
            return {"Endpoints": [endpoint]}
        if operation in self._scheduling:
            return await self._scheduling[operation](body)
        if "scheduled-query/" in str(body.get("ResourceARN")):
            return self._tag_scheduled(operation, body)
        if operation in self._operations:
            answer: dict[str, Any] = self._operations[operation](body)
            self._keep_tables()
            return answer
        raise AwsError(
            "UnknownOperationException",
            f"Timestream operation {operation or '(none)'} is not served locally",
        )

    def _tag_scheduled(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        tags = self._scheduled.tags(body["ResourceARN"])
        if operation == "TagResource":
            tags.update({tag["Key"]: tag["Value"] for tag in body["Tags"]})
        elif operation == "UntagResource":
            for key in body["TagKeys"]:
                tags.pop(key, None)
        else:
            return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}
        return {}

    def _keep_tables(self) -> None:
        """Begins the logs of tables that were made, and removes those of tables that are gone."""
        folder = self._context.folder
        if folder is None or not self._context.restored.is_set():
            return
        tables = self._store.tables
        for name in tables.keys() - self._kept.keys():
            folder.forget(KIND, name)
            kept = self._kept[name] = KeptTable(folder.log(KIND, name))
            self._store.keepers[tables[name]] = kept
        for name in self._kept.keys() - tables.keys():
            self._kept.pop(name).close()
            folder.forget(KIND, name)

    async def _write_request(self, request: Request, members: dict[str, Any]) -> dict[str, Any]:
        table = await self._table_with_room(members)
        call = call_of(request)
        done = write_call(self._store, table, call) if call is not None else None
        if done is None:
            done = write_records(self._store, table, request.json())
        return await self._written(table, done)

    async def _write(self, body: dict[str, Any]) -> dict[str, Any]:
        table = await self._table_with_room(body)
        return await self._written(table, write_records(self._store, table, body))

    async def _table_with_room(self, members: dict[str, Any]) -> Table:
        table = self._catalog.table(members["DatabaseName"], members["TableName"])
        try:
            await self._store.make_room(table.storage)
        except NotFlushedError as error:
            raise AwsError("InternalServerException", str(error), 500) from error
        return table

    async def _written(self, table: Table, done: Ingested) -> dict[str, Any]:
        kept = self._kept.get(table.storage)
        if kept is not None:
            kept.commit()
        await self._store.flush_if_full(table.storage)
        self._context.metrics.put(
            NAMESPACE,
            "NumberOfRecords",
            done.memory + done.magnetic,
            unit="Count",
            dimensions={
                "Operation": "WriteRecords",
                "DatabaseName": table.database,
                "TableName": table.name,
            },
        )
        if done.reported:
            self._reports.add(table, done.reported)
        if done.rejected:
            raise AwsError(
                "RejectedRecordsException",
                "One or more records have been rejected. See RejectedRecords for details.",
                419,
                RejectedRecords=done.rejected,
            )
        total = done.memory + done.magnetic
        return {
            "RecordsIngested": {
                "Total": total,
                "MemoryStore": done.memory,
                "MagneticStore": done.magnetic,
            }
        }

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            for table in self._catalog.tables():
                kept_ns = table.memory_hours * HOUR_NS + table.magnetic_days * DAY_NS
                try:
                    await self._store.expire(table.storage, now_ns() - kept_ns)
                    if table.storage in self._kept:
                        self._kept[table.storage].expire(now_ns() - kept_ns)
                except Exception:
                    log.exception("expiry of %s failed", table.name)
