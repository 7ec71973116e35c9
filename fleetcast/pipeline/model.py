"""A pipeline as its file describes it: where readings go in, and where they must be found again."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from simulator.faults import REASONS
from simulator.scenario.checks import known_alarm
from simulator.units import PositiveDuration

_ARN = re.compile(r"arn:aws[a-z-]*:kinesis:([a-z0-9-]+):(\d{12}):stream/([\w.-]+)")
_NAMED = re.compile(r"[\w.-]{1,128}")
_PREFIX_PART = re.compile(r"%(.?)")
_STEP = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Unit = Literal["ms", "s"]
# How long a unit of time is, in milliseconds.
UNIT_MS: dict[str, int] = {"ms": 1, "s": 1000}
Path = tuple[str | int, ...]


def path_of(text: str) -> Path:
    """The steps of a path into JSON: `$.sensor.id` and `sensor.id` are alike, `a[0].b` has an index.

    Raises:
        ValueError: it is none.
    """
    steps: list[str | int] = []
    for part in text.removeprefix("$.").split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is no path: write one such as sensor.id or values[0].t")
        steps.append(match[1])
        steps += [int(number) for number in re.findall(r"\d+", match[2])]
    return tuple(steps)


def _is_path(text: str) -> str:
    path_of(text)
    return text


JsonPath = Annotated[str, AfterValidator(_is_path)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# Places of a form, the field that each is, and what it looks like.
_FORM = {
    "device": ("device", "dev-[0-9]+"), "seq": ("sequence", "[0-9]+"),
    "ts": ("time", "[0-9]+"), "run": ("run", "[A-Za-z0-9][A-Za-z0-9_.-]*"),
}  # fmt: skip
_PLACE = re.compile(r"\{([^{}]*)\}")


class _Identity(_Model):
    """Where that lies by which a reading is told from all others.

    The device, and with it the reading's seq or its time; and the run or the time, which tell the
    readings of one run from those of another.
    """

    id_form: Text | None = None
    time_unit: Unit = "ms"

    def names(self) -> dict[str, str]:
        """Field to column or path, of all that is given; measures as `measures.NAME`."""
        told = self._given()
        whole = told.pop("id", "")
        return {**dict.fromkeys(self.forms(), whole), **told}

    def forms(self) -> dict[str, str]:
        """Field to a regular expression, whose group is the field within an id; by `id_form`."""
        places = _PLACE.findall(self.id_form or "")
        return {_FORM[place][0]: _form(self.id_form or "", place) for place in places}

    def _given(self) -> dict[str, str]:
        """Field to column or path, as the file has them."""
        told = self.model_dump(
            by_alias=True, exclude={"time_unit", "id_form"}, exclude_none=True
        )  # fmt: skip
        measures = told.pop("measures")
        return {**told, **{f"measures.{name}": place for name, place in measures.items()}}

    @field_validator("id_form")
    @classmethod
    def _formed(cls, value: str | None) -> str | None:
        places = _PLACE.findall(value or "")
        for place in places:
            if place not in _FORM or places.count(place) > 1:
                known = ", ".join(f"{{{one}}}" for one in _FORM)
                raise ValueError(f"{value!r}: {{{place}}} must be one of {known}, and there once")
        between = re.findall(r"\}([^{]*)(?=\{)", value or "")
        if any(not part or part[-1].isdigit() or part[0].isdigit() for part in between):
            raise ValueError(f"{value!r}: put something that is no digit between its places")
        return value

    @model_validator(mode="after")
    def _identified(self) -> Self:
        given = self._given()
        if ("id" in given) != (self.id_form is not None):
            raise ValueError(
                "id_form: an id needs its form, such as '{device}/{seq}', and a form its id"
            )
        for field in self.forms():
            if field in given:
                raise ValueError(f"{field}: is in the id already: leave one of the two out")
        seen: dict[str, str] = {}
        for field, place in given.items():
            if place in seen:
                raise ValueError(f"{field}: {place!r} is {seen[place]} already")
            seen[place] = field
        self._tells_apart(self.names())
        return self

    @staticmethod
    def _tells_apart(names: dict[str, str]) -> None:
        if "device" not in names:
            raise ValueError("device: is missing: without it readings cannot be told apart")
        if not {"sequence", "time"} & names.keys():
            raise ValueError(
                "sequence: the readings of a device cannot be told apart: say where their seq lies "
                "(sequence), or their timestamp (time)"
            )
        if not {"run", "time"} & names.keys():
            raise ValueError(
                "run: the readings of two runs cannot be told apart: say where the run's id lies "
                "(run), or the readings' timestamp (time)"
            )


def _form(form: str, place: str) -> str:
    """A regular expression for ids of a form, with a group around one of the form's places."""
    pattern, at = "^", 0
    for match in _PLACE.finditer(form):
        shape = _FORM[match[1]][1]
        pattern += re.escape(form[at : match.start()])
        pattern += f"({shape})" if match[1] == place else shape
        at = match.end()
    return f"{pattern}{re.escape(form[at:])}$"


