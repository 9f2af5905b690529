"""Runs invocations of functions step by step: each stops before and after every call of AWS until it may go on.

At any moment one of them runs at most, so that what happens follows from the order in which they are let on.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Longer than anything takes that is not stuck.
PATIENCE = 60


class Killed(BaseException):
    """The process ends here: nothing that follows happens. No `except Exception` may catch it."""


class Invocation:
    """A function at work in its own thread: where it stands, and what it answered when it is done."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.at = "the beginning"
        self.is_done = False
        self.was_killed = False
        self.answer: Any = None
        # Whatever whoever watches the calls wants to remember of this invocation.
        self.notes: dict[str, Any] = {}
        self._work = work
        self._kill = False
        self._may_go_on = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin; it runs when it is let on."""
        self._thread.start()

    def stop_at(self, place: str) -> None:
        """Stop until it may go on; called by the invocation's own thread, or one that it has started."""
        self.at = place
        self._stopped.set()
        self._wait_to_go_on()

    def go_on(self, *, kill: bool) -> None:
        """Let it run to its next stop or its end, or kill it where it stands."""
        self._kill = self._kill or kill
        self._stopped.clear()
        self._may_go_on.set()
        if not self._stopped.wait(PATIENCE):
            raise AssertionError(f"stuck after {self.at}")
        if self.is_done:
            self._thread.join()

    def _wait_to_go_on(self) -> None:
        self._may_go_on.wait()
        self._may_go_on.clear()
        if self._kill:
            raise Killed

    def _run(self) -> None:
        try:
            self._wait_to_go_on()
            self.answer = self._work()
        except Killed:
            self.was_killed = True
        finally:
            self.is_done = True
            self._stopped.set()


class Interleaving:
    """The invocations under way, and the one that runs now."""

    def __init__(self) -> None:
        self.under_way: list[Invocation] = []
        self.running: Invocation | None = None

    def start(self, work: Callable[[], Any]) -> Invocation:
        """Add an invocation, which stands at its beginning."""
        invocation = Invocation(work)
        self.under_way.append(invocation)
        invocation.start()
        return invocation

    def step(self, invocation: Invocation, *, kill: bool = False) -> None:
        """Let an invocation run to its next stop, or kill it."""
        self.running = invocation
        try:
            invocation.go_on(kill=kill)
        finally:
            self.running = None
        if invocation.is_done:
            self.under_way.remove(invocation)

    def kill_all(self) -> None:
        """Kill all that are under way."""
        while self.under_way:
            self.step(self.under_way[0], kill=True)

    def stop_at(self, place: str) -> None:
        """Stop whoever runs now, unless that is no invocation of ours."""
        if self.running is not None:
            self.running.stop_at(place)

    @contextmanager
    def watching(self, client: Any, before: Callable[[str, dict[str, Any]], object]) -> Iterator[None]:
        """Stop before and after each call of a client; `before` sees operation and request when it really begins."""
        prefix = client.meta.service_model.service_id.hyphenize()

        def before_call(model: Any, params: dict[str, Any], **_: object) -> None:
            self.stop_at(f"before {model.name}")
            body = params["body"]
            before(model.name, json.loads(body) if isinstance(body, str | bytes) and body else {})

        def after_call(model: Any, **_: object) -> None:
            self.stop_at(f"after {model.name}")

        client.meta.events.register_first(f"before-call.{prefix}", before_call)
        client.meta.events.register_last(f"after-call.{prefix}", after_call)
        try:
            yield
        finally:
            client.meta.events.unregister(f"before-call.{prefix}", before_call)
            client.meta.events.unregister(f"after-call.{prefix}", after_call)
