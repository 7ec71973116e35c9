"""Expressions of Timestream's SQL with what they must be, worked out by hand or with math and numpy.

By function, as the table in docs/timestream-sql.md names them. A text is the exact text form of a
scalar; a float is compared as a number; a list is an array, a tuple a row, and a list of
(time, value) pairs in `Series` a time series. `FROM` names of rows stand behind `|`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Series(list[tuple[str, Any]]):
    """Points of a time series."""


def at(second: float) -> str:
    """A second after the epoch, in the text form of a TIMESTAMP."""
    whole, rest = divmod(round(second * 1000), 1000)
    minutes, seconds = divmod(whole, 60)
    return f"1970-01-01 00:{minutes:02d}:{seconds:02d}.{rest:03d}000000"


T = "TIMESTAMP '2024-05-01 12:34:56.123456789'"  # a Wednesday, day 122 of the year, week 18
D = "DATE '2024-05-01'"
FOUR = "|(VALUES 1, 2, 3, 4) AS t(c)"
GAP = "|(VALUES 1, NULL, 3) AS t(c)"
BOOLS = "|(VALUES true, true, false) AS t(c)"
PAIRS = "|(VALUES (1.0, 2.0), (2.0, 3.0), (3.0, 7.0)) AS t(x, y)"
NAMED = "|(VALUES ('a', 3), ('b', 1), ('c', 2)) AS t(k, v)"
# A time series of (0 s, 1), (10 s, 3), (20 s, 2), and one of twice the values.
POINTS = "|(VALUES (0, 1.0), (20, 2.0), (10, 3.0)) AS t(s, v)"
S = "create_time_series(from_milliseconds(s * 1000), v)"
DOUBLED = "create_time_series(from_milliseconds(s * 1000), v * 2)"
TURNED = "create_time_series(from_milliseconds(s * 1000), -v)"
X, Y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 7.0])
SLOPE, INTERCEPT = np.polyfit(X, Y, 1)
SKEWED = np.array([1.0, 2.0, 4.0])
OVER = "OVER (ORDER BY t.c)"

SCALARS: dict[str, list[tuple[str, Any]]] = {
    # Comparison and conditional
    "between": [("3 BETWEEN 2 AND 6", "true"), ("7 NOT BETWEEN 2 AND 6", "true")],
    "is null": [("NULL IS NULL", "true"), ("1 IS NOT NULL", "true")],
    "is distinct from": [("1 IS DISTINCT FROM NULL", "true"), ("NULL IS NOT DISTINCT FROM NULL", "true")],
    "greatest": [("greatest(1, 3, 2)", "3"), ("greatest(1, NULL)", None)],
    "least": [("least('b', 'a')", "a"), ("least(4, 3, 5)", "3")],
    "all": [("5 > ALL (VALUES 3, 4)", "true")],
    "any": [("4 = ANY (VALUES 3, 4)", "true"), ("5 = ANY (VALUES 3, 4)", "false")],
    "some": [("4 < SOME (VALUES 3, 5)", "true")],
    "like": [("'abc' LIKE 'a_c'", "true"), ("'a%c' LIKE 'a!%c' ESCAPE '!'", "true")],
    "in": [("2 IN (1, 2)", "true"), ("3 NOT IN (1, 2)", "true")],
    "case": [("CASE WHEN 1 > 2 THEN 'a' ELSE 'b' END", "b"), ("CASE 2 WHEN 2 THEN 'two' END", "two")],
    "if": [("if(2 > 1, 'yes', 'no')", "yes"), ("if(1 > 2, 'yes')", None)],
    "coalesce": [("coalesce(NULL, NULL, 5)", "5")],
    "nullif": [("nullif(3, 3)", None), ("nullif(3, 4)", "3")],
    "try": [("try(1 / 0)", None), ("try(4 / 2)", "2")],
    "cast": [
        ("CAST('12' AS bigint)", "12"), ("CAST(2 AS double)", "2.0"), ("CAST(1.0E7 AS varchar)", "1.0E7"),
        (f"CAST({T} AS varchar)", "2024-05-01 12:34:56.123456789"), (f"CAST({T} AS date)", "2024-05-01"),
        ("CAST(ROW(1, 'x') AS ROW(a BIGINT, b VARCHAR))", ("1", "x")),
        ("CAST(ARRAY[1, 2] AS ARRAY(varchar))", ["1", "2"]),
        ("CAST(2.5 AS bigint)", "3"), ("CAST(-2.5 AS integer)", "-3"),
        ("CAST(9007199254740993 AS bigint)", "9007199254740993"),
        ("CAST('f' AS boolean)", "false"), ("CAST(NULL AS bigint)", None),
    ],
    "try_cast": [
        ("try_cast('x' AS bigint)", None), ("try_cast('7' AS bigint)", "7"),
        ("try_cast('1.5' AS bigint)", None), ("try_cast('yes' AS boolean)", None),
    ],
    # Mathematical
    "/": [
        ("7 / 2", "3"), ("-7 / 2", "-3"), ("7 / 2.0", "3.5"), ("1.0 / 0", "Infinity"), ("-1 / 0.0", "-Infinity"),
        ("0 / 0.0", "NaN"), ("CAST(-1 AS real) / 0", "-Infinity"), ("try(1.0 / 0)", "Infinity"),
        ("c / 0|(VALUES -1.5) AS t(c)", "-Infinity"), ("c / d|(VALUES (0.0, 0)) AS t(c, d)", "NaN"),
    ],
    "%": [("7 % 3", "1"), ("-7.5 % 2", "-1.5"), ("7.5 % 0", "NaN"), ("c % 0|(VALUES 1.5) AS t(c)", "NaN")],
    "abs": [("abs(-3)", "3"), ("abs(-2.5)", "2.5")],
    "cbrt": [("cbrt(27.0)", 3.0)],
    "ceil": [("ceil(20.1)", "21.0")],
    "ceiling": [("ceiling(-20.1)", "-20.0")],
    "degrees": [("degrees(pi())", 180.0)],
    "e": [("e()", math.e)],
    "exp": [("exp(2.0)", math.exp(2))],
    "floor": [("floor(-20.1)", "-21.0")],
    "from_base": [("from_base('ff', 16)", "255"), ("from_base('101', 2)", "5")],
    "ln": [("ln(e())", 1.0)],
    "log": [("log(2, 8)", 3.0)],
    "log2": [("log2(8.0)", 3.0)],
    "log10": [("log10(1000.0)", 3.0)],
    "mod": [("mod(7, 3)", "1"), ("mod(-7, 3)", "-1"), ("mod(5.0, 0.0)", "NaN")],
    "pi": [("pi()", math.pi)],
    "pow": [("pow(2, 10)", "1024.0")],
    "power": [("power(2.0, -1.0)", "0.5")],
    "radians": [("radians(180.0)", math.pi)],
    "rand": [("rand() < 1.0", "true")],
    "random": [("random() >= 0.0", "true"), ("random(5) BETWEEN 0 AND 4", "true")],
    "round": [("round(2.5)", "3.0"), ("round(2.345, 2)", 2.35), ("round(-1.6)", "-2.0")],
    "sign": [("sign(-7)", "-1"), ("sign(0.25)", "1.0"), ("sign(nan())", "NaN"), ("sign(-1 / 0.0)", "-1.0")],
    "sqrt": [("sqrt(2.0)", math.sqrt(2))],
    "to_base": [("to_base(255, 16)", "ff")],
    "truncate": [("truncate(-2.7)", "-2.0")],
    "acos": [("acos(0.5)", math.acos(0.5))],
    "asin": [("asin(0.5)", math.asin(0.5))],
    "atan": [("atan(0.5)", math.atan(0.5))],
    "atan2": [("atan2(1.0, 2.0)", math.atan2(1, 2))],
    "cos": [("cos(1.0)", math.cos(1))],
    "cosh": [("cosh(1.0)", math.cosh(1))],
    "sin": [("sin(1.0)", math.sin(1))],
    "sinh": [("sinh(1.0)", math.sinh(1))],
    "tan": [("tan(1.0)", math.tan(1))],
    "tanh": [("tanh(1.0)", math.tanh(1))],
    "infinity": [("-infinity()", "-Infinity"), ("infinity() = 1 / 0.0", "true")],
    "is_finite": [("is_finite(1.0)", "true"), ("is_finite(infinity())", "false"), ("is_finite(0 / 0.0)", "false")],
    "is_infinite": [("is_infinite(infinity())", "true"), ("is_infinite(-1 / 0.0)", "true")],
    "is_nan": [("is_nan(nan())", "true"), ("is_nan(1.0)", "false"), ("is_nan(0.0 / 0)", "true")],
    "nan": [("nan()", "NaN"), ("CAST(nan() AS varchar)", "NaN"), ("ARRAY[nan(), 1 / 0.0]", ["NaN", "Infinity"])],
    # String
    "||": [("'a' || 'b' || 'c'", "abc"), ("'a' || NULL", None)],
    "chr": [("chr(65)", "A")],
    "codepoint": [("codepoint('A')", "65")],
    "concat": [("concat('a', 'b', 'c')", "abc"), ("concat(ARRAY[1], ARRAY[2, 3])", ["1", "2", "3"])],
    "concat_ws": [("concat_ws('-', 'a', 'b')", "a-b")],
    "hamming_distance": [("hamming_distance('karolin', 'kathrin')", "3")],
    "length": [("length('hello')", "5")],
    "levenshtein_distance": [("levenshtein_distance('kitten', 'sitting')", "3")],
    "lower": [("lower('AbC')", "abc")],
    "lpad": [("lpad('7', 3, '0')", "007"), ("lpad('abcd', 2, 'x')", "ab")],
    "ltrim": [("ltrim('  a ')", "a ")],
    "position": [("position('b' IN 'abc')", "2")],
    "replace": [("replace('abcabc', 'b', 'x')", "axcaxc"), ("replace('abcabc', 'b')", "acac")],
    "reverse": [("reverse('abc')", "cba"), ("reverse(ARRAY[1, 2])", ["2", "1"])],
    "rpad": [("rpad('7', 3, '0')", "700")],
    "rtrim": [("rtrim(' a  ')", " a")],
    "split": [("split('a,b,c', ',')", ["a", "b", "c"]), ("split('a,b,c', ',', 2)", ["a", "b,c"])],
    "split_part": [("split_part('a,b,c', ',', 2)", "b"), ("split_part('a,b', ',', 3)", None)],
    "starts_with": [("starts_with('abc', 'ab')", "true")],
    "strpos": [("strpos('abcabc', 'c')", "3"), ("strpos('abcabc', 'c', 2)", "6"), ("strpos('a', 'x')", "0")],
    "substr": [("substr('hello', 2)", "ello"), ("substr('hello', 2, 3)", "ell"), ("substr('hello', -2)", "lo"),
               ("substr('hello', 0)", ""), ("substr('hello', 0, 2)", "")],
    "translate": [("translate('abcd', 'ab', 'xy')", "xycd")],
    "trim": [("trim('  a ')", "a"), ("trim(LEADING 'x' FROM 'xxa')", "a")],
    "upper": [("upper('abc')", "ABC")],
    # Array
    "[]": [("ARRAY[4, 5][2]", "5"), ("ARRAY['a'] || ARRAY['b']", ["a", "b"])],
    "array_distinct": [("array_distinct(ARRAY[3, 1, 3, 1])", ["3", "1"])],
    "array_except": [("array_except(ARRAY[1, 2, 3, 1], ARRAY[2])", ["1", "3"])],
    "array_intersect": [("array_intersect(ARRAY[1, 2, 2, 3], ARRAY[3, 2])", ["2", "3"])],
    "array_join": [("array_join(ARRAY[1, 2], '-')", "1-2"), ("array_join(ARRAY['a', NULL], '-', '?')", "a-?")],
    "array_max": [("array_max(ARRAY[1, 5, 3])", "5"), ("array_max(ARRAY[1, NULL])", None)],
    "array_min": [("array_min(ARRAY[4, 2, 3])", "2")],
    "array_position": [("array_position(ARRAY[5, 6], 6)", "2"), ("array_position(ARRAY[5], 1)", "0")],
    "array_remove": [("array_remove(ARRAY[1, 2, 1], 1)", ["2"])],
    "array_sort": [("array_sort(ARRAY[3, NULL, 1])", ["1", "3", None])],
    "array_union": [("array_union(ARRAY[1, 2], ARRAY[2, 3])", ["1", "2", "3"])],
    "arrays_overlap": [("arrays_overlap(ARRAY[1, 2], ARRAY[2, 3])", "true")],
    "cardinality": [("cardinality(ARRAY[7, 7, 7])", "3")],
    "contains": [("contains(ARRAY[1, 2], 2)", "true"), ("contains(ARRAY[1, 2], 3)", "false"),
                 ("contains(ARRAY[1, NULL], 1)", "true"), ("contains(ARRAY[1, NULL], 2)", None)],
    "element_at": [("element_at(ARRAY[7, 8], -1)", "8"), ("element_at(ARRAY[7], 4)", None)],
    "flatten": [("flatten(ARRAY[ARRAY[1], ARRAY[2, 3]])", ["1", "2", "3"])],
    "repeat": [("repeat('a', 3)", ["a", "a", "a"])],
    "sequence": [
        ("sequence(1, 4)", ["1", "2", "3", "4"]), ("sequence(3, 1)", ["3", "2", "1"]),
        ("sequence(1, 10, 4)", ["1", "5", "9"]),
        ("sequence(from_milliseconds(0), from_milliseconds(5000), 2s)", [at(0), at(2), at(4)]),
    ],
    "shuffle": [("array_sort(shuffle(ARRAY[3, 1, 2]))", ["1", "2", "3"])],
    "slice": [("slice(ARRAY[1, 2, 3, 4], 2, 2)", ["2", "3"]), ("slice(ARRAY[1, 2, 3], -2, 2)", ["2", "3"])],
    "zip": [("zip(ARRAY[1, 2], ARRAY['a', 'b'])", [("1", "a"), ("2", "b")]),
            ("zip(ARRAY[1], ARRAY['a', 'b'])", [("1", "a"), (None, "b")])],
    "filter": [
        ("filter(ARRAY[5, -6, 7], x -> x > 0)", ["5", "7"]),
        (f"filter({S}, x -> x.value > 1.5){POINTS}", Series([(at(10), "3.0"), (at(20), "2.0")])),
        (f"filter({S}, x -> x.time < from_milliseconds(5000)){POINTS}", Series([(at(0), "1.0")])),
    ],
    "transform": [
        ("transform(ARRAY[1, 2], x -> x * 10)", ["10", "20"]),
        (f"transform({S}, x -> x.value + 1){POINTS}", ["2.0", "4.0", "3.0"]),
    ],
    "reduce": [
        ("reduce(ARRAY[1, 2, 3], 0, (s, x) -> s + x, s -> s * 2)", "12"),
        (f"reduce({S}, 0.0, (a, x) -> a + x.value * x.value, a -> a){POINTS}", "14.0"),
    ],
    "any_match": [("any_match(ARRAY[1, 2], x -> x > 1)", "true")],
    "all_match": [("all_match(ARRAY[1, 2], x -> x > 1)", "false")],
    "none_match": [("none_match(ARRAY[1, 2], x -> x > 2)", "true")],
    "row": [("ROW(1, 'a')", ("1", "a"))],
    # Bitwise
    "bit_count": [("bit_count(9, 64)", "2"), ("bit_count(-7, 64)", "62"), ("bit_count(-7, 8)", "6")],
    "bitwise_and": [("bitwise_and(12, 7)", "4")],
    "bitwise_not": [("bitwise_not(12)", "-13")],
    "bitwise_or": [("bitwise_or(12, 7)", "15")],
    "bitwise_xor": [("bitwise_xor(12, 7)", "11")],
    "bitwise_left_shift": [("bitwise_left_shift(1, 4)", "16")],
    "bitwise_right_shift": [("bitwise_right_shift(16, 3)", "2")],
    # Regular expressions
    "regexp_count": [("regexp_count('1a 2b', '[0-9]')", "2")],
    "regexp_extract": [
        (r"regexp_extract('1a 2b 14m', '\d+')", "1"), (r"regexp_extract('1a 2b', '(\d+)([a-z]+)', 2)", "a"),
        (r"regexp_extract('abc', '\d')", None),
    ],
    "regexp_extract_all": [
        (r"regexp_extract_all('1a 2b 14m', '\d+')", ["1", "2", "14"]),
        (r"regexp_extract_all('1a 2b', '(\d+)([a-z]+)', 2)", ["a", "b"]),
    ],
    "regexp_like": [(r"regexp_like('1a 2b', '\d+b')", "true"), ("regexp_like('abc', '^b')", "false")],
    "regexp_replace": [
        (r"regexp_replace('1a 2b', '\d+[ab] ')", "2b"),
        (r"regexp_replace('1a 2b', '(\d+)([ab])', '3c$2')", "3ca 3cb"),
    ],
    "regexp_split": [(r"regexp_split('1a2b3', '[ab]')", ["1", "2", "3"])],
    # Date and time
    "current_date": [("current_date = date(now())", "true")],
    "current_time": [("current_time = localtime", "true")],
    "current_timestamp": [("current_timestamp = now()", "true")],
    "current_timezone": [("current_timezone()", "UTC")],
    "now": [("now() BETWEEN TIMESTAMP '2024-01-01 00:00:00' AND TIMESTAMP '2200-01-01 00:00:00'", "true")],
    "localtime": [("localtime = current_time", "true")],
    "localtimestamp": [("localtimestamp = now()", "true")],
    "date": [("date('2024-05-01')", "2024-05-01"), (f"date({T})", "2024-05-01")],
    "last_day_of_month": [(f"last_day_of_month({T})", "2024-05-31")],
    "from_iso8601_timestamp": [
        ("from_iso8601_timestamp('2024-05-01T12:00:00')", "2024-05-01 12:00:00.000000000"),
        ("from_iso8601_timestamp('2024-05-01T12:00:00+02:00')", "2024-05-01 10:00:00.000000000"),
        ("from_iso8601_timestamp('2024-05-01T12:00:00.123456789Z')", "2024-05-01 12:00:00.123456789"),
    ],
    "from_iso8601_date": [("from_iso8601_date('2024-05-01')", "2024-05-01")],
    "to_iso8601": [(f"to_iso8601({T})", "2024-05-01T12:34:56.123456789"), (f"to_iso8601({D})", "2024-05-01")],
    "from_milliseconds": [("from_milliseconds(1500)", at(1.5))],
    "from_nanoseconds": [("from_nanoseconds(7)", "1970-01-01 00:00:00.000000007")],
    "from_unixtime": [("from_unixtime(2.25)", at(2.25))],
    "to_milliseconds": [("to_milliseconds(from_milliseconds(1500))", "1500"), ("to_milliseconds(2m)", "120000")],
    "to_nanoseconds": [("to_nanoseconds(from_nanoseconds(7))", "7"), ("to_nanoseconds(3us)", "3000")],
    "to_unixtime": [("to_unixtime(from_milliseconds(1500))", "1.5")],
    "date_trunc": [
        (f"date_trunc('hour', {T})", "2024-05-01 12:00:00.000000000"),
        (f"date_trunc('month', {T})", "2024-05-01 00:00:00.000000000"),
        (f"date_trunc('week', {T})", "2024-04-29 00:00:00.000000000"),
    ],
    "interval": [
        ("INTERVAL '2' day", "2 00:00:00.000000000"), ("INTERVAL '14' month", "1-2"),
        (f"{T} + INTERVAL '1' hour", "2024-05-01 13:34:56.123456789"),
    ],
    "+": [("from_milliseconds(0) + 90s", at(90)), ("1h + 30m", "0 01:30:00.000000000"),
          (f"{D} + 1d", "2024-05-02")],
    "-": [("from_milliseconds(2000) - 1500ms", at(0.5)), (f"{T} - 1ns", "2024-05-01 12:34:56.123456788"),
          ("from_milliseconds(90000) - from_milliseconds(30000)", "0 00:01:00.000000000")],
    "parse_duration": [("parse_duration('3m')", "0 00:03:00.000000000"),
                       ("parse_duration('42.8ms')", "0 00:00:00.042800000"),
                       ("from_milliseconds(0) + parse_duration('2s')", at(2))],
    "bin": [
        ("bin(from_milliseconds(95000), 1m)", at(60)), ("bin(from_milliseconds(95000), 40s)", at(80)),
        (f"bin({T}, 1d)", "2024-05-01 00:00:00.000000000"),
    ],
    "ago": [("now() - ago(1h)", "0 01:00:00.000000000"), ("to_milliseconds(now() - ago(1500ms))", "1500")],
    "date_add": [
        ("date_add('minute', 2, from_milliseconds(0))", at(120)),
        ("date_add('month', 1, DATE '2024-01-31')", "2024-02-29"),
        (f"date_add('day', -1, {T})", "2024-04-30 12:34:56.123456789"),
    ],
    "date_diff": [
        ("date_diff('second', from_milliseconds(0), from_milliseconds(90500))", "90"),
        ("date_diff('day', DATE '2024-02-28', DATE '2024-03-01')", "2"),
        ("date_diff('month', DATE '2024-01-31', DATE '2024-02-28')", "0"),
    ],
    "date_format": [(f"date_format({T}, '%Y-%m-%d %H:%i:%s')", "2024-05-01 12:34:56")],
    "date_parse": [("date_parse('01.05.2024 07', '%d.%m.%Y %H')", "2024-05-01 07:00:00.000000000")],
    "format_datetime": [(f"format_datetime({T}, 'yyyy/MM/dd HH:mm')", "2024/05/01 12:34")],
    "parse_datetime": [("parse_datetime('2024-05-01 07:08', 'yyyy-MM-dd HH:mm')", "2024-05-01 07:08:00.000000000")],
    "extract": [(f"extract(month FROM {T})", "5"), (f"extract(dow FROM {T})", "3")],
    "day": [(f"day({T})", "1")],
    "day_of_month": [(f"day_of_month({T})", "1")],
    "day_of_week": [(f"day_of_week({T})", "3")],
    "dow": [("dow(DATE '2024-05-05')", "7")],
    "day_of_year": [(f"day_of_year({T})", "122")],
    "doy": [(f"doy({D})", "122")],
    "hour": [(f"hour({T})", "12")],
    "millisecond": [(f"millisecond({T})", "123")],
    "minute": [(f"minute({T})", "34")],
    "month": [(f"month({T})", "5")],
    "nanosecond": [(f"nanosecond({T})", "123456789")],
    "quarter": [(f"quarter({T})", "2")],
    "second": [(f"second({T})", "56")],
    "timezone_hour": [(f"timezone_hour({T})", "0")],
    "timezone_minute": [(f"timezone_minute({T})", "0")],
    "week": [(f"week({T})", "18")],
    "week_of_year": [(f"week_of_year({T})", "18")],
    "year": [(f"year({T})", "2024")],
    "year_of_week": [("year_of_week(DATE '2024-12-30')", "2025")],
    "yow": [("yow(DATE '2023-01-01')", "2022")],
    # Aggregate
    "any_value": [("any_value(c)|(VALUES 3, 3) AS t(c)", "3")],
    "arbitrary": [("arbitrary(c)|(VALUES 3, 3) AS t(c)", "3")],
    "array_agg": [(f"array_agg(c ORDER BY c DESC){FOUR}", ["4", "3", "2", "1"])],
    "avg": [(f"avg(c){FOUR}", "2.5"), (f"avg(c){GAP}", "2.0")],
    "bool_and": [(f"bool_and(c){BOOLS}", "false")],
    "bool_or": [(f"bool_or(c){BOOLS}", "true")],
    "count": [(f"count(*){GAP}", "3"), (f"count(c){GAP}", "2"), ("count(DISTINCT c)|(VALUES 1, 1, 2) AS t(c)", "2"),
              (f"count(*) FILTER (WHERE c > 2){FOUR}", "2")],
    "count_if": [(f"count_if(c > 2){FOUR}", "2")],
    "every": [(f"every(c > 0){FOUR}", "true")],
    "geometric_mean": [("geometric_mean(c)|(VALUES 1, 2, 4) AS t(c)", 2.0)],
    "max": [(f"max(c){FOUR}", "4"), (f"max(c, 2){FOUR}", ["4", "3"])],
    "max_by": [(f"max_by(k, v){NAMED}", "a"), (f"max_by(k, v, 2){NAMED}", ["a", "c"])],
    "min": [(f"min(c){FOUR}", "1"), (f"min(c, 3){FOUR}", ["1", "2", "3"])],
    "min_by": [(f"min_by(k, v){NAMED}", "b"), (f"min_by(k, v, 2){NAMED}", ["b", "c"])],
    "sum": [(f"sum(c){FOUR}", "10"), (f"sum(c / 2.0){FOUR}", "5.0")],
    "bitwise_and_agg": [("bitwise_and_agg(c)|(VALUES 6, 3) AS t(c)", "2")],
    "bitwise_or_agg": [("bitwise_or_agg(c)|(VALUES 6, 3) AS t(c)", "7")],
    "approx_distinct": [("approx_distinct(c)|(VALUES 1, 1, 2) AS t(c)", "2")],
    "approx_percentile": [("approx_percentile(c, 0.5)|(VALUES 1, 2, 3) AS t(c)", "2"),
                          ("approx_percentile(c, ARRAY[0.0, 1.0])|(VALUES 1, 2, 3) AS t(c)", ["1", "3"])],
    "corr": [(f"corr(y, x){PAIRS}", float(np.corrcoef(X, Y)[0, 1]))],
    "covar_pop": [(f"covar_pop(y, x){PAIRS}", float(np.cov(X, Y, bias=True)[0, 1]))],
    "covar_samp": [(f"covar_samp(y, x){PAIRS}", float(np.cov(X, Y)[0, 1]))],
    "regr_intercept": [(f"regr_intercept(y, x){PAIRS}", float(INTERCEPT))],
    "regr_slope": [(f"regr_slope(y, x){PAIRS}", float(SLOPE))],
    "kurtosis": [("kurtosis(c)|(VALUES 1, 2, 3, 4) AS t(c)", -1.2)],
    "skewness": [("skewness(c)|(VALUES 1, 2, 4) AS t(c)",
                  float(((SKEWED - SKEWED.mean()) ** 3).mean() / SKEWED.std() ** 3))],
    "stddev": [(f"stddev(c){FOUR}", float(np.std([1, 2, 3, 4], ddof=1)))],
    "stddev_pop": [(f"stddev_pop(c){FOUR}", float(np.std([1, 2, 3, 4])))],
    "stddev_samp": [(f"stddev_samp(c){FOUR}", float(np.std([1, 2, 3, 4], ddof=1)))],
    "variance": [(f"variance(c){FOUR}", 5 / 3)],
    "var_pop": [(f"var_pop(c){FOUR}", 1.25)],
    "var_samp": [(f"var_samp(c){FOUR}", 5 / 3)],
    # Window, gathered into an array in the order of the rows
    "cume_dist": [(f"cume_dist() {OVER}{FOUR}", ["0.25", "0.5", "0.75", "1.0"])],
    "dense_rank": [(f"dense_rank() {OVER}|(VALUES 1, 1, 2) AS t(c)", ["1", "1", "2"])],
    "ntile": [(f"ntile(2) {OVER}{FOUR}", ["1", "1", "2", "2"])],
    "percent_rank": [(f"percent_rank() {OVER}|(VALUES 1, 2, 3) AS t(c)", ["0.0", "0.5", "1.0"])],
    "rank": [(f"rank() {OVER}|(VALUES 1, 1, 2) AS t(c)", ["1", "1", "3"])],
    "row_number": [(f"row_number() {OVER}{FOUR}", ["1", "2", "3", "4"])],
    "first_value": [(f"first_value(c) {OVER}{FOUR}", ["1", "1", "1", "1"])],
    "last_value": [(f"last_value(c) {OVER}{FOUR}", ["1", "2", "3", "4"])],
    "nth_value": [(f"nth_value(c, 2) {OVER}{FOUR}", [None, "2", "2", "2"])],
    "lag": [(f"lag(c) {OVER}{FOUR}", [None, "1", "2", "3"]), (f"lag(c, 2, 0) {OVER}{FOUR}", ["0", "0", "1", "2"])],
    "lead": [(f"lead(c) {OVER}{FOUR}", ["2", "3", "4", None])],
    # Time series
    "create_time_series": [(f"{S}{POINTS}", Series([(at(0), "1.0"), (at(10), "3.0"), (at(20), "2.0")]))],
    "interpolate_linear": [
        (f"interpolate_linear({S}, from_milliseconds(5000)){POINTS}", "2.0"),
        (f"interpolate_linear({S}, from_milliseconds(21000)){POINTS}", None),
        (f"interpolate_linear({S}, sequence(from_milliseconds(5000), from_milliseconds(15000), 5s)){POINTS}",
         Series([(at(5), "2.0"), (at(10), "3.0"), (at(15), "2.5")])),
        ((f"interpolate_linear({S}, sequence(min(from_milliseconds(s * 1000)), "
         f"max(from_milliseconds(s * 1000)), 20s)){POINTS}"), Series([(at(0), "1.0"), (at(20), "2.0")])),
    ],
    "interpolate_locf": [
        (f"interpolate_locf({S}, from_milliseconds(19999)){POINTS}", "3.0"),
        (f"interpolate_locf({S}, ARRAY[from_milliseconds(9000), from_milliseconds(30000)]){POINTS}",
         Series([(at(9), "1.0"), (at(30), "2.0")])),
    ],
    "interpolate_fill": [
        (f"interpolate_fill({S}, from_milliseconds(5000), 9.5){POINTS}", "9.5"),
        (f"interpolate_fill({S}, ARRAY[from_milliseconds(0), from_milliseconds(5000)], 9.5){POINTS}",
         Series([(at(0), "1.0"), (at(5), "9.5")])),
    ],
    # By hand: the natural spline's bend at 10 s is -0.045, and 1 + 5 * 0.275 - 125 * 0.045 / 60 = 2.28125.
    "interpolate_spline_cubic": [
        (f"interpolate_spline_cubic({S}, from_milliseconds(5000)){POINTS}", 2.28125),
        (f"interpolate_spline_cubic({S}, ARRAY[from_milliseconds(10000)]){POINTS}", Series([(at(10), "3.0")])),
    ],
    "derivative_linear": [
        (f"derivative_linear({S}, 1s){POINTS}", Series([(at(10), "0.2"), (at(20), "-0.1")])),
        (f"derivative_linear({S}, 1m){POINTS}", Series([(at(10), "12.0"), (at(20), "-6.0")])),
    ],
    "non_negative_derivative_linear": [
        (f"non_negative_derivative_linear({S}, 5s){POINTS}", Series([(at(10), "1.0")])),
    ],
    "integral_trapezoidal": [
        (f"integral_trapezoidal({S}){POINTS}", "45.0"), (f"integral_trapezoidal({S}, 10s){POINTS}", "4.5"),
    ],
    "correlate_pearson": [(f"correlate_pearson({S}, {DOUBLED}){POINTS}", 1.0),
                          (f"correlate_pearson({S}, {TURNED}){POINTS}", -1.0)],
    "correlate_spearman": [(f"correlate_spearman({S}, {TURNED}){POINTS}", -1.0),
                           (f"correlate_spearman({S}, {DOUBLED}){POINTS}", 1.0)],
    # JSON, URL, geospatial
    "json_array_contains": [("json_array_contains('[1, 2]', 2)", "true")],
    "json_array_get": [("json_array_get('[5, 6]', 1)", "6")],
    "json_array_length": [("json_array_length('[5, 6, 7]')", "3")],
    "json_extract": [("""json_extract('{"a": {"b": [1, 2]}}', '$.a.b')""", "[1,2]")],
    "json_extract_scalar": [("""json_extract_scalar('{"a": {"b": "x"}}', '$.a.b')""", "x"),
                            ("""json_extract_scalar('{"a": 1}', '$.c')""", None)],
    "json_format": [("json_format(json_parse('[1,2]'))", "[1,2]")],
    "json_parse": [("CAST(json_parse('[1, 2]') AS ARRAY(BIGINT))", ["1", "2"])],
    "json_size": [("""json_size('{"a": {"b": 1, "c": 2}}', '$.a')""", "2"), ("""json_size('{"a": 5}', '$.a')""", "0")],
    "url_decode": [("url_decode('a%20b')", "a b")],
    "url_encode": [("url_encode('a b&c')", "a%20b%26c")],
    "url_extract_fragment": [("url_extract_fragment('http://h/p?q=1#top')", "top")],
    "url_extract_host": [("url_extract_host('http://h.example:81/p')", "h.example")],
    "url_extract_parameter": [("url_extract_parameter('http://h/p?a=1&b=x%20y', 'b')", "x y")],
    "url_extract_path": [("url_extract_path('http://h/p/q?a=1')", "/p/q")],
    "url_extract_port": [("url_extract_port('http://h:81/p')", "81"), ("url_extract_port('http://h/p')", None)],
    "url_extract_protocol": [("url_extract_protocol('https://h/p')", "https")],
    "url_extract_query": [("url_extract_query('http://h/p?a=1&b=2#f')", "a=1&b=2")],
    "great_circle_distance": [
        ("great_circle_distance(0.0, 0.0, 0.0, 90.0)", 6371.01 * math.pi / 2),
        ("great_circle_distance(10.0, 20.0, 10.0, 20.0)", 0.0),
    ],
}  # fmt: skip
