"""Progress of long work: a bar on a terminal, on standard error; nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from receiver.cli.screen import console


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar that is gone at the end. Gives a function that is told how much is done by now.

    ``total``: how much there is to do; None when nobody knows, or when it is one step.
    """
    screen = console(error=True)
    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    counted = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()] if total is not None else []
    with Progress(*columns, *counted, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        shown = bar.add_task(doing, total=total)
        yield lambda done: bar.update(shown, completed=min(done, total) if total is not None else done)
