"""Reports in S3, of what went wrong after a call was answered.

Records that the magnetic store rejected, and runs of scheduled queries that failed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.seams import CloudContext
    from localcloud.timestream.catalog import Table

log = logging.getLogger(__name__)


def checked(properties: dict[str, Any]) -> dict[str, Any]:
    """A table's MagneticStoreWriteProperties.

    Raises:
        AwsError: ValidationException: a location of reports without a bucket.
    """
    location = properties.get("MagneticStoreRejectedDataLocation")
    if location is not None and not (location.get("S3Configuration") or {}).get("BucketName"):
        raise AwsError(
            "ValidationException",
            "MagneticStoreRejectedDataLocation needs an S3Configuration with a BucketName.",
        )
    return properties


class Reports:
    """Writes reports beside the calls that they are of."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, table: Table, rejected: list[dict[str, Any]]) -> None:
        """Begins a report of a table's rejected records."""
        location = table.magnetic_writes["MagneticStoreRejectedDataLocation"]["S3Configuration"]
        now = dt.datetime.now(dt.UTC)
        key = (
            f"{self._context.account_id}/{self._context.region}/{table.database}/{table.name}/"
            f"{now:%Y/%m/%d/%H}/{now:%M%S}-{uuid.uuid4().hex}.json"
        )
        body = {
            "DatabaseName": table.database,
            "TableName": table.name,
            "ReportTime": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
            "RejectedRecords": rejected,
        }
        task = asyncio.create_task(self._write(location, key, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, location: dict[str, Any], key: str, body: dict[str, Any]) -> None:
        try:
            await self.put(location, key, body)
        except Exception:
            # As on AWS nobody waits for it: the log is where it shows.
            log.exception("a report of rejected records could not be written")

    async def put(self, location: dict[str, Any], key: str, body: dict[str, Any]) -> str:
        """Writes a report at an S3Configuration; returns its whole key."""
        prefix = str(location.get("ObjectKeyPrefix") or "").strip("/")
        whole = f"{prefix}/{key}" if prefix else key
        encryption: dict[str, Any] = {}
        if location.get("EncryptionOption") == "SSE_KMS":
            encryption["ServerSideEncryption"] = "aws:kms"
            if location.get("KmsKeyId"):
                encryption["SSEKMSKeyId"] = location["KmsKeyId"]
        elif location.get("EncryptionOption") == "SSE_S3":
            encryption["ServerSideEncryption"] = "AES256"
        client = await self._context.client("s3")
        await client.put_object(
            Bucket=location["BucketName"], Key=whole, Body=orjson.dumps(body),
            ContentType="application/json", **encryption,
        )  # fmt: skip
        return whole

    async def close(self) -> None:
        """Ends those that are under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
