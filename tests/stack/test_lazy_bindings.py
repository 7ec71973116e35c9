"""Node loads a service of the AWS bindings when it is asked for, and every one of them can be."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from stack.bindings import _find_node, _node_options


def node(index: Path, code: str) -> str:
    """What `code` prints, with `bindings` as what the index exports."""
    done = subprocess.run(
        [_find_node(), "-e", f"const bindings = require({json.dumps(str(index))}); {code}"],
        env={**os.environ, "NODE_OPTIONS": _node_options("")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of two services, of which one cannot be loaded."""
    lib = tmp_path / "node_modules" / "provider-aws" / "21.0.0" / "lib"
    for name, code in (("good", "exports.Good = 1;"), ("bad", 'throw new Error("loaded");')):
        (lib / name).mkdir(parents=True)
        (lib / name / "index.js").write_text(code)
    found = lib / "index.js"
    found.write_text(
        'exports.bad = exports.good = void 0;\nexports.good = require("./good");\n'
        'exports.bad = require("./bad");\nexports.version = "1";\n'
    )
    return found


def test_a_service_is_loaded_when_it_is_asked_for(index: Path) -> None:
    assert node(index, "console.log(Object.keys(bindings), bindings.good.Good)") == (
        "[ 'good', 'bad', 'version' ] 1"
    )
    assert node(index, 'try { bindings.bad } catch (e) { console.log("threw", e.message) }') == (
        "threw loaded"
    )


def test_a_module_that_is_no_index_of_bindings_is_loaded_as_it_is(index: Path) -> None:
    other = index.parents[3] / "other" / "lib" / "index.js"
    other.parent.mkdir(parents=True)
    other.write_text('exports.x = require("./x");\n')
    other.with_name("x.js").write_text("exports.loaded = true;\n")
    told = "console.log(typeof Object.getOwnPropertyDescriptor(bindings, 'x').get)"
    assert node(other, told) == "undefined"


def test_the_index_of_the_bindings_loads_nothing_by_itself(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("cdktf_cdktf_provider_aws")
    assert spec is not None
    assert spec.origin is not None
    (packed,) = (Path(spec.origin).parent / "_jsii").glob("*.tgz")
    alone = tmp_path / "provider-aws" / "lib" / "index.js"
    alone.parent.mkdir(parents=True)
    with tarfile.open(packed) as tar:
        for member in tar:
            if member.name.endswith("package/lib/index.js"):
                file = tar.extractfile(member)
                assert file is not None
                alone.write_bytes(file.read())
                break
    # Not one of the services that it tells of is here.
    services = json.loads(node(alone, "console.log(JSON.stringify(Object.keys(bindings)))"))
    assert {"kinesisStream", "provider", "timestreamwriteTable"} <= set(services)
