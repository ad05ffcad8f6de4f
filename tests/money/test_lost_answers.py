"""The answer to a submission is lost, in every way, at every provider: nothing is bought twice, nothing hangs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from handlers import ErrorCode
from receiver.models import Task, TaskStatus
from tests.databases import Template
from tests.money.mint import Mint, minting
from tests.story.samples import IMG_SD, IMG_TOOL, SUPERAPP, TOPVIEW, VOD, Sample
from tests.story.system import PROVIDERS
from tests.subscriber import refused_port

SAMPLES = (TOPVIEW, SUPERAPP, VOD, IMG_SD, IMG_TOOL)

LOSSES: dict[str, tuple[str, bool]] = {
    # a way to lose an answer, and whether the provider had started the task by then
    "reset after it was taken": ("drop", True),
    "reset before it was taken": ("drop-before=1", False),
    "HTTP 429": ("http=429*1", False),
    "HTTP 500": ("http=500*1", False),
    "HTTP 502": ("http=502*1", False),
    "HTTP 503": ("http=503*1", False),
    "HTTP 504": ("http=504*1", False),
    "time-out": ("slow=40", True),
}


def test_every_loss_at_every_provider(
    tmp_path: Path, migrated: Template, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Img Open is repeated under its own id; a callback saves what runs; the rest fails as submission_unknown."""
    monkeypatch.setattr("handlers._http.THROTTLED", 0.2)
    with minting(tmp_path, migrated) as mint:
        # Short patience is for what never answers in time: on a busy machine any other answer may take a second.
        with _impatience(mint, 1.0):
            sent = list(_losses(mint, "time-out"))
            for _, _, task in sent:
                mint.until(partial(mint.steps, task, "submit"))
        sent += _losses(mint, *(loss for loss in LOSSES if loss != "time-out"))
        found = {}
        for sample, loss, task in sent:
            ended = mint.ended(task)
            found[str(sample), loss] = (ended.status, mint.starts(f"{sample}-{list(LOSSES).index(loss)}"))
            if ended.status is TaskStatus.FAILED:
                assert ended.error_json is not None
                assert f'"{ErrorCode.SUBMISSION_UNKNOWN}"' in ended.error_json, (sample, loss)
                known = mint.steps(ended, "submit")
                assert [step["outcome"] for step in known] == ["unknown"], "what was known is in the timeline"
        assert found == {(str(sample), loss): _expected(sample, loss) for sample, loss, _ in sent}


def _losses(mint: Mint, *losses: str) -> Iterator[tuple[Sample, str, Task]]:
    """Submit one task of every sample for each of these losses: the sample, the loss, the task."""
    for sample, loss in product(SAMPLES, losses):
        place = list(LOSSES).index(loss)
        yield sample, loss, mint.submit(sample, LOSSES[loss][0], f"key={sample}-{place}", deadline=12)


@contextmanager
def _impatience(mint: Mint, seconds: float) -> Iterator[None]:
    """Have calls to every provider wait only so long for their answer."""
    sessions = [mint.session(provider) for provider in PROVIDERS]
    usual = [session.total_timeout for session in sessions]
    for session in sessions:
        session.total_timeout = seconds
    try:
        yield
    finally:
        for session, timeout in zip(sessions, usual, strict=True):
            session.total_timeout = timeout


def _expected(sample: Sample, loss: str) -> tuple[TaskStatus, int]:
    """How a task must end, and how often it may be started."""
    started = LOSSES[loss][1]
    if sample.provider == "img_open":
        return TaskStatus.SUCCEEDED, 1
    if sample is VOD and loss == "HTTP 503":
        return TaskStatus.SUCCEEDED, 1  # its own ServiceUnavailable: documented as safe to try again
    if loss == "HTTP 429" and sample.provider != "superapp":
        return TaskStatus.SUCCEEDED, 1  # nothing was started; of SuperApp nobody says so
    if started and sample.calls_back:
        return TaskStatus.SUCCEEDED, 1
    return TaskStatus.FAILED, int(started)


def test_a_provider_that_cannot_be_reached(tmp_path: Path, migrated: Template, toy: None) -> None:
    """No connection, nothing bought: the tasks wait in the queue, and are started once when it is back."""
    with minting(tmp_path, migrated) as mint:
        samples = (TOPVIEW, SUPERAPP, VOD, IMG_SD)
        real: dict[str, str] = {}
        with refused_port() as port:
            for sample in samples:
                session = mint.session(sample.provider)
                real[sample.provider] = session.base_url
                session.base_url = f"http://127.0.0.1:{port}/{sample.provider}"
            sent = [mint.submit(sample, f"key={sample}-away") for sample in samples]
            for task in sent:
                mint.until(partial(mint.steps, task, "submit"))
                assert mint.task(task).status in (TaskStatus.QUEUED, TaskStatus.SUBMITTING)
        for name, url in real.items():
            mint.session(name).base_url = url
        for sample, task in zip(samples, sent, strict=True):
            assert mint.ended(task).status is TaskStatus.SUCCEEDED
            assert mint.starts(f"{sample}-away") == 1
            outcomes = [step["outcome"] for step in mint.steps(task, "submit")]
            assert outcomes[0] == "unavailable"
            assert outcomes[-1] == "accepted"


@pytest.mark.process
def test_a_worker_that_is_killed_in_the_middle_of_a_submission(tmp_path: Path, migrated: Template, toy: None) -> None:
    """The provider has the call, we have no answer and no process: one start each, and every task comes to an end."""
    with minting(tmp_path, migrated, False, RECEIVER_LEASE="3") as mint:
        first = mint.worker(1)
        try:
            mint.until(lambda: "worker started" in first.log.read_text(), 60)  # the tasks' time runs from here
            # The provider looks at each call after a second, and starts the task whether or not we live. Their deadline
            # leaves the second worker time to find them, on a machine that stood still too.
            sent = [mint.submit(sample, "slow=20", f"key={sample}-killed", deadline=12) for sample in SAMPLES]
            mint.until(lambda: {mint.task(task).status for task in sent} == {TaskStatus.SUBMITTING})
            mint.until(lambda: mint.calls() == len(SAMPLES))
        finally:
            first.popen.kill()
            first.popen.wait()
        second = mint.worker(2)
        try:
            ended = {str(sample): mint.ended(task).status for sample, task in zip(SAMPLES, sent, strict=True)}
        finally:
            assert second.stop() == 0
        assert ended == {str(sample): _expected(sample, "time-out")[0] for sample in SAMPLES}
        assert {mint.starts(f"{sample}-killed") for sample in SAMPLES} == {1}
