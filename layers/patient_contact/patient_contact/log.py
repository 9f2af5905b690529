"""What is logged and counted: structured, and never a patient's id, number, address or words.

I/O.
"""

import hashlib
import hmac
import traceback
from threading import Lock

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from patient_contact import settings

NAMESPACE = "PatientContact"
_ONE_LINE = Lock()


def failure(logger: Logger, message: str, error: BaseException) -> None:
    """Log what failed and where: the error's type and the lines it came through, not its words, which may be PHI."""
    frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-8:]]
    logger.error(message, error_type=type(error).__name__, frames=frames)


def audit(logger: Logger, *, sub: str, practice_id: str, route: str, status: int, patients: list[str]) -> None:
    """Log who did what to whom; patients are keyed hashes, so that an auditor can look for one they know."""
    logger.info("audit", sub=sub, practice_id=practice_id, route=route, status=status, patients=patients)


def keyed_hash(*ids: str) -> str:
    """Give the keyed hash (HMAC-SHA-256) of `practice/patient`, under which audit lines speak of a patient."""
    return hmac.new(settings.audit_key(), "/".join(ids).encode(errors="replace"), hashlib.sha256).hexdigest()


def count(metric: str, service: str, reason: str, number: int = 1) -> None:
    """Count one message, reply, receipt or dead-lettered event, or a number of them, by its reason or class."""
    # Threads would write into each other's lines.
    with (
        _ONE_LINE,
        single_metric(
            name=metric,
            unit=MetricUnit.Count,
            value=number,
            namespace=NAMESPACE,
            default_dimensions={"service": service, "reason": reason},
        ),
    ):
        pass


def measure(metric: str, service: str, value: int) -> None:
    """Say how many of something there are now."""
    with single_metric(
        name=metric,
        unit=MetricUnit.Count,
        value=value,
        namespace=NAMESPACE,
        default_dimensions={"service": service},
    ):
        pass
