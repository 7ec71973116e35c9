"""The time series: a Timestream database and its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.bindings import aws

if TYPE_CHECKING:
    from stack.constructs.scope import Scope


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """The database and the table."""

    database: Any
    table: Any


def time_series(scope: Scope, key: Any) -> TimeSeries:
    """Makes both, encrypted and with the configured retention."""
    database = aws.timestreamwrite_database.TimestreamwriteDatabase(
        scope.stack,
        "timeseries-database",
        database_name=scope.names("telemetry"),
        kms_key_id=key.arn,
    )
    module = aws.timestreamwrite_table
    table = module.TimestreamwriteTable(
        scope.stack,
        "timeseries-table",
        database_name=database.database_name,
        table_name=scope.names("readings"),
        retention_properties=module.TimestreamwriteTableRetentionProperties(
            memory_store_retention_period_in_hours=scope.config.timeseries_memory_hours,
            magnetic_store_retention_period_in_days=scope.config.timeseries_magnetic_days,
        ),
    )
    return TimeSeries(database, table)
