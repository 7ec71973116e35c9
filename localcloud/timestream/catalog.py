"""Databases and tables: the control plane of Timestream."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.durable import moment
from localcloud.http import AwsError
from localcloud.timestream import partition, reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.seams import CloudContext
    from localcloud.timestream.store import Store

_NAME = re.compile(r"^[a-zA-Z0-9_.-]{3,256}$")
DEFAULT_MEMORY_HOURS = 6
DEFAULT_MAGNETIC_DAYS = 73_000
MAX_MEMORY_HOURS = 8766


@dataclass(slots=True)
class Table:
    """A table's settings. `storage` is its name inside the store."""

    database: str
    name: str
    arn: str
    storage: str
    created_s: float
    memory_hours: int = DEFAULT_MEMORY_HOURS
    magnetic_days: int = DEFAULT_MAGNETIC_DAYS
    magnetic_writes: dict[str, Any] = field(
        default_factory=lambda: {"EnableMagneticStoreWrites": False}
    )
    schema: dict[str, Any] | None = None
    updated_s: float = 0.0
    made: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The API's Table structure."""
        return {
            "Arn": self.arn,
            "TableName": self.name,
            "DatabaseName": self.database,
            "TableStatus": "ACTIVE",
            "RetentionProperties": {
                "MemoryStoreRetentionPeriodInHours": self.memory_hours,
                "MagneticStoreRetentionPeriodInDays": self.magnetic_days,
            },
            "CreationTime": self.created_s,
            "LastUpdatedTime": self.updated_s or self.created_s,
            "MagneticStoreWriteProperties": self.magnetic_writes,
            "Schema": self.schema or {"CompositePartitionKey": [{"Type": "MEASURE"}]},
        }


@dataclass(slots=True)
class Database:
    """A database and its tables by name."""

    name: str
    arn: str
    key_id: str
    created_s: float
    updated_s: float
    tables: dict[str, Table] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The API's Database structure."""
        return {
            "Arn": self.arn,
            "DatabaseName": self.name,
            "TableCount": len(self.tables),
            "KmsKeyId": self.key_id,
            "CreationTime": self.created_s,
            "LastUpdatedTime": self.updated_s,
        }


