"""Builds what is deployed: by `sam build`, as for Lambda, and the layer once more for this machine."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
# What Lambda's own image brings to a Python function.
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")


@dataclass(frozen=True)
class Built:
    """Folders of what was built; `runtime` is the runtime client and what it needs, alone."""

    functions: Path
    layer: Path
    layer_of_this_machine: Path
    runtime: Path


def build(folder: Path) -> Built:
    """Build into an empty folder; skips the test where the tools are missing, fails it there in CI."""
    sam = _sam()
    if platform.python_version_tuple()[:2] != ("3", "13"):
        missing(f"needs a real python3.13 (this is {platform.python_version()})")
    # SAM takes the first python3.13 on PATH; a pyenv shim is none to it.
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    layer = folder / "layer"
    makefile = ["make", "-C", "layers/patient_contact", "build-PatientContactLayer"]
    commands = [
        [sam, "build", "--build-dir", str(folder / "sam"), "--cache-dir", str(folder / "cache")],
        [*makefile, f"ARTIFACTS_DIR={layer}", f"LAYER_PLATFORM={_this_platform()}"],
    ]
    with ThreadPoolExecutor() as both:
        list(both.map(partial(_run, environment=environment), commands))
    return Built(
        functions=folder / "sam",
        layer=folder / "sam" / "PatientContactLayer",
        layer_of_this_machine=layer,
        runtime=_runtime(folder / "runtime"),
    )


def missing(what: str) -> NoReturn:
    """Skip the test, saying why, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def _sam() -> str:
    own = ROOT / ".venv-tools" / "bin" / "sam"
    found = str(own) if own.is_file() else shutil.which("sam")
    if found is None:
        missing("needs the SAM CLI")
    return found


def _this_platform() -> str:
    machine = platform.machine()
    return f"macosx_11_0_{machine}" if sys.platform == "darwin" else f"manylinux2014_{machine}"


def _runtime(folder: Path) -> Path:
    folder.mkdir()
    for name in RUNTIME:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"__pycache__"}:
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
