"""Timestream's functions, each with what DuckDB calls for it.

A template takes its arguments as {0}, {1} and so on, or all of them as {args}. A function that is
called with numbers of arguments that mean different things has a template for each number.
A template that begins with `~` is no plain call, and so takes neither OVER nor FILTER.
"""

from __future__ import annotations

Templates = dict[int, str]
ANY = -1  # any number of arguments


def _same(*names: str, arguments: int = 1) -> dict[str, Templates]:
    """Functions that DuckDB has under the same name and with the same meaning."""
    places = ", ".join(f"{{{place}}}" for place in range(arguments))
    return {name: {arguments: f"{name}({places})"} for name in names}


def _null_if_any_is(name: str) -> Templates:
    two = f"CASE WHEN {{0}} IS NOT NULL AND {{1}} IS NOT NULL THEN {name}({{0}}, {{1}}) END"
    nested = "{args}"
    return {2: two, ANY: f"~{name}:{nested}"}


MATHEMATICAL: dict[str, Templates] = {
    **_same(
        "abs", "cbrt", "degrees", "exp", "ln", "log2", "log10", "radians", "sqrt",
        "acos", "asin", "atan", "cos", "cosh", "sin", "sinh", "tan", "tanh",
    ),
    **_same("atan2", arguments=2),
    "ceil": {1: "__ceil({0})"},
    "ceiling": {1: "__ceil({0})"},
    "e": {0: "exp(CAST(1 AS DOUBLE))"},
    "floor": {1: "__floor({0})"},
    "from_base": {2: "__from_base({0}, {1})"},
    "infinity": {0: "CAST('Infinity' AS DOUBLE)"},
    "is_finite": {1: "isfinite(CAST({0} AS DOUBLE))"},
    "is_infinite": {1: "isinf(CAST({0} AS DOUBLE))"},
    "is_nan": {1: "isnan(CAST({0} AS DOUBLE))"},
    "log": {2: "log({0}, {1})"},
    "mod": {2: "(({0}) % ({1}))"},
    "nan": {0: "CAST('NaN' AS DOUBLE)"},
    "pi": {0: "pi()"},
    "pow": {2: "pow({0}, {1})"},
    "power": {2: "pow({0}, {1})"},
    "rand": {0: "random()", 1: "CAST(floor(random() * {0}) AS BIGINT)"},
    "random": {0: "random()", 1: "CAST(floor(random() * {0}) AS BIGINT)"},
    "round": {1: "round({0})", 2: "round({0}, CAST({1} AS INTEGER))"},
    "sign": {1: "__sign({0})"},
    "to_base": {2: "lower(to_base({0}, CAST({1} AS INTEGER)))"},
    "truncate": {1: "trunc({0})"},
}  # fmt: skip

STRING: dict[str, Templates] = {
    **_same("length", "lower", "upper", "ltrim", "rtrim", "trim"),
    **_same("replace", "translate", arguments=3),
    "replace": {2: "replace({0}, {1}, '')", 3: "replace({0}, {1}, {2})"},
    "chr": {1: "chr(CAST({0} AS INTEGER))"},
    "codepoint": {1: "unicode({0})"},
    "concat": {2: "__concat({0}, {1})", ANY: "~fold:__concat"},
    "concat_ws": {ANY: "concat_ws({args})"},
    "hamming_distance": {2: "CAST(hamming({0}, {1}) AS BIGINT)"},
    "levenshtein_distance": {2: "CAST(levenshtein({0}, {1}) AS BIGINT)"},
    "lpad": {3: "lpad({0}, CAST({1} AS INTEGER), {2})"},
    "rpad": {3: "rpad({0}, CAST({1} AS INTEGER), {2})"},
    "reverse": {1: "__reverse({0})"},
    "split": {2: "string_split({0}, {1})", 3: "__split({0}, {1}, {2})"},
    "split_part": {3: "__split_part({0}, {1}, {2})"},
    "starts_with": {2: "starts_with({0}, {1})"},
    "strpos": {2: "strpos({0}, {1})", 3: "__strpos({0}, {1}, {2})"},
    "substr": {2: "__substr({0}, {1})", 3: "__substr_of({0}, {1}, {2})"},
}

REGULAR_EXPRESSION: dict[str, Templates] = {
    "regexp_count": {2: "CAST(len(regexp_extract_all({0}, {1})) AS BIGINT)"},
    "regexp_extract": {
        2: "__regexp_extract({0}, {1}, 0)", 3: "__regexp_extract({0}, {1}, {2})",
    },
    "regexp_extract_all": {
        2: "regexp_extract_all({0}, {1})", 3: "regexp_extract_all({0}, {1}, {2})",
    },
    "regexp_like": {2: "regexp_matches({0}, {1})"},
    # Java writes a group as $1, RE2 as \1.
    "regexp_replace": {
        2: "regexp_replace({0}, {1}, '', 'g')",
        3: r"regexp_replace({0}, {1}, regexp_replace({2}, '\$(\d)', '\\\1', 'g'), 'g')",
    },
    "regexp_split": {2: "string_split_regex({0}, {1})"},
}  # fmt: skip

