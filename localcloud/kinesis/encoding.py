"""Base64 as the JSON protocol carries data; the streams themselves keep bytes."""

from __future__ import annotations

import binascii
from typing import Any

from localcloud.http import AwsError

decode = binascii.a2b_base64
_encode = binascii.b2a_base64


def text_of(data: bytes) -> str:
    """The base64 text of data."""
    return _encode(data, newline=False).decode("ascii")


def bytes_of(data: Any) -> bytes:
    """The bytes that a request's Data stands for: base64 text in JSON, bytes in CBOR.

    Raises:
        AwsError: SerializationException.
    """
    if isinstance(data, bytes):
        return data
    try:
        return decode(data, strict_mode=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise AwsError("SerializationException", f"Data is not base64: {error}") from error
