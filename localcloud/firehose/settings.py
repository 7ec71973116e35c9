"""A destination as the API gives it, checked, and as the engine needs it.

Bounds and defaults follow the Firehose API reference. What the local cloud does not do is refused
by name here, before anything is created.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from dataclasses import dataclass
from typing import Any

from localcloud.firehose import prefix
from localcloud.http import AwsError

MIB = 1024 * 1024
DESTINATION_DEFAULTS: dict[str, Any] = {
    "CompressionFormat": "UNCOMPRESSED",
    "S3BackupMode": "Disabled",
    "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
    "CloudWatchLoggingOptions": {"Enabled": False},
}
EXTENSIONS = {"UNCOMPRESSED": "", "GZIP": ".gz", "ZIP": ".zip"}
_MEMBERS = {
    "RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints", "CompressionFormat",
    "EncryptionConfiguration", "CloudWatchLoggingOptions", "ProcessingConfiguration",
    "S3BackupMode", "S3BackupConfiguration", "DynamicPartitioningConfiguration", "FileExtension",
    "CustomTimeZone", "DataFormatConversionConfiguration",
}  # fmt: skip
_BACKUP_MEMBERS = {
    "RoleARN", "BucketARN", "Prefix", "ErrorOutputPrefix", "BufferingHints", "CompressionFormat",
    "EncryptionConfiguration", "CloudWatchLoggingOptions",
}  # fmt: skip
_PARAMETERS = {
    "Lambda": {
        "LambdaArn", "NumberOfRetries", "RoleArn", "BufferSizeInMBs", "BufferIntervalInSeconds",
    },
    "AppendDelimiterToRecord": {"Delimiter"},
}  # fmt: skip
_FILE_EXTENSION = re.compile(r"(\.[0-9a-z!\-_.*'()]{1,127})?")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}
_MAX_RETRIES = 300


@dataclass(frozen=True, slots=True)
class Output:
    """How objects of one kind are made.

    Attributes:
        bucket: Name of the bucket.
        prefix: Prefix as configured, with its expressions.
        error_prefix: ErrorOutputPrefix as configured; used where `error_type` is given.
        error_type: What `!{firehose:error-output-type}` is; empty for what succeeded.
        max_bytes: Buffered bytes at which an object is written.
        interval_s: Seconds after its first record at which an object is written.
        compression: GZIP, ZIP or UNCOMPRESSED.
        extension: End of the key.
        key_arn: KMS key, or empty.
        zone: Time zone of the times in keys.
        role_arn: Role that writes them.
    """

    bucket: str
    prefix: str
    error_prefix: str
    error_type: str
    max_bytes: int
    interval_s: float
    compression: str
    extension: str
    key_arn: str
    zone: dt.tzinfo
    role_arn: str

    def evaluated_prefix(self, moment: dt.datetime) -> str:
        """The prefix for an object whose oldest record arrived at `moment` (in `zone`)."""
        if self.error_type:
            return prefix.expand_error(self.prefix, self.error_prefix, moment, self.error_type)
        return prefix.expand(self.prefix, moment)


@dataclass(frozen=True, slots=True)
class Transformation:
    """The Lambda processor: which function, how often it is tried, and how records are batched."""

    function_arn: str
    retries: int
    max_bytes: int
    interval_s: float
    role_arn: str


def main_output(destination: dict[str, Any]) -> Output:
    """Where delivered records go."""
    return _output(destination)


def error_output(destination: dict[str, Any]) -> Output:
    """Where records go that could not be transformed."""
    return _output(destination, prefix.PROCESSING_FAILED)


def backup_output(destination: dict[str, Any]) -> Output | None:
    """Where source records go as they came, if they do."""
    if destination["S3BackupMode"] != "Enabled":
        return None
    return _output(destination["S3BackupConfiguration"])


def _output(given: dict[str, Any], error_type: str = "") -> Output:
    hints = given["BufferingHints"]
    encryption = given["EncryptionConfiguration"].get("KMSEncryptionConfig") or {}
    compression = given["CompressionFormat"]
    return Output(
        bucket=given["BucketARN"].rpartition(":")[2],
        prefix=given.get("Prefix") or "",
        error_prefix=given.get("ErrorOutputPrefix") or "",
        error_type=error_type,
        max_bytes=int(hints["SizeInMBs"]) * MIB,
        interval_s=float(hints["IntervalInSeconds"]),
        compression=compression,
        extension=given.get("FileExtension") or EXTENSIONS[compression],
        key_arn=encryption.get("AWSKMSKeyARN", ""),
        zone=_zone(given.get("CustomTimeZone") or "UTC"),
        role_arn=given["RoleARN"],
    )


def delimiter(destination: dict[str, Any]) -> bytes:
    """What is appended to each delivered record."""
    parameters = _processor(destination, "AppendDelimiterToRecord")
    if parameters is None:
        return b""
    text = parameters.get("Delimiter", "\\n")
    return re.sub(r"\\[ntr\\]", lambda match: _ESCAPES[match.group(0)], text).encode()


def transformation(destination: dict[str, Any]) -> Transformation | None:
    """The Lambda processor, if there is one.

    Raises:
        AwsError: InvalidArgumentException for a parameter that is out of bounds.
    """
    parameters = _processor(destination, "Lambda")
    if parameters is None:
        return None
    if "LambdaArn" not in parameters:
        raise invalid("the Lambda processor needs the parameter LambdaArn")
    if parameters["LambdaArn"].split(":")[2:3] != ["lambda"]:
        raise invalid(f"LambdaArn {parameters['LambdaArn']!r} is no ARN of a function")
    return Transformation(
        parameters["LambdaArn"],
        int(_number(parameters, "NumberOfRetries", "3", 0, _MAX_RETRIES)),
        int(_number(parameters, "BufferSizeInMBs", "1", 0.2, 3) * MIB),
        _number(parameters, "BufferIntervalInSeconds", "60", 0, 900),
        parameters.get("RoleArn") or destination["RoleARN"],
    )


def _processor(destination: dict[str, Any], kind: str) -> dict[str, str] | None:
    """Parameters of the processor of a kind, if processing is on and has one."""
    processing = destination.get("ProcessingConfiguration") or {}
    for processor in processing.get("Processors") or () if processing.get("Enabled") else ():
        if processor["Type"] == kind:
            return {
                parameter["ParameterName"]: parameter["ParameterValue"]
                for parameter in processor.get("Parameters") or ()
            }
    return None


def _number(
    parameters: dict[str, str], name: str, default: str, least: float, most: float
) -> float:
    text = parameters.get(name, default)
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise invalid(f"{name} must be a number from {least:g} to {most:g}, not {text!r}")
    return number


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """The destination with its defaults.

    Raises:
        AwsError: InvalidArgumentException for what is out of bounds or not served.
    """
    _only(_MEMBERS, given, "")
    for required in ("RoleARN", "BucketARN"):
        if not given.get(required):
            raise invalid(f"{required} is required")
    for name in ("DynamicPartitioningConfiguration", "DataFormatConversionConfiguration"):
        if (given.get(name) or {}).get("Enabled"):
            raise invalid(f"{name} is not supported locally")
    done = {**DESTINATION_DEFAULTS, **given, "BufferingHints": _hints(given)}
    _check_format(done)
    _check_processors(done)
    prefix.check(done.get("Prefix") or "", done.get("ErrorOutputPrefix") or "")
    if not _FILE_EXTENSION.fullmatch(done.get("FileExtension") or ""):
        raise invalid(f"FileExtension {done['FileExtension']!r} must begin with a period and have "
                      "only 0-9a-z!-_.*'()")  # fmt: skip
    _zone(done.get("CustomTimeZone") or "UTC")
    if done["S3BackupMode"] not in {"Enabled", "Disabled"}:
        raise invalid(f"S3BackupMode {done['S3BackupMode']!r} is neither Enabled nor Disabled")
    if done["S3BackupMode"] == "Enabled":
        done["S3BackupConfiguration"] = _backup(done.get("S3BackupConfiguration") or {})
    return done


def _backup(given: dict[str, Any]) -> dict[str, Any]:
    _only(_BACKUP_MEMBERS, given, "S3BackupConfiguration.")
    for required in ("RoleARN", "BucketARN"):
        if not given.get(required):
            raise invalid(f"S3BackupConfiguration.{required} is required when backup is enabled")
    defaults = {
        name: value for name, value in DESTINATION_DEFAULTS.items() if name != "S3BackupMode"
    }
    done = {**defaults, **given, "BufferingHints": _hints(given)}
    _check_format(done)
    # The guide: the backup's ErrorOutputPrefix is ignored.
    prefix.check(done.get("Prefix") or "", prefix.ERROR_TYPE)
    return done


def _only(members: set[str], given: dict[str, Any], where: str) -> None:
    unknown = sorted(name for name in given if name not in members)
    if unknown:
        raise invalid(f"{where}{unknown[0]} is not supported locally")


def _hints(given: dict[str, Any]) -> dict[str, int]:
    hints = given.get("BufferingHints") or {}
    size, interval = hints.get("SizeInMBs", 5), hints.get("IntervalInSeconds", 300)
    if not 1 <= size <= 128 or not 0 <= interval <= 900:  # noqa: PLR2004 - AWS's bounds
        raise invalid("buffer 1 to 128 MiB and 0 to 900 seconds")
    return {"SizeInMBs": size, "IntervalInSeconds": interval}


def _check_format(done: dict[str, Any]) -> None:
    if done["CompressionFormat"] not in EXTENSIONS:
        raise invalid(f"CompressionFormat {done['CompressionFormat']} is not supported locally")
    options = done["CloudWatchLoggingOptions"] or {}
    if options.get("Enabled") and not (
        options.get("LogGroupName") and options.get("LogStreamName")
    ):
        raise invalid("CloudWatchLoggingOptions need LogGroupName and LogStreamName when enabled")


def _check_processors(done: dict[str, Any]) -> None:
    processing = done.get("ProcessingConfiguration") or {}
    seen: set[str] = set()
    for processor in processing.get("Processors") or () if processing.get("Enabled") else ():
        kind = processor["Type"]
        if kind not in _PARAMETERS:
            raise invalid(f"processor {kind} is not supported locally")
        if kind in seen:
            raise invalid(f"there can be only one processor of type {kind}")
        seen.add(kind)
        for parameter in processor.get("Parameters") or ():
            if parameter["ParameterName"] not in _PARAMETERS[kind]:
                raise invalid(
                    f"parameter {parameter['ParameterName']} of processor {kind} "
                    "is not supported locally"
                )
    transformation(done)


def _zone(name: str) -> dt.tzinfo:
    if not name.isascii() or len(name) > 50:  # noqa: PLR2004 - AWS's bound
        raise invalid(f"CustomTimeZone {name!r} is no time zone")
    if name == "UTC":
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid(f"CustomTimeZone {name!r} is no time zone") from error


def invalid(message: str) -> AwsError:
    """The error for an argument that is wrong or not served."""
    return AwsError("InvalidArgumentException", message)
