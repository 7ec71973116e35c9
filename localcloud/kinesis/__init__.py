"""Kinesis Data Streams: shards in memory, AWS's routing, limits and error codes."""