class Columns(_Identity):
    """Columns of a table. What is not given is not compared.

    Attributes:
        id: A text that has several of them in it.
        id_form: How it has them, such as `{device}/{seq}`; places are device, seq, ts (in
            `time_unit`) and run.
        device: The device.
        sequence: Its reading's seq, a number or a text of one.
        time: The reading's timestamp: Timestream's own `time`, where the pipeline puts it there, or
            a column with a time or a number.
        time_unit: Unit of that number; also what a time is kept to.
        run: The run's id.
        kind: The class.
        site: The site.
        written: When the row was written, a time or epoch milliseconds.
        measures: Signal to column.
    """

    id: Text | None = None
    device: Text | None = None
    sequence: Text | None = None
    time: Text | None = None
    run: Text | None = None
    kind: Annotated[Text | None, Field(alias="class")] = None
    site: Text | None = None
    written: Text | None = None
    measures: dict[Text, Text] = {}


class Fields(_Identity):
    """Paths into the JSON of a line. What is not given is not compared.

    Attributes:
        id: A text that has several of them in it.
        id_form: How it has them, such as `{device}/{seq}`; places are device, seq, ts (in
            `time_unit`) and run.
        device: The device.
        sequence: Its reading's seq, a number or a text of one.
        time: The reading's timestamp: a number, or a text in ISO 8601.
        time_unit: Unit of that number; also what a text is kept to.
        run: The run's id.
        measures: Signal to path.
    """

    id: JsonPath | None = None
    device: JsonPath | None = None
    sequence: JsonPath | None = None
    time: JsonPath | None = None
    run: JsonPath | None = None
    measures: dict[Text, JsonPath] = {}


class TimeSeries(_Model):
    """A Timestream table.

    Attributes:
        database: Its database.
        table: Its name.
        records: `multi` has a row for each reading; `single` one for each of its measures, whose
            names then stand for columns.
        columns: What lies where.
    """

    database: Text
    table: Text
    records: Literal["multi", "single"] = "multi"
    columns: Columns


class Archive(_Model):
    """Objects in S3.

    Attributes:
        bucket: Where they lie.
        prefix: What their keys begin with. `%Y %m %d %H` are year, month, day and hour, UTC, of a
            record's arrival, as Firehose writes them.
        format: `lines` are ended by line feeds; `json` are objects one after the other; `parquet`
            has a row for each reading, with fields.
        compression: `auto` goes by an object's first bytes and its name.
        fields: Where a line of the pipeline's own has what tells the reading. Without it each
            line is the payload as it was sent, and is compared as bytes.
    """

    bucket: Text
    prefix: str = ""
    format: Literal["lines", "json", "parquet"] = "lines"
    compression: Literal["auto", "gzip", "none"] = "auto"
    fields: Fields | None = None

    @model_validator(mode="after")
    def _rows(self) -> Self:
        if self.format == "parquet" and self.fields is None:
            raise ValueError("fields: is missing: the rows of Parquet are no payloads")
        if self.format == "parquet" and self.compression == "gzip":
            raise ValueError("compression: Parquet is compressed within: leave it out")
        return self

    @field_validator("prefix")
    @classmethod
    def _times(cls, value: str) -> str:
        wrong = [letter for letter in _PREFIX_PART.findall(value) if letter not in {*"YmdH"}]
        if wrong:
            raise ValueError(f"there is no %{wrong[0]}: known are %Y, %m, %d and %H")
        return value