class Catalog:
    """All databases, and the operations on them."""

    def __init__(self, context: CloudContext, store: Store) -> None:
        self._context = context
        self._store = store
        self.databases: dict[str, Database] = {}
        self._serial = 0

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "CreateDatabase": self._create_database,
            "DescribeDatabase": lambda body: {
                "Database": self.database(body["DatabaseName"]).describe()
            },
            "UpdateDatabase": self._update_database,
            "DeleteDatabase": self._delete_database,
            "ListDatabases": self._list_databases,
            "CreateTable": self._create_table,
            "DescribeTable": lambda body: {
                "Table": self.table(body["DatabaseName"], body["TableName"]).describe()
            },
            "UpdateTable": self._update_table,
            "DeleteTable": self._delete_table,
            "ListTables": self._list_tables,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    def database(self, name: str) -> Database:
        """The database of that name.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        if name not in self.databases:
            raise AwsError("ResourceNotFoundException", f"The database {name} does not exist.")
        return self.databases[name]

    def table(self, database: str, name: str) -> Table:
        """The table of that name.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        tables = self.database(database).tables
        if name not in tables:
            raise AwsError("ResourceNotFoundException", f"The table {name} does not exist.")
        return tables[name]

    def tables(self) -> list[Table]:
        """Every table."""
        return [table for database in self.databases.values() for table in database.tables.values()]

    def _create_database(self, body: dict[str, Any]) -> dict[str, Any]:
        name = _checked(body["DatabaseName"], "database")
        if name in self.databases:
            raise AwsError("ConflictException", f"The database {name} already exists.")
        now = moment.now_s()
        key = body.get("KmsKeyId") or self._arn("kms", "key/alias-aws-timestream")
        database = Database(name, self._arn("timestream", f"database/{name}"), key, now, now)
        database.tags.update(_tags(body))
        self.databases[name] = database
        return {"Database": database.describe()}

    def _update_database(self, body: dict[str, Any]) -> dict[str, Any]:
        database = self.database(body["DatabaseName"])
        database.key_id, database.updated_s = body["KmsKeyId"], moment.now_s()
        return {"Database": database.describe()}

    def _delete_database(self, body: dict[str, Any]) -> dict[str, Any]:
        database = self.database(body["DatabaseName"])
        if database.tables:
            raise AwsError(
                "ValidationException",
                f"Cannot delete database {database.name} because it has tables.",
            )
        del self.databases[database.name]
        return {}

    def _list_databases(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [self.databases[name].describe() for name in sorted(self.databases)]
        return _page(body, "Databases", found)

    def _create_table(self, body: dict[str, Any]) -> dict[str, Any]:
        database = self.database(body["DatabaseName"])
        name = _checked(body["TableName"], "table")
        if name in database.tables:
            raise AwsError("ConflictException", f"The table {name} already exists.")
        self._serial += 1
        table = Table(
            database.name,
            name,
            f"{database.arn}/table/{name}",
            f"table_{self._serial}",
            moment.now_s(),
        )
        _apply(table, body)
        table.tags.update(_tags(body))
        self._store.create(table.storage)
        database.tables[name] = table
        return {"Table": table.describe()}

    def _update_table(self, body: dict[str, Any]) -> dict[str, Any]:
        table = self.table(body["DatabaseName"], body["TableName"])
        _apply(table, body)
        table.updated_s = moment.now_s()
        return {"Table": table.describe()}

    def _delete_table(self, body: dict[str, Any]) -> dict[str, Any]:
        table = self.table(body["DatabaseName"], body["TableName"])
        self._store.drop(table.storage)
        del self.databases[table.database].tables[table.name]
        return {}

    def _list_tables(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("DatabaseName")
        chosen = [self.database(name)] if name else list(self.databases.values())
        found = [
            database.tables[table].describe()
            for database in chosen
            for table in sorted(database.tables)
        ]
        return _page(body, "Tables", found)

    def _tag(self, body: dict[str, Any]) -> dict[str, Any]:
        self._by_arn(body["ResourceARN"]).tags.update(_tags(body))
        return {}

    def _untag(self, body: dict[str, Any]) -> dict[str, Any]:
        resource = self._by_arn(body["ResourceARN"])
        for key in body["TagKeys"]:
            resource.tags.pop(key, None)
        return {}

    def _list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = self._by_arn(body["ResourceARN"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}

    def _by_arn(self, resource: str) -> Database | Table:
        for database in self.databases.values():
            if database.arn == resource:
                return database
            for table in database.tables.values():
                if table.arn == resource:
                    return table
        raise AwsError("ResourceNotFoundException", f"The resource {resource} does not exist.")

    def _arn(self, service: str, resource: str) -> str:
        return arn(service, self._context.region, self._context.account_id, resource)


def _checked(name: Any, kind: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationException",
            f"The {kind} name {name!r} is not 3 to 256 letters, digits, '_', '.' or '-'.",
        )
    return name


def _apply(table: Table, body: dict[str, Any]) -> None:
    retention = body.get("RetentionProperties")
    if retention:
        hours = retention["MemoryStoreRetentionPeriodInHours"]
        days = retention["MagneticStoreRetentionPeriodInDays"]
        if not 1 <= hours <= MAX_MEMORY_HOURS or not 1 <= days <= DEFAULT_MAGNETIC_DAYS:
            raise AwsError(
                "ValidationException",
                f"Retention must be 1 to {MAX_MEMORY_HOURS} hours in the memory store and 1 to "
                f"{DEFAULT_MAGNETIC_DAYS} days in the magnetic store.",
            )
        table.memory_hours, table.magnetic_days = hours, days
    if body.get("MagneticStoreWriteProperties"):
        table.magnetic_writes = reports.checked(body["MagneticStoreWriteProperties"])
    if body.get("Schema"):
        table.schema = partition.checked(body["Schema"], table.schema, new=not table.made)
    table.made = True


def _tags(body: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in body.get("Tags") or ()}


def _page(body: dict[str, Any], name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    token = body.get("NextToken") or "0"
    if not (token.isascii() and token.isdecimal()):
        raise AwsError("ValidationException", "Invalid NextToken.")
    first, limit = int(token), int(body.get("MaxResults") or 20)
    answer: dict[str, Any] = {name: found[first : first + limit]}
    if len(found) > first + limit:
        answer["NextToken"] = str(first + limit)
    return answer
