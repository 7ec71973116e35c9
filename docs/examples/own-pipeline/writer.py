"""The pipeline's function: payloads of its devices from Kinesis into its table."""

import base64
import datetime as dt
import json
import os
import time

import boto3

table = boto3.client("timestream-write")
queue = boto3.client("sqs")
metrics = boto3.client("cloudwatch")
MOST = 100


def handler(event, _context):
    """Writes a batch; what is no JSON goes to the queue of rejected payloads."""
    readings = []
    for item in event["Records"]:
        payload = base64.b64decode(item["kinesis"]["data"])
        try:
            readings.append(json.loads(payload))
        except ValueError:
            body = payload.decode(errors="replace")
            queue.send_message(QueueUrl=os.environ["REJECTED"], MessageBody=body)
    rows = records(readings)
    for first in range(0, len(rows), MOST):
        table.write_records(
            DatabaseName="plant", TableName="telemetry", Records=rows[first : first + MOST]
        )
    if readings:
        hottest = max(reading["values"]["t"] for reading in readings)
        data = {"MetricName": "Hottest", "Value": hottest, "StorageResolution": 1}
        metrics.put_metric_data(Namespace="Plant", MetricData=[data])


def records(readings):
    """A multi-measure record for each reading."""
    return [record(reading) for reading in readings]


def record(reading):
    """The record of a reading. A batch that comes again writes the same row again."""
    now_ms = int(time.time() * 1000)
    measures = [
        ("msg_no", "BIGINT", reading["n"]),
        ("temp_c", "DOUBLE", reading["values"]["t"]),
        ("rel_humidity", "DOUBLE", reading["values"]["rh"]),
        ("stored_ms", "BIGINT", now_ms),
    ]
    at = dt.datetime.fromisoformat(reading["at"])
    dimensions = {"sensor": reading["id"], "trial": reading["trial"]}
    return {
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        "Time": str(round(at.timestamp() * 1000)),
        "TimeUnit": "MILLISECONDS",
        "Version": now_ms,
        "MeasureName": "telemetry",
        "MeasureValueType": "MULTI",
        "MeasureValues": [
            {"Name": name, "Type": kind, "Value": str(value)} for name, kind, value in measures
        ],
    }
