"""Which lanes of the workers have something to do after a change."""

from __future__ import annotations

from collections.abc import Iterable

from receiver.bell import DELIVER, query_lane, submit_lane
from receiver.models import Task
from receiver.providers import Providers


def lanes_after(changed: Iterable[Task], providers: Providers) -> set[str]:
    """The lanes that have work now that these tasks have changed, as the bell names them.

    Their news are to be delivered, and who still runs may be asked after at once. The end of one makes room for
    another where its provider takes so many at a time.
    """
    lanes = {DELIVER}
    for task in changed:
        if not task.status.final:
            lanes.add(query_lane(task.provider))
        elif providers.get(task.provider).pace.max_in_flight is not None:
            lanes.add(submit_lane(task.provider))
    return lanes
