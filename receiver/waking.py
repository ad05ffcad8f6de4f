"""Which lanes of the workers have something to do after a change."""

from __future__ import annotations

from collections.abc import Iterable

from receiver.bell import DELIVER, query_lane, submit_lane
from receiver.models import Task
from receiver.providers import Providers


def lanes_after(changed: Iterable[Task], providers: Providers) -> set[str]:
    """The lanes that have work now that these tasks have changed, as the bell names them.

    Their events are to be delivered, and those that still run may be due to be asked about. Where a provider takes only
    so many at a time, the end of one makes room for another.
    """
    lanes = {DELIVER}
    for task in changed:
        if not task.status.final:
            lanes.add(query_lane(task.provider))
        elif providers.get(task.provider).pace.max_in_flight is not None:
            lanes.add(submit_lane(task.provider))
    return lanes
