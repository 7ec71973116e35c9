"""Topics and topic filters: what they may be, and which match.

Limits are those of "AWS IoT Core message broker and protocol limits and quotas".
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_TOPIC_BYTES = 256
MAX_SLASHES = 7
BASIC_INGEST = re.compile(r"^\$aws/rules/([A-Za-z0-9_]+)/(.+)$", re.DOTALL)
# Of certificates, of a template: what devices are provisioned by.
PROVISIONING = re.compile(
    r"^\$aws/(?:certificates/(create|create-from-csr)|"
    r"provisioning-templates/([0-9A-Za-z_-]{1,36})/provision)/(json|cbor)$"
)


def topic_fault(topic: str) -> str | None:
    """What is wrong with the topic of a message; None where it may be published to."""
    if not topic:
        return "a topic is empty"
    if "+" in topic or "#" in topic:
        return "a topic that is published to has wildcards"
    ingest = BASIC_INGEST.match(topic)
    if ingest is not None:
        return _size_fault(ingest.group(2))
    if topic.startswith("$"):
        return f"nothing may be published to {topic.split('/', 2)[0]} but $aws/rules/RULE/TOPIC"
    return _size_fault(topic)


def filter_fault(topic: str) -> str | None:
    """What is wrong with the filter of a subscription; None where there is nothing."""
    if not topic:
        return "a topic filter is empty"
    if topic.startswith("$share/"):
        return "shared subscriptions are not served"
    levels = topic.split("/")
    for place, level in enumerate(levels):
        if ("+" in level and level != "+") or ("#" in level and level != "#"):
            return "a wildcard stands for a whole level"
        if level == "#" and place != len(levels) - 1:
            return "# stands at the end"
    return _size_fault(topic)


def _size_fault(topic: str) -> str | None:
    if len(topic.encode()) > MAX_TOPIC_BYTES:
        return f"a topic has at most {MAX_TOPIC_BYTES} bytes"
    if topic.count("/") > MAX_SLASHES:
        return f"a topic has at most {MAX_SLASHES} slashes"
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter is about a topic."""
    if "+" not in topic_filter and "#" not in topic_filter:
        return topic_filter == topic
    return _matches(topic_filter, topic)


@lru_cache(maxsize=65536)
def _matches(topic_filter: str, topic: str) -> bool:
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(levels) or level not in {"+", levels[place]}:
            return False
    return len(wanted) == len(levels)
