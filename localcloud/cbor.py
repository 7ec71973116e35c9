"""CBOR 1.1, as AWS's SDKs for Java speak it to services whose protocol is JSON.

A timestamp is tag 1 over *milliseconds*, unlike RFC 8949's seconds and the JSON protocol's; inside
the cloud timestamps are epoch seconds in either case, so that services need not know.
"""

from __future__ import annotations

from typing import Any

import cbor2

CONTENT_TYPE = "application/x-amz-cbor-1.1"
_EPOCH = 1
# Members that are timestamps and do not end in Timestamp.
_TIMESTAMPS = {"StartedAt", "EndedAt", "EarliestAllowedEndAt"}


def is_cbor(content_type: str) -> bool:
    """Whether a content type is that of this protocol."""
    return content_type.startswith("application/x-amz-cbor")


def loads(body: bytes) -> Any:
    """A request's value: blobs are bytes, timestamps epoch seconds.

    Raises:
        ValueError: it is no CBOR.
    """
    try:
        return cbor2.loads(body, semantic_decoders={_EPOCH: _seconds}, max_depth=32)
    except (cbor2.CBORDecodeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def dumps(value: Any) -> bytes:
    """An answer's bytes; members that are None are left out."""
    return cbor2.dumps(_marked(value))


def _seconds(milliseconds: Any, _immutable: bool) -> float:  # noqa: FBT001 - cbor2's signature
    return float(milliseconds) / 1000


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: cbor2.CBORTag(_EPOCH, round(member * 1000))
            if (key.endswith("Timestamp") or key in _TIMESTAMPS)
            else _marked(member)
            for key, member in value.items()
            if member is not None
        }
    if isinstance(value, list):
        return [_marked(member) for member in value]
    return value