ARRAY: dict[str, Templates] = {
    "array_distinct": {1: "__distinct({0})"},
    "array_except": {2: "__except({0}, {1})"},
    "array_intersect": {2: "__intersect({0}, {1})"},
    "array_join": {
        2: "array_to_string({0}, {1})",
        3: "array_to_string(list_transform({0}, lambda e: coalesce(CAST(e AS VARCHAR), {2})), {1})",
    },
    "array_max": {1: "__array_max({0})"},
    "array_min": {1: "__array_min({0})"},
    "array_position": {2: "CAST(__position({0}, {1}) AS BIGINT)"},
    "array_remove": {2: "list_filter({0}, lambda e: e IS DISTINCT FROM {1})"},
    "array_sort": {1: "list_sort({0})"},
    "array_union": {2: "__distinct(list_concat({0}, {1}))"},
    "arrays_overlap": {2: "list_has_any({0}, {1})"},
    "cardinality": {1: "CAST(len({0}) AS BIGINT)"},
    "contains": {2: "__contains({0}, {1})"},
    "element_at": {2: "({0})[{1}]"},
    "flatten": {1: "flatten({0})"},
    "repeat": {2: "__repeat({0}, {1})"},
    "sequence": {2: "__sequence({0}, {1})", 3: "__sequence({0}, {1}, {2})"},
    "shuffle": {1: "__shuffle({0})"},
    "slice": {3: "__slice({0}, {1}, {2})"},
    "zip": {2: "list_zip({args})", 3: "list_zip({args})", 4: "list_zip({args})"},
    # With a function
    "all_match": {2: "(len(list_filter({0}, {1})) = len({0}))"},
    "any_match": {2: "(len(list_filter({0}, {1})) > 0)"},
    "filter": {2: "list_filter({0}, {1})"},
    "none_match": {2: "(len(list_filter({0}, {1})) = 0)"},
    "reduce": {4: "list_transform([list_reduce({0}, {2}, {1})], {3})[1]"},
    "transform": {2: "list_transform({0}, {1})"},
}

BITWISE: dict[str, Templates] = {
    "bit_count": {2: "__bit_count({0}, {1})"},
    "bitwise_and": {2: "(({0}) & ({1}))"},
    "bitwise_left_shift": {2: "(({0}) << ({1}))"},
    "bitwise_not": {1: "(~({0}))"},
    "bitwise_or": {2: "(({0}) | ({1}))"},
    "bitwise_right_shift": {2: "(({0}) >> ({1}))"},
    "bitwise_xor": {2: "xor({0}, {1})"},
}

CONDITIONAL: dict[str, Templates] = {
    "coalesce": {ANY: "coalesce({args})"},
    "greatest": _null_if_any_is("greatest"),
    "least": _null_if_any_is("least"),
    "nullif": {2: "nullif({0}, {1})"},
    "try": {1: "try({0})"},
    "row": {ANY: "row({args})"},
}

_ISO = {
    "year": "year", "quarter": "quarter", "month": "month", "week": "weekofyear", "day": "day",
    "hour": "hour", "minute": "minute", "second": "second", "day_of_month": "day",
    "day_of_week": "isodow", "dow": "isodow", "day_of_year": "dayofyear", "doy": "dayofyear",
    "week_of_year": "weekofyear", "year_of_week": "isoyear", "yow": "isoyear",
}  # fmt: skip

# Those that take a duration, a unit or the time of the query are in `times.py`.
DATE: dict[str, Templates] = {
    **{name: {1: f"{duck}({{0}})"} for name, duck in _ISO.items()},
    "millisecond": {1: "(epoch_ns({0}) // 1000000 % 1000)"},
    "nanosecond": {1: "(epoch_ns({0}) % 1000000000)"},
    "timezone_hour": {1: "CASE WHEN {0} IS NOT NULL THEN CAST(0 AS BIGINT) END"},
    "timezone_minute": {1: "CASE WHEN {0} IS NOT NULL THEN CAST(0 AS BIGINT) END"},
    "current_timezone": {0: "'UTC'"},
    "date": {1: "CAST({0} AS DATE)"},
    "from_iso8601_date": {1: "CAST({0} AS DATE)"},
    "from_iso8601_timestamp": {1: "__iso_timestamp({0})"},
    "from_milliseconds": {1: "make_timestamp_ns(CAST({0} AS BIGINT) * 1000000)"},
    "from_nanoseconds": {1: "make_timestamp_ns(CAST({0} AS BIGINT))"},
    "from_unixtime": {1: "make_timestamp_ns(CAST(round({0} * 1000) AS BIGINT) * 1000000)"},
    "last_day_of_month": {1: "last_day({0})"},
    "to_iso8601": {1: "__to_iso({0})"},
    "to_unixtime": {1: "(epoch_ns({0}) / CAST(1000000000 AS DOUBLE))"},
}

