"""WriteRecords requests as bytes, made once from readings instead of by botocore from dicts.

botocore validates and serializes every member of every record of a call against its model, which
costs several times what all else costs that is done for a reading. Records have one shape here, so
their JSON is put together from parts; botocore still discovers the endpoint, signs the very bytes,
keeps connections, retries and parses the answer.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .readings import Reading

# The least that passes botocore's validation of a call; the real records replace it.
_PLACEHOLDER: tuple[dict[str, Any], ...] = ({},)


class RecordWriter:
    """WriteRecords calls of one table.

    Args:
        client: A boto3 `timestream-write` client.
        database: Name of the database.
        table: Name of the table.
    """

    def __init__(self, client: Any, database: str, table: str) -> None:
        self._client = client
        self._database = database
        self._table = table
        self._head = f'{{"DatabaseName":{quoted(database)},"TableName":{quoted(table)},'
        self._current = threading.local()
        client.meta.events.register("before-call.timestream-write.WriteRecords", self._replace_body)

    def write(self, records: Sequence[str], run: str, processed_ms: int) -> None:
        """Writes records of one run, `record`'s text each.

        Raises:
            ClientError: as `write_records` of the client does.
            BotoCoreError: likewise.
        """
        # A later attempt has a higher version and replaces what an earlier one wrote.
        self._current.body = (
            f'{self._head}"CommonAttributes":{{"Dimensions":[{_dimension("run", run)}],'
            f'"MeasureName":"reading","MeasureValueType":"MULTI","TimeUnit":"MILLISECONDS",'
            f'"Version":{processed_ms}}},"Records":[{",".join(records)}]}}'
        ).encode()
        try:
            self._client.write_records(
                DatabaseName=self._database, TableName=self._table, Records=_PLACEHOLDER
            )
        finally:
            self._current.body = None

    def _replace_body(self, params: dict[str, Any], **_: Any) -> None:
        if body := getattr(self._current, "body", None):
            params["body"] = body


def record(reading: Reading, arrived_ms: int, processed_ms: int) -> str:
    """A reading as a multi-measure record without its run, which the whole call has in common."""
    measures = ",".join(
        [f'{_measure(name)}{float(value)!r}"}}' for name, value in reading.signals.items()]
    )
    return (
        f'{{"Dimensions":{_dimensions(reading.device, reading.kind, reading.site)},'
        f'"Time":"{reading.ts}","MeasureValues":['
        f'{{"Name":"seq","Type":"BIGINT","Value":"{reading.seq}"}},'
        f'{{"Name":"arrived_ms","Type":"BIGINT","Value":"{arrived_ms}"}},'
        f'{{"Name":"processed_ms","Type":"BIGINT","Value":"{processed_ms}"}},'
        f"{measures}]}}"
    )


@lru_cache(maxsize=50_000)
def _dimensions(device: str, kind: str, site: str) -> str:
    named = (("device", device), ("class", kind), ("site", site))
    return f"[{','.join([_dimension(name, value) for name, value in named])}]"


def _dimension(name: str, value: str) -> str:
    return f'{{"Name":"{name}","Value":{quoted(value)}}}'


@lru_cache(maxsize=4096)
def _measure(name: str) -> str:
    # The name was checked: it has nothing to escape.
    return f'{{"Name":"{name}","Type":"DOUBLE","Value":"'