class Quarantine(_Model):
    """A queue of readings that the pipeline refused. Messages of a run are taken out of it.

    Attributes:
        queue: Its name or URL.
        payload: Path to the payload in a message's JSON; the whole body where it is not given.
        encoding: How the payload is written there.
        refuses: Which kinds of broken readings the pipeline puts there, by their reasons. Others
            may land or not.
    """

    queue: Text
    payload: JsonPath | None = None
    encoding: Literal["text", "base64"] = "text"
    refuses: Annotated[list[str], Field(min_length=1)]

    @field_validator("refuses")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for reason in value:
            if reason not in REASONS[1:]:
                close = difflib.get_close_matches(reason, REASONS[1:], 1)
                hint = f"did you mean {close[0]}?" if close else "known: " + ", ".join(REASONS[1:])
                raise ValueError(f"there is no reason {reason!r}: {hint}")
        return value


class Pipeline(_Model):
    """An AWS pipeline: where readings go in, and where they must be found again.

    Attributes:
        name: What runs and verdicts call it.
        region: The AWS region.
        stream: The Kinesis stream, its name or ARN.
        signing_secret: Secret with the HMAC key; without it readings are not signed.
        payload: A shape for the payloads of all classes that have none of their own, see
            `simulator.templates`.
        lands_within: Longest from an acknowledgement until a reading that is not there is lost.
        settles_after: From the last acknowledgement until copies of readings have landed, too.
        timeseries: The table that readings land in.
        archive: The bucket that they land in.
        quarantine: The queue of what is refused.
        alarms: Alarms that scenarios know to the names of the pipeline's own.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    stream: Text
    signing_secret: Text | None = None
    payload: Any = None
    lands_within: PositiveDuration = 120.0
    settles_after: PositiveDuration = 10.0
    timeseries: TimeSeries | None = None
    archive: Archive | None = None
    quarantine: Quarantine | None = None
    alarms: dict[str, Text] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_arn(cls, value: Any) -> Any:
        """The region, where the stream's ARN tells it."""
        if isinstance(value, dict) and "region" not in value:
            arn = _ARN.fullmatch(str(value.get("stream")))
            return value if arn is None else {**value, "region": arn[1]}
        return value

    @field_validator("stream")
    @classmethod
    def _stream(cls, value: str) -> str:
        if _ARN.fullmatch(value) is None and _NAMED.fullmatch(value) is None:
            raise ValueError(f"{value!r} is neither the name of a Kinesis stream nor an ARN of one")
        return value

    @field_validator("alarms")
    @classmethod
    def _alarms(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            known_alarm(name)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        arn = _ARN.fullmatch(self.stream)
        if arn is not None and self.region != arn[1]:
            raise ValueError(f"region: is {self.region}, and the stream's ARN says {arn[1]}")
        if self.timeseries is None and self.archive is None:
            raise ValueError(
                "timeseries: there is neither timeseries nor archive: nothing could be verified"
            )
        if self.lands_within <= self.settles_after:
            raise ValueError(
                f"settles_after: is {self.settles_after:g} s, and must be less than lands_within, "
                f"which is {self.lands_within:g} s"
            )
        return self

    @property
    def environment(self) -> str:
        """What a run calls it."""
        return self.name

    @property
    def stream_name(self) -> str:
        """The stream's name."""
        arn = _ARN.fullmatch(self.stream)
        return self.stream if arn is None else arn[3]

    @property
    def stream_arn(self) -> str:
        """The stream's ARN, where the file gives it; else empty."""
        return self.stream if _ARN.fullmatch(self.stream) else ""

    @property
    def signing_secret_arn(self) -> str:
        """The secret's name or ARN; empty where readings are not signed."""
        return self.signing_secret or ""
