"""Shows how far long lists have come: a bar on a terminal, a line for each tenth where there is none."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from patient_contact import bulk, bulks

EVERY_SECONDS = 0.5
WIDTH = 30
# A list that fits into one chunk is over before anybody looks.
LONG = 100
OVER = ("completed", "cancelled", "failed")


class Progress:
    """The broadcasts, campaigns and dry runs under way, as the bus has named them."""

    def __init__(self, show: Callable[[str, bool], object]) -> None:
        self._show = show
        self._under_way: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def begin(self, practice_id: str, bulk_id: str) -> None:
        """Watch one, whose list is about to be read."""
        with self._lock:
            self._under_way.setdefault((practice_id, bulk_id), -1)

    def watch(self, stopping: threading.Event) -> None:
        """Show them until told to stop."""
        while not stopping.wait(EVERY_SECONDS):
            with self._lock:
                under_way = list(self._under_way.items())
            for ids, shown in under_way:
                item = bulks.read(*ids)
                if item is not None:
                    self._look(ids, item, shown)

    def _look(self, ids: tuple[str, str], item: Mapping[str, Any], shown: int) -> None:
        total, over = item.get("total", 0), bulk.rows_over(item)
        is_over = bulk.state(item) in OVER
        tenth = over * 10 // total if total else 0
        if total > LONG or (is_over and bulk.rows_done(item) > LONG):
            self._show(bar(ids[1], item, datetime.now(UTC)), is_over or tenth != shown)
        with self._lock:
            self._under_way[ids] = tenth
            if is_over:
                del self._under_way[ids]


def bar(bulk_id: str, item: Mapping[str, Any], now: datetime) -> str:
    """Give how far one has come, in a line."""
    told = bulk.progress(item, now)
    over, total = bulk.rows_over(item), told["total"] or 0
    share = over / total if total else 0.0
    filled = round(share * WIDTH)
    kind = "dry run" if item["dry_run"] else item["kind"]
    parts = [f"{over:,} of {total:,}", told["state"]]
    if told["rate"] is not None:
        parts.append(f"{told['rate']:,.0f} a second")
    if told["estimated_end"] is not None:
        parts.append(f"{(told['estimated_end'] - now).total_seconds():,.0f} s left")
    return f"{kind} {bulk_id[:8]} [{'#' * filled}{'.' * (WIDTH - filled)}] {share:4.0%}  {', '.join(parts)}"