AGGREGATE: dict[str, Templates] = {
    **_same("avg", "bool_and", "bool_or", "count_if", "stddev", "stddev_pop", "stddev_samp", "sum",
            "var_pop", "var_samp", "variance", "kurtosis"),
    **_same("corr", "covar_pop", "covar_samp", "regr_intercept", "regr_slope", arguments=2),
    "approx_distinct": {1: "approx_count_distinct({0})", 2: "approx_count_distinct({0})"},
    "approx_percentile": {2: "approx_quantile({0}, {1})"},
    "arbitrary": {1: "any_value({0})"},
    "any_value": {1: "any_value({0})"},
    "array_agg": {1: "array_agg({0})"},
    "bitwise_and_agg": {1: "bit_and({0})"},
    "bitwise_or_agg": {1: "bit_or({0})"},
    "count": {0: "count(*)", 1: "count({0})"},
    "every": {1: "bool_and({0})"},
    "geometric_mean": {1: "geomean({0})"},
    "max": {1: "max({0})", 2: "max({0}, {1})"},
    "max_by": {2: "max_by({0}, {1})", 3: "max_by({0}, {1}, {2})"},
    "min": {1: "min({0})", 2: "min({0}, {1})"},
    "min_by": {2: "min_by({0}, {1})", 3: "min_by({0}, {1}, {2})"},
    # DuckDB's is of a sample, Timestream's of the whole.
    "skewness": {
        1: "~(skewness({0}) * (count({0}) - 2) / sqrt(CAST(count({0}) AS DOUBLE) * (count({0}) - 1)))"
    },
    "create_time_series": {
        2: 'list(struct_pack("time" := {0}, "value" := {1}) ORDER BY {0})',
    },
}  # fmt: skip

WINDOW: dict[str, Templates] = {
    **{name: {0: f"{name}()"} for name in
       ("cume_dist", "dense_rank", "percent_rank", "rank", "row_number")},
    **_same("first_value", "last_value", "ntile"),
    **_same("nth_value", arguments=2),
    **{name: {1: f"{name}({{0}})", 2: f"{name}({{0}}, {{1}})", 3: f"{name}({{0}}, {{1}}, {{2}})"}
       for name in ("lag", "lead")},
}  # fmt: skip

TIME_SERIES: dict[str, Templates] = {
    "interpolate_linear": {2: "__interpolate_linear({0}, {1})"},
    "interpolate_locf": {2: "__interpolate_locf({0}, {1})"},
    "interpolate_spline_cubic": {2: "__interpolate_spline({0}, {1})"},
    "interpolate_fill": {3: "__interpolate_fill({0}, {1}, {2})"},
    "correlate_pearson": {2: "__correlate_pearson({0}, {1})"},
    "correlate_spearman": {2: "__correlate_spearman({0}, {1})"},
}

_URL = r"^(?:([^:/?#]+):)?(?://([^/?#:]*)(?::(\d+))?)?([^?#]*)(?:\?([^#]*))?(?:#(.*))?"


def _url(group: int) -> Templates:
    return {1: f"regexp_extract({{0}}, '{_URL}', {group})"}


OTHER: dict[str, Templates] = {
    "json_array_contains": {2: "list_contains(CAST({0} AS JSON[]), to_json({1}))"},
    "json_array_get": {2: "json_extract(CAST({0} AS JSON), CAST({1} AS BIGINT))"},
    "json_array_length": {1: "CAST(json_array_length({0}) AS BIGINT)"},
    "json_extract": {2: "json_extract({0}, {1})"},
    "json_extract_scalar": {2: "json_extract_string({0}, {1})"},
    "json_format": {1: "CAST({0} AS VARCHAR)"},
    "json_parse": {1: "CAST({0} AS JSON)"},
    "json_size": {
        2: "CAST(CASE json_type({0}, {1}) WHEN 'ARRAY' THEN json_array_length({0}, {1}) "
           "WHEN 'OBJECT' THEN len(json_keys({0}, {1})) ELSE 0 END AS BIGINT)",
    },
    "url_decode": {1: "url_decode({0})"},
    "url_encode": {1: "url_encode({0})"},
    "url_extract_protocol": _url(1),
    "url_extract_host": _url(2),
    "url_extract_port": {1: f"TRY_CAST(regexp_extract({{0}}, '{_URL}', 3) AS BIGINT)"},
    "url_extract_path": _url(4),
    "url_extract_query": _url(5),
    "url_extract_fragment": _url(6),
    "url_extract_parameter": {
        2: "url_decode(__regexp_extract({0}, '[?&]' || {1} || '=([^&#]*)', 1))",
    },
    "great_circle_distance": {4: "__distance_km({0}, {1}, {2}, {3})"},
}  # fmt: skip

FUNCTIONS: dict[str, Templates] = {
    **MATHEMATICAL, **STRING, **REGULAR_EXPRESSION, **ARRAY, **BITWISE, **CONDITIONAL, **DATE,
    **AGGREGATE, **WINDOW, **TIME_SERIES, **OTHER,
}  # fmt: skip
GATHERING = frozenset({*AGGREGATE, *WINDOW})
