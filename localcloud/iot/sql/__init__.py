"""The SQL of topic rules, as far as AWS documents it and as it is listed in docs/mqtt.md."""

from __future__ import annotations

from localcloud.iot.sql.parse import SqlError, Statement, parse
from localcloud.iot.sql.template import Template

__all__ = ["SqlError", "Statement", "Template", "parse"]
