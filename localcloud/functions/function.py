"""A function: its settings as the API tells them, its code on disk, its environments."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import io
import os
import shutil
import tempfile
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.durable import moment
from localcloud.environment import whole_number
from localcloud.functions.function_settings import SETTINGS
from localcloud.functions.platform_log import PlatformLog
from localcloud.functions.runtime import Environment, EnvironmentSettings
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.access.control import Acting, Credentials
    from localcloud.functions.logs import FunctionLogs
    from localcloud.functions.runtime import Result
    from localcloud.seams import CloudContext

MAX_PAYLOAD = 6 * 1024 * 1024
MAX_CODE_BYTES = 262_144_000
IDLE_S = 300.0
# AWS has no such bound: it starts a process for every concurrent invocation. Here invocations
# beyond it wait for a free process. A function that writes to other services waits more than it works.
MAX_PROCESSES = whole_number("FLEETCAST_LAMBDA_PROCESSES", max(4, 2 * (os.cpu_count() or 2)))
# What the managed runtime has and a process needs; nothing else of our own environment.
_PASSED = ("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ThrottledError(AwsError):
    """Reserved concurrency is used up."""

    def __init__(self) -> None:
        super().__init__(
            "TooManyRequestsException",
            "Rate Exceeded.",
            429,
            Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
        )


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(moment.now_s(), dt.UTC)


@dataclass(slots=True)
class Function:
    """One function; `$LATEST` only."""

    context: CloudContext
    logs: FunctionLogs
    name: str
    arn: str
    settings: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)
    policy: dict[str, dict[str, Any]] = field(default_factory=dict)
    reserved: int | None = None
    event_config: dict[str, Any] = field(default_factory=dict)
    event_config_modified_s: float = 0.0
    revision: str = field(default_factory=lambda: str(moment.uuid4()))
    modified: dt.datetime = field(default_factory=_now)
    code_sha: str = ""
    code_size: int = 0
    in_use: int = 0
    closed: bool = False
    folder: Path | None = None
    _credentials: Credentials | None = None
    _old_credentials: Credentials | None = None
    _old_folders: list[Path] = field(default_factory=list)
    _generation: int = 0
    _idle: list[Environment] = field(default_factory=list)
    _all: set[Environment] = field(default_factory=set)
    _free: asyncio.Condition = field(default_factory=asyncio.Condition)

    def set_code(self, archive: bytes) -> None:
        """Unpacks a zip; environments of the code before end when they are idle.

        Raises:
            AwsError: InvalidParameterValueException, where it is no zip or reaches outside.
        """
        folder = Path(tempfile.mkdtemp(prefix="fleetcast-lambda-"))
        try:
            _unpack(archive, folder)
        except (zipfile.BadZipFile, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise AwsError(
                "InvalidParameterValueException", f"Could not unzip uploaded file: {error}"
            ) from error
        old, self.folder = self.folder, folder
        self.code_sha = base64.b64encode(hashlib.sha256(archive).digest()).decode()
        self.code_size = len(archive)
        self._changed()
        if old is not None:
            # Environments that are busy still import from it.
            self._old_folders.append(old)

    @property
    def acting(self) -> Acting:
        """Who it is to others: a session of its role."""
        return self.context.access.role(self.settings.get("Role") or "", self.name)

    def update(self, body: dict[str, Any]) -> None:
        """Changes settings.

        Raises:
            AwsError: InvalidParameterValueException, where Lambda may not assume the role.
        """
        role = body.get("Role")
        if role and not self.context.access.may_assume(role, "lambda.amazonaws.com", self.arn):
            raise AwsError(
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            )
        self.settings.update({k: v for k, v in body.items() if k in SETTINGS and v is not None})
        self._changed()

    def _changed(self) -> None:
        self._generation += 1
        self._take_credentials_back()
        self.revision = str(moment.uuid4())
        self.modified = _now()

    def _take_credentials_back(self) -> None:
        """Environments that are busy go on with the last ones until the next change."""
        if self._old_credentials is not None:
            self.context.access.forget(self._old_credentials.access_key_id)
        self._old_credentials, self._credentials = self._credentials, None

    def describe(self) -> dict[str, Any]:
        """The API's FunctionConfiguration structure."""
        settings = self.settings
        answer: dict[str, Any] = {
            "FunctionName": self.name,
            "FunctionArn": self.arn,
            "Runtime": settings.get("Runtime"),
            "Role": settings.get("Role"),
            "Handler": settings.get("Handler"),
            "CodeSize": self.code_size,
            "Description": settings.get("Description", ""),
            "Timeout": settings.get("Timeout", 3),
            "MemorySize": settings.get("MemorySize", 128),
            "LastModified": self.modified.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "CodeSha256": self.code_sha,
            "Version": "$LATEST",
            "TracingConfig": settings.get("TracingConfig") or {"Mode": "PassThrough"},
            "RevisionId": self.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": settings.get("Architectures") or ["x86_64"],
            "EphemeralStorage": settings.get("EphemeralStorage") or {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": self._logging(),
        }
        for name in ("Environment", "KMSKeyArn", "DeadLetterConfig"):
            if settings.get(name):
                answer[name] = settings[name]
        return answer

    def _logging(self) -> dict[str, Any]:
        given = self.settings.get("LoggingConfig") or {}
        levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
        return {
            "LogFormat": "Text",
            "LogGroup": f"/aws/lambda/{self.name}",
            **(levels if given.get("LogFormat") == "JSON" else {}),
            **given,
        }

    async def invoke(self, event: bytes, request_id: str | None = None) -> Result:
        """Runs one invocation and publishes its metrics.

        Raises:
            ThrottledError: reserved concurrency is used up.
            AwsError: RequestTooLargeException.
        """
        put = self.context.metrics.put
        where = {"FunctionName": self.name}
        if self.closed:
            raise AwsError("ResourceNotFoundException", f"Function not found: {self.arn}", 404)
        if len(event) > MAX_PAYLOAD:
            raise AwsError(
                "RequestTooLargeException",
                f"Request must be smaller than {MAX_PAYLOAD} bytes for the InvokeFunction operation",
                413,
            )
        if self.reserved is not None and self.in_use >= self.reserved:
            put("AWS/Lambda", "Throttles", 1, unit="Count", dimensions=where)
            raise ThrottledError
        self.in_use += 1
        put("AWS/Lambda", "ConcurrentExecutions", self.in_use, unit="Count", dimensions=where)
        environment = None
        try:
            environment = await self._acquire()
            result = await environment.invoke(event, request_id)
        finally:
            self.in_use -= 1
            if environment is not None:
                await self._release(environment)
        self.context.metrics.put_each(
            "AWS/Lambda",
            {
                "Invocations": 1,
                "Errors": int(result.error is not None),
                "Throttles": 0,
                "Duration": result.duration_ms,
            },
            unit=_unit_of,
            dimensions=where,
        )
        return result

    async def _acquire(self) -> Environment:
        async with self._free:
            while True:
                while self._idle:
                    environment = self._idle.pop()
                    if environment.alive and environment.generation == self._generation:
                        return environment
                    self._all.discard(environment)
                    await environment.kill()
                if len(self._all) < MAX_PROCESSES:
                    environment = self._new_environment()
                    self._all.add(environment)
                    break
                await self._free.wait()
        try:
            await environment.start()
        except BaseException:
            self._all.discard(environment)
            raise
        return environment

    async def _release(self, environment: Environment) -> None:
        async with self._free:
            if environment.alive and environment.generation == self._generation:
                environment.idle_since_s = time.monotonic()
                self._idle.append(environment)
            else:
                self._all.discard(environment)
                await environment.kill()
            self._free.notify()

    def _new_environment(self) -> Environment:
        if self.folder is None:
            raise AwsError("ResourceNotReadyException", f"function {self.name} has no code")
        if self._credentials is None:
            self._credentials = self.context.access.credentials(self.acting)
        credentials = self._credentials
        logging = self.describe()["LoggingConfig"]
        group = logging["LogGroup"]
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        variables = {
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONUNBUFFERED": "1",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "_HANDLER": self.settings["Handler"],
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.settings.get("MemorySize", 128)),
            "AWS_LAMBDA_LOG_GROUP_NAME": group,
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.settings['Runtime']}",
            "AWS_REGION": self.context.region,
            "AWS_DEFAULT_REGION": self.context.region,
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_SESSION_TOKEN": credentials.session_token,
            "AWS_ENDPOINT_URL": self.context.endpoint_url,
            **((self.settings.get("Environment") or {}).get("Variables") or {}),
        }
        if logging["LogFormat"] == "JSON":
            variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
            variables["AWS_LAMBDA_LOG_LEVEL"] = logging["ApplicationLogLevel"]
        return Environment(
            EnvironmentSettings(
                self.settings["Handler"],
                self.folder,
                variables,
                self.arn,
                float(self.settings.get("Timeout", 3)),
                int(self.settings.get("MemorySize", 128)),
            ),
            PlatformLog(
                lambda line: self._log(group, stream, line),
                self.name,
                self.settings["Runtime"],
                logging["LogFormat"],
                logging.get("SystemLogLevel", "INFO"),
            ),
            self._generation,
        )

    def _log(self, group: str, stream: str, line: str) -> None:
        """Writes a line, where the function's role may."""
        refusal = self.context.access.log_refusal(self.acting, group, stream)
        if refusal is None:
            self.logs.add(group, stream, line)
        else:
            self.logs.refuse(group, refusal)

    async def reap(self) -> None:
        """Ends environments that nobody has used for a while."""
        limit = time.monotonic() - IDLE_S
        async with self._free:
            for environment in [e for e in self._idle if e.idle_since_s < limit]:
                self._idle.remove(environment)
                self._all.discard(environment)
                await environment.kill()
            if all(e.generation == self._generation for e in self._all):
                self._remove_old_folders()

    def _remove_old_folders(self) -> None:
        while self._old_folders:
            shutil.rmtree(self._old_folders.pop(), ignore_errors=True)

    async def close(self) -> None:
        """Ends all processes and removes the code."""
        self.closed = True
        self._take_credentials_back()
        self._take_credentials_back()
        for environment in list(self._all):
            await environment.kill()
        self._all.clear()
        self._idle.clear()
        self._remove_old_folders()
        if self.folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder)

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._all)


def _unit_of(metric: str) -> str:
    return "Milliseconds" if metric == "Duration" else "Count"


def _unpack(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        if sum(entry.file_size for entry in packed.infolist()) > MAX_CODE_BYTES:
            raise OSError(f"Unzipped size must be smaller than {MAX_CODE_BYTES} bytes")
        packed.extractall(folder)
