"""ARNs of the local cloud."""

from __future__ import annotations


def arn(service: str, region: str, account_id: str, resource: str) -> str:
    """`arn:aws:service:region:account:resource`."""
    return f"arn:aws:{service}:{region}:{account_id}:{resource}"
