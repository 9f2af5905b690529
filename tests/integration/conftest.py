"""The service as tests find it: deployed once per module, empty for each test."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.bulk import leave_started
from tests.integration.sending import CLINIC, leave_unknown
from tests.integration.service import CONTACT_INFO, PRACTICE, REMINDER, WAITING, Service, deployed


@pytest.fixture(scope="module")
def once_deployed() -> Iterator[Service]:
    with deployed() as service:
        yield service


@pytest.fixture(scope="module")
def north_as_put(once_deployed: Service) -> Any:
    """A table with the practice `north`, its automation `reminder` and its patient `p-1`, put in over HTTP."""
    assert once_deployed.put("north", PRACTICE).status == 200
    assert once_deployed.put("north/automations/reminder", REMINDER).status == 200
    assert once_deployed.put("north/patients/p-1/contact-info", CONTACT_INFO).status == 200
    snapshot = once_deployed.snapshot()
    once_deployed.forget()
    return snapshot


@pytest.fixture
def service(once_deployed: Service) -> Iterator[Service]:
    """The deployed service, with nothing in it."""
    yield once_deployed
    once_deployed.forget()


@pytest.fixture
def north(service: Service, north_as_put: Any) -> Service:
    """The service with the practice `north`, its automation `reminder` and its patient `p-1`."""
    service.restore(north_as_put)
    return service


@pytest.fixture(scope="module")
def waiting_as_put(once_deployed: Service, north_as_put: Any) -> Any:
    """The same, after a reply that staff must read, a message of which nobody knows whether it was sent, and bulks."""
    once_deployed.restore(north_as_put)
    assert once_deployed.record_replies(WAITING) == []
    assert once_deployed.put("north", CLINIC).status == 200
    leave_unknown(once_deployed, "key-0")
    leave_started(once_deployed)
    assert once_deployed.put("north", PRACTICE).status == 200
    snapshot = once_deployed.snapshot()
    once_deployed.forget()
    return snapshot


@pytest.fixture
def waiting(service: Service, waiting_as_put: Any) -> Service:
    """The service with the practice `north`, where a reply, a message, and bulks, all of its patient `p-1`, wait."""
    service.restore(waiting_as_put)
    return service


@pytest.fixture
def time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sleeps wakes at once, that much later: what waits for seconds is tested without waiting."""
    monotonic, slept = time.monotonic, [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + slept[0])
