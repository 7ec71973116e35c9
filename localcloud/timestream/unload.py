"""The UNLOAD statement: what it selects, and where and how the result is to be written.

UNLOAD (SELECT ...) TO 's3://bucket/folder' WITH (option = value, ...), as the developer guide's "UNLOAD
concepts" has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.http import AwsError
from localcloud.timestream.dialect import place

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = {"MB": 1_000_000, "GB": 1_000_000_000}
MIN_FILE_BYTES, MAX_FILE_BYTES = 16_000_000, 78_000_000_000
_TOKEN = re.compile(
    r"""\s+|--[^\n]*|/\*.*?\*/|(?P<text>'(?:[^']|'')*')|"(?:[^"]|"")*"|(?P<word>[A-Za-z_]\w*)|(?P<sign>.)""",
    re.DOTALL,
)
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unload:
    """A statement.

    Attributes:
        select: The query, at the place that it has in the statement, so that positions hold.
        bucket: Where to.
        folder: Under which prefix; empty or ending with a slash.
        partitioned_by: Columns that become folders.
        parquet: Whether it is Parquet, not CSV.
        gzip: Whether files are compressed.
        kms: Whether a key of KMS encrypts them, not one of S3.
        kms_key: Which.
        delimiter: Between two fields of CSV.
        escape: Before a quote, and before itself.
        header: Whether CSV begins with the names of columns.
        file_bytes: About how large a file may become.
    """

    select: str
    bucket: str
    folder: str
    partitioned_by: tuple[str, ...] = ()
    parquet: bool = False
    gzip: bool = True
    kms: bool = False
    kms_key: str = ""
    delimiter: str = ","
    escape: str = "\\"
    header: bool = False
    file_bytes: int = MAX_FILE_BYTES


def is_unload(sql: str) -> bool:
    """Whether a statement is an UNLOAD."""
    words = (found["word"] for found in _TOKEN.finditer(sql) if found.lastgroup)
    return (next(words, None) or "").upper() == "UNLOAD"


def parse_unload(sql: str) -> Unload:
    """Reads an UNLOAD.

    Raises:
        AwsError: ValidationException with the position of what cannot be read.
    """
    return _Reader(sql).statement()


class _Reader:
    def __init__(self, sql: str) -> None:
        self._sql = sql
        # What is neither space nor comment; a quoted name is a sign here.
        self._tokens = [
            found for found in _TOKEN.finditer(sql)
            if found.lastgroup or found.group().startswith('"')
        ]  # fmt: skip
        self._at = 0

    def statement(self) -> Unload:
        self._expect("UNLOAD")
        select = self._in_parentheses()
        self._expect("TO")
        bucket, folder = self._destination()
        given: dict[str, str | tuple[str, ...]] = {}
        if self._found("WITH"):
            self._expect("(")
            while not given or self._found(","):
                self._option(given)
            self._expect(")")
        self._found(";")
        if self._at < len(self._tokens):
            raise self._refusal("the end of the statement is expected")
        return _made(select, bucket, folder, given)

    def _in_parentheses(self) -> str:
        self._expect("(")
        start, depth = self._tokens[self._at - 1].end(), 1
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            depth += {"(": 1, ")": -1}.get(token.group(), 0)
            if depth == 0:
                self._at += 1
                before = re.sub(r"[^\n]", " ", self._sql[:start])
                return before + self._sql[start : token.start()]
            self._at += 1
        raise self._refusal("')' is expected")

    def _destination(self) -> tuple[str, str]:
        token = self._at
        found = _PLACE.fullmatch(self._text("'s3://bucket-name/folder'"))
        if found is None:
            self._at = token
            raise self._refusal("'s3://bucket-name/folder' is expected")
        folder = (found[2] or "").strip("/")
        return found[1], f"{folder}/" if folder else ""

    def _option(self, given: dict[str, str | tuple[str, ...]]) -> None:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        name = token.group().lower() if token is not None else ""
        if name not in _OPTIONS:
            raise self._refusal(f"an option is expected: {', '.join(sorted(_OPTIONS))}")
        if name in given:
            raise self._refusal(f"the option {name} is given twice")
        self._at += 1
        self._expect("=")
        if name != "partitioned_by":
            given[name] = self._text("a text in quotes")
            _OPTIONS[name](str(given[name]))
            return
        self._expect("ARRAY")
        self._expect("[")
        columns = [self._text("the name of a column in quotes")]
        while self._found(","):
            columns.append(self._text("the name of a column in quotes"))
        self._expect("]")
        given[name] = tuple(columns)

    def _text(self, what: str) -> str:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        if token is None or token["text"] is None:
            raise self._refusal(f"{what} is expected")
        self._at += 1
        return token.group()[1:-1].replace("''", "'")

    def _found(self, word: str) -> bool:
        here = self._at < len(self._tokens) and self._tokens[self._at].group().upper() == word
        self._at += here
        return here

    def _expect(self, word: str) -> None:
        if not self._found(word):
            raise self._refusal(f"'{word}' is expected")

    def _refusal(self, what: str) -> AwsError:
        at = self._tokens[self._at].start() if self._at < len(self._tokens) else len(self._sql)
        return AwsError("ValidationException", f"{place(self._sql, at)}: UNLOAD: {what}")


