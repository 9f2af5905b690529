"""What is deployed: how long each function takes to begin, against a bare boto3 client, and how large its layer is."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from io import BytesIO
from pathlib import Path
from time import perf_counter

from tests.artifact.build import Built
from tests.benchmarks.measure import Contestant, Row, Target, compare, verdict

TURNS = 20
HTTP: Target = ("≤", 1.5)
EVENT: Target = ("≤", 1.25)
FUNCTIONS: dict[str, Target] = {
    **dict.fromkeys(
        ("PracticesFunction", "PreferencesFunction", "ConsentsFunction", "MessagesFunction", "BulkFunction"), HTTP
    ),
    "PageFunction": HTTP,
    **dict.fromkeys(("RunAutomationFunction", "RecordReplyFunction", "RecordReceiptFunction"), EVENT),
    **dict.fromkeys(("LookUpNumberFunction", "WatchDueFunction", "PublishEventsFunction"), EVENT),
    **dict.fromkeys(("SendMessageFunction", "StartBulkFunction", "RouteBatchFunction"), EVENT),
}
BOTO3 = "import boto3; boto3.client('dynamodb')"
# Outside any environment: what is imported comes from the folder on PYTHONPATH alone, for functions and boto3 alike.
PYTHON = Path(sys.executable).resolve()
LAYER_MEGABYTES: Target = ("≤", 12)


def measured(built: Built) -> list[Row]:
    """Measure whole processes from their start to their end, and the layer's zip."""
    environment, layer = Path(sysconfig.get_path("purelib")), built.layer_of_this_machine / "python"
    contestants = {f'process: python -c "{BOTO3}"': _process(BOTO3, environment, built.layer)}
    for name in FUNCTIONS:
        contestants[f"process: init of {name}"] = _process("import handler", layer, built.functions / name)
    targets = {f"process: init of {name}": target for name, target in FUNCTIONS.items()}
    return [*compare(contestants, targets, "ms", TURNS), _size(built.layer)]


def _process(code: str, packages: Path, folder: Path) -> Contestant:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packages),
        # As in Lambda, where the function's own folder cannot be written: its handler is compiled every time.
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }

    def contestant() -> float:
        began = perf_counter()
        subprocess.run([PYTHON, "-s", "-c", code], cwd=folder, env=environment, check=True)
        return perf_counter() - began

    return contestant


def _size(layer: Path) -> Row:
    zipped = BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in layer.rglob("*"):
            archive.write(file, file.relative_to(layer))
    megabytes = len(zipped.getvalue()) / 1e6
    return ("layer: its zip", f"{megabytes:.1f} MB", "", verdict(megabytes, LAYER_MEGABYTES))
