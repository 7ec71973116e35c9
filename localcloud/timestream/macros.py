"""What DuckDB has under no name of its own, as macros of it.

Names begin with two underscores, which no query can call: `functions.py` maps Timestream's names to
these. A macro with several forms is chosen by the types of its arguments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.timestream import numeric

if TYPE_CHECKING:
    import duckdb

MAX_SEQUENCE = 10_000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_UNIT_NS = (
    "CASE regexp_extract(x, '[a-z]+$') WHEN 'ns' THEN 1 WHEN 'us' THEN 1000 WHEN 'ms' THEN 1000000 "
    "WHEN 's' THEN 1000000000 WHEN 'm' THEN 60000000000 WHEN 'h' THEN 3600000000000 "
    "WHEN 'd' THEN 86400000000000 ELSE error('duration is not valid: ' || x) END"
)

# Trino rounds halves away from zero, and takes of a text nothing but a sign and digits. A cast that must
# fail gets a text that fails: error() would be no part of a try.
_WHOLE = {"BIGINT": "bigint", "INTEGER": "integer", "SMALLINT": "smallint", "TINYINT": "tinyint"}
_CASTS = "".join(
    f"""__to_{name}(x) AS CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT') THEN CAST(round(x::DOUBLE) AS {kind})
  WHEN typeof(x) <> 'VARCHAR' OR regexp_full_match(x::VARCHAR, '[+-]?[0-9]+') THEN CAST(x AS {kind})
  ELSE CAST(x::VARCHAR || '?' AS {kind}) END;
"""
    for kind, name in _WHOLE.items()
)

_MACROS = f"""
{_CASTS}__to_boolean(x) AS CASE WHEN typeof(x) <> 'VARCHAR' THEN CAST(x AS BOOLEAN)
  WHEN lower(x::VARCHAR) IN ('true', 't', '1') THEN true
  WHEN lower(x::VARCHAR) IN ('false', 'f', '0') THEN false
  ELSE CAST(x::VARCHAR || '?' AS BOOLEAN) END;
__substr(s, a) AS CASE WHEN a = 0 THEN '' ELSE substring(s, a) END;
__substr_of(s, a, n) AS CASE WHEN a = 0 THEN '' ELSE substring(s, a, n) END;
__contains(x, e) AS CASE WHEN list_contains(x, e) THEN true WHEN x IS NOT NULL AND e IS NOT NULL
  AND len(x) = list_count(x) THEN false END;
__rows(x) AS CASE WHEN typeof(x) LIKE 'STRUCT(%)[]' THEN x
  ELSE error('UNNEST without names of columns takes a time series or an array of rows with names') END;
