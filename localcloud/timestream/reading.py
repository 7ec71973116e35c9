"""Running DuckDB's SQL for queries: each on a connection of its own, bounded in time and size."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from localcloud.http import AwsError
from localcloud.timestream.dialect import place
from localcloud.timestream.store import NotFlushedError

if TYPE_CHECKING:
    from localcloud.timestream.store import Store

THREADS = 4
BATCH_ROWS = 20_000
RESULT_BYTES = 512_000_000


@dataclass(eq=False)
class Work:
    """One query on its way; `stop` ends it from any thread, before it runs or while it does."""

    why: str = ""
    _connection: duckdb.DuckDBPyConnection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, why: str) -> None:
        """Ends it."""
        with self._lock:
            self.why = self.why or why
            if self._connection is not None:
                self._connection.interrupt()

    def run(self, connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
        """The result of `sql`.

        Raises:
            AwsError: QueryExecutionException: it was ended, or has more than `RESULT_BYTES`.
            duckdb.Error: DuckDB refused it.
        """
        with self._lock:
            if self.why:
                raise AwsError("QueryExecutionException", self.why)
            self._connection = connection
        try:
            batches, size = [], 0
            reader = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
            for batch in reader:
                batches.append(batch)
                size += batch.nbytes
                if size > RESULT_BYTES:
                    raise AwsError(
                        "ValidationException",
                        f"The result of the query exceeds {RESULT_BYTES // 1_000_000} MB.",
                    )
                if self.why:
                    raise AwsError("QueryExecutionException", self.why)
            return pa.Table.from_batches(batches, reader.schema)
        except duckdb.InterruptException as error:
            raise AwsError("QueryExecutionException", self.why or "interrupted") from error
        finally:
            with self._lock:
                self._connection = None


class Readers:
    """Threads that run queries, each with a connection to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, "timestream-query")
        self._free: queue.SimpleQueue[duckdb.DuckDBPyConnection] = queue.SimpleQueue()
        self._connections = [store.reader() for _ in range(THREADS)]
        for connection in self._connections:
            self._free.put(connection)

    async def run(
        self, sql: str, tables: list[str], text: str, timeout_s: float, work: Work
    ) -> pa.Table:
        """The result of `sql` over the stored tables.

        Args:
            sql: DuckDB's SQL.
            tables: The stored tables that it reads.
            text: The query as it was written, for positions in errors.
            timeout_s: After how long it is ended.
            work: By which it can be ended.

        Raises:
            AwsError: QueryExecutionException where it was ended, InternalServerException where rows
                that were written are not there to be read yet, ValidationException otherwise.
        """
        loop = asyncio.get_running_loop()
        timer = loop.call_later(
            timeout_s, work.stop, f"The query took longer than {timeout_s:g} s."
        )
        try:
            await self._store.flush(tables)
            return await loop.run_in_executor(self._threads, self._run, sql, text, work)
        except NotFlushedError as error:
            raise AwsError("InternalServerException", str(error), 500) from error
        finally:
            timer.cancel()

    def _run(self, sql: str, text: str, work: Work) -> pa.Table:
        connection = self._free.get()
        try:
            # A result that is given up half-way would hold up the next on the same connection.
            with connection.cursor() as own:
                return work.run(own, sql)
        except duckdb.Error as error:
            raise told(error, text) from error
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Ends the threads."""
        for connection in self._connections:
            connection.interrupt()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()


_TELLING: tuple[tuple[str, str], ...] = (
    (r'Referenced column "(?P<at>[^"]+)" (?:was )?not found', "Column '{at}' does not exist"),
    (r'column named "(?P<at>[^"]+)"', "Column '{at}' cannot be resolved"),
    (r'Referenced table "(?P<at>[^"]+)" not found', "Table '{at}' is not in the FROM clause"),
    (r'Could not find key "(?P<at>[^"]+)"', "Field '{at}' does not exist"),
    (r'column "(?P<at>[^"]+)" must appear in the GROUP BY',
     "'{at}' must be an aggregate expression or appear in GROUP BY clause"),
    (r"Division by zero", "Division by zero"),
    (r"(?P<at>UNNEST) without names of columns (?P<takes>.*)",
     "{at} without names of columns {takes}"),
    *(
        (rf"Could not convert string '(?P<text>.*?)\??' to {kind}", f"Cannot cast '{{text}}' to {name}")
        for kind, name in (("INT64", "bigint"), ("INT32", "integer"), ("INT16", "smallint"),
                           ("INT8", "tinyint"), ("BOOL", "boolean"), ("DOUBLE", "double"))
    ),
    (r"No function matches the given name and argument types '(?P<at>[^(]+)\((?P<of>.*?)\)'",
     "Unexpected parameters ({of}) for function {at}"),
)  # fmt: skip


def told(error: duckdb.Error, text: str) -> AwsError:
    """What DuckDB says of a query, in Timestream's words where it has some, with the position."""
    says = re.sub(r"^[A-Z]\w+( \w+)* Error: ", "", str(error).split("\n", 1)[0])
    if isinstance(error, duckdb.OutOfMemoryException):
        return AwsError("QueryExecutionException", "The query exceeds the memory for queries.")
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return AwsError("InternalServerException", says, 500)
    for pattern, words in _TELLING:
        found = re.search(pattern, says)
        if found is None:
            continue
        groups = {name: value.lower() if name == "of" else value
                  for name, value in found.groupdict().items()}  # fmt: skip
        where = ""
        if "at" in groups:
            written = re.search(rf"\b{re.escape(groups['at'].strip('_'))}\b", text, re.IGNORECASE)
            where = f"{place(text, written.start())}: " if written else ""
        return AwsError("ValidationException", where + words.format(**groups))
    return AwsError("ValidationException", says)