def _one_of(option: str, *values: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.upper() not in values:
            raise _invalid(f"{option} must be one of {', '.join(values)}, not '{text}'.")
        return text.upper()

    return read


def _character(option: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        # As the developer guide writes a tab.
        text = {"\\t": "\t", "/t": "\t"}.get(text, text)
        if len(text) != 1 or not text.isascii() or text == '"':
            raise _invalid(f"{option} must be a single ASCII character other than the quote.")
        return text

    return read


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    size = round(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if not MIN_FILE_BYTES <= size <= MAX_FILE_BYTES:
        raise _invalid(f"max_file_size must be from 16MB to 78GB, not '{text}'.")
    return size


def _plain(text: str) -> str:
    return text


_FORMAT = _one_of("format", "CSV", "PARQUET")
_COMPRESSION = _one_of("compression", "GZIP", "NONE")
_ENCRYPTION = _one_of("encryption", "SSE_S3", "SSE_KMS")
_HEADER = _one_of("include_header", "TRUE", "FALSE")
_DELIMITER = _character("field_delimiter")
_ESCAPE = _character("escaped_by")
_OPTIONS: dict[str, Callable[[str], str | int]] = {
    "partitioned_by": _plain,
    "format": _FORMAT,
    "compression": _COMPRESSION,
    "encryption": _ENCRYPTION,
    "kms_key": _plain,
    "field_delimiter": _DELIMITER,
    "escaped_by": _ESCAPE,
    "include_header": _HEADER,
    "max_file_size": _size,
}


def _made(select: str, bucket: str, folder: str, given: dict[str, str | tuple[str, ...]]) -> Unload:
    columns = given.pop("partitioned_by", ())
    texts = {
        "format": "CSV", "compression": "GZIP", "encryption": "SSE_S3", "include_header": "false",
        "field_delimiter": ",", "escaped_by": "\\", "max_file_size": "78GB", "kms_key": "",
        **{name: str(text) for name, text in given.items()},
    }  # fmt: skip
    kms = _ENCRYPTION(texts["encryption"]) == "SSE_KMS"
    if texts["kms_key"] and not kms:
        raise _invalid("kms_key needs encryption = 'SSE_KMS'.")
    delimiter, escape = _DELIMITER(texts["field_delimiter"]), _ESCAPE(texts["escaped_by"])
    if delimiter == escape:
        raise _invalid("field_delimiter and escaped_by must be different characters.")
    return Unload(
        select, bucket, folder, tuple(columns), _FORMAT(texts["format"]) == "PARQUET",
        _COMPRESSION(texts["compression"]) == "GZIP", kms, texts["kms_key"], delimiter, escape,
        _HEADER(texts["include_header"]) == "TRUE", _size(texts["max_file_size"]),
    )  # fmt: skip


def _invalid(why: str) -> AwsError:
    return AwsError("ValidationException", f"UNLOAD: {why}")