__divide(a, b) AS CASE WHEN typeof(a // b) IN ('DOUBLE', 'FLOAT') THEN cast_to_type("/"(a, b), a // b)
  ELSE a // b END;
__sign(x BIGINT) AS CAST(sign(x) AS BIGINT), (x DOUBLE) AS CASE WHEN isnan(x) THEN x ELSE CAST(sign(x) AS DOUBLE) END;
__ceil(x BIGINT) AS x, (x DOUBLE) AS ceil(x);
__floor(x BIGINT) AS x, (x DOUBLE) AS floor(x);
__from_base(s, r) AS list_reduce(list_transform(string_split(lower(s), ''),
  lambda c: CAST(strpos('{_DIGITS}', c) - 1 AS BIGINT)), lambda a, b: a * r + b);
__reverse(x VARCHAR) AS reverse(x), (x) AS list_reverse(x);
__concat(a VARCHAR, b VARCHAR) AS a || b, (a, b) AS list_concat(a, b);
__split(s, d, n) AS CASE WHEN len(string_split(s, d)) <= n THEN string_split(s, d)
  ELSE list_concat(string_split(s, d)[1:n - 1], [array_to_string(string_split(s, d)[n:], d)]) END;
__split_part(s, d, n) AS CASE WHEN n <= len(string_split(s, d)) THEN split_part(s, d, n) END;
__strpos(s, p, n) AS CASE WHEN len(string_split(s, p)) > n
  THEN CAST(length(array_to_string(string_split(s, p)[1:n], p)) + 1 AS BIGINT)
  WHEN s IS NOT NULL THEN 0 END;
__distinct(x) AS list_filter(x, lambda e, i: list_position(x, e) = i);
__intersect(a, b) AS __distinct(list_filter(a, lambda e: list_contains(b, e)));
__except(a, b) AS __distinct(list_filter(a, lambda e: NOT list_contains(b, e)));
__array_max(x) AS CASE WHEN len(x) = list_count(x) THEN list_max(x) END;
__array_min(x) AS CASE WHEN len(x) = list_count(x) THEN list_min(x) END;
__position(x, e) AS CASE WHEN x IS NOT NULL THEN coalesce(list_position(x, e), 0) END;
__slice(x, f, n) AS list_slice(x, f, CASE WHEN f < 0 AND f + n - 1 >= 0 THEN -1 ELSE f + n - 1 END);
__subscript(x, i) AS CASE WHEN i < 1 OR i > len(x)
  THEN error('Array subscript out of bounds: ' || i) ELSE x[i] END;
__bounded(n) AS CASE WHEN n > {MAX_SEQUENCE}
  THEN error('result of sequence function must not have more than {MAX_SEQUENCE} entries') ELSE n END;
__series(a, n, s) AS list_transform(range(__bounded(n)), lambda k: a + k * s);
__steps(a, b, s) AS __series(a, greatest((b - a) // s + 1, 0), s);
__sequence(a BIGINT, b BIGINT) AS __series(a, abs(b - a) + 1, CASE WHEN b >= a THEN 1 ELSE -1 END),
  (a BIGINT, b BIGINT, s BIGINT) AS __steps(a, b, s),
  (a TIMESTAMP_NS, b TIMESTAMP_NS, s INTERVAL) AS list_transform(
    __steps(epoch_ns(a), epoch_ns(b), epoch_ns(s)), lambda t: make_timestamp_ns(t));
__repeat(e, n) AS list_transform(range(n), lambda k: e);
__shuffle(x) AS list_select(x, list_grade_up(list_transform(x, lambda e, i: hash(random() + i))));
__regexp_extract(s, p, g) AS CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p, g) END;
__bit_count(x, n) AS CAST(bit_count(CASE WHEN n >= 64 THEN CAST(x AS BIGINT) ELSE x & ((1 << n) - 1) END) AS BIGINT);
__shift(x DATE, n) AS CAST(x + to_microseconds(n // 1000) AS DATE),
  (x TIMESTAMP_NS, n) AS make_timestamp_ns(epoch_ns(x) + CAST(n AS BIGINT));
__months(x DATE, n) AS CAST(x + to_months(CAST(n AS INTEGER)) AS DATE), (x TIMESTAMP_NS, n) AS
  make_timestamp_ns(epoch_ns(x + to_months(CAST(n AS INTEGER))) + epoch_ns(x) % 1000);
__trunc_time(u, x DATE) AS CAST(date_trunc(u, x) AS DATE),
  (u, x TIMESTAMP_NS) AS CAST(date_trunc(u, x) AS TIMESTAMP_NS);
__duration_ns(x) AS CAST(CAST(regexp_extract(x, '^[0-9.]+') AS DOUBLE) * {_UNIT_NS} AS BIGINT);
__iso_timestamp(x) AS CASE WHEN regexp_matches(x, 'T.*(Z|[+-][0-9:]+)$')
  THEN make_timestamp_ns(epoch_us(CAST(x AS TIMESTAMPTZ)) * 1000
    + CAST(rpad(regexp_extract(x, '[.][0-9]{{6}}([0-9]{{0,3}})', 1), 3, '0') AS BIGINT))
  ELSE CAST(x AS TIMESTAMP_NS) END;
__to_iso(x DATE) AS strftime(x, '%Y-%m-%d'),
  (x TIMESTAMP_NS) AS strftime(x, '%Y-%m-%dT%H:%M:%S.%n');
__text(x) AS CASE WHEN typeof(x) = 'DOUBLE'
  THEN __double_text(TRY_CAST(CAST(x AS VARCHAR) AS DOUBLE)) WHEN typeof(x) LIKE 'TIMESTAMP%'
  THEN strftime(TRY_CAST(CAST(x AS VARCHAR) AS TIMESTAMP_NS), '%Y-%m-%d %H:%M:%S.%n')
  ELSE CAST(x AS VARCHAR) END;
__times(s) AS list_transform(s, lambda p: epoch_ns(p."time"));
__values(s) AS list_transform(s, lambda p: CAST(p."value" AS DOUBLE));
__rebuilt(t, v) AS list_transform(list_zip(t, v), lambda z: struct_pack("time" := z[1], "value" := z[2]));
__derivative(s, n) AS list_transform(range(2, len(s) + 1), lambda i: struct_pack("time" := s[i]."time",
  "value" := (CAST(s[i]."value" AS DOUBLE) - s[i - 1]."value")
    * n / (epoch_ns(s[i]."time") - epoch_ns(s[i - 1]."time"))));
__rising(s, n) AS list_filter(__derivative(s, n), lambda p: p."value" >= 0);
__integral(s, n) AS CASE WHEN s IS NOT NULL THEN coalesce(list_sum(list_transform(range(2, len(s) + 1),
  lambda i: (CAST(s[i]."value" AS DOUBLE) + s[i - 1]."value") / 2
    * (epoch_ns(s[i]."time") - epoch_ns(s[i - 1]."time")) / n)), CAST(0 AS DOUBLE)) END;
__aligned(a, b) AS CASE WHEN __times(a) = __times(b) THEN true
  ELSE error('the time series must have the same timestamps') END;
__correlate_pearson(a, b) AS CASE WHEN __aligned(a, b) THEN __pearson(__values(a), __values(b)) END;
__correlate_spearman(a, b) AS CASE WHEN __aligned(a, b) THEN __spearman(__values(a), __values(b)) END;
__filled(s, t, v) AS coalesce(list_filter(s, lambda p: p."time" = t)[1]."value", v);
__interpolate_linear(s, t TIMESTAMP_NS) AS __linear(__times(s), __values(s), [epoch_ns(t)])[1],
  (s, t) AS __rebuilt(t, __linear(__times(s), __values(s), list_transform(t, lambda e: epoch_ns(e))));
__interpolate_spline(s, t TIMESTAMP_NS) AS __spline(__times(s), __values(s), [epoch_ns(t)])[1],
  (s, t) AS __rebuilt(t, __spline(__times(s), __values(s), list_transform(t, lambda e: epoch_ns(e))));
__interpolate_locf(s, t TIMESTAMP_NS) AS __locf(__times(s), __values(s), [epoch_ns(t)])[1],
  (s, t) AS __rebuilt(t, __locf(__times(s), __values(s), list_transform(t, lambda e: epoch_ns(e))));
__interpolate_fill(s, t TIMESTAMP_NS, v) AS __filled(s, t, v), (s, t, v) AS
  __rebuilt(t, list_transform(t, lambda e: __filled(s, e, v)));
__distance_km(a, b, c, d) AS 2 * 6371.01 * asin(sqrt(pow(sin(radians(c - a) / 2), 2)
  + cos(radians(a)) * cos(radians(c)) * pow(sin(radians(d - b) / 2), 2)));
"""


# The macros that cast to a type, where DuckDB's cast means something else.
CAST = {**{kind: f"__to_{name}" for kind, name in _WHOLE.items()}, "BOOLEAN": "__to_boolean"}

# Those that DuckDB chooses by type; it must know the types of their arguments when it reads them.
TYPED = frozenset(
    macro.strip().split("(", 1)[0]
    for macro in _MACROS.split(";\n")
    if re.search(r"\), ?\(|,\s+\(", macro)
)


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the macros, and the functions they call, known to DuckDB."""
    numeric.register(connection)
    for macro in _MACROS.split(";\n"):
        if macro.strip():
            connection.execute(f"CREATE MACRO {macro}")
