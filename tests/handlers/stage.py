"""The stage of the conformance suite: what a provider's test fills in, and a handler facing a fake provider."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

import handlers
from handlers import (
    Callbacks,
    ErrorCode,
    Handler,
    Notice,
    Receipt,
    Rejected,
    RemoteStatus,
    Reply,
    Submission,
    TaskUpdate,
    Unavailable,
)
from handlers._http import ProviderSession
from tests.handlers.fake_provider import Answer, Drip, FakeProvider, Hang, Script
from tests.handlers.samples import (
    CALLBACK_URL,
    NOW,
    ErrorSample,
    Meaning,
    NoticeSample,
    QuerySample,
    SubmitSample,
    sane,
    sendable,
)

PATIENCE = 10.0  # seconds a call may take on a busy machine
HURRY = 0.25  # seconds a call may take where the provider is told never to finish its answer


class Stage(ABC):
    """The samples, and the means to try a handler on them."""

    provider: ClassVar[str]
    settings: ClassVar[Mapping[str, str]]
    credential_headers: ClassVar[Sequence[str]] = ()
    signature_headers: ClassVar[Sequence[str]] = ()
    submits: ClassVar[Sequence[SubmitSample]]
    queries: ClassVar[Sequence[QuerySample]]
    errors: ClassVar[Sequence[ErrorSample]]
    notices: ClassVar[Sequence[NoticeSample]] = ()
    bad_notices: ClassVar[Sequence[Notice]] = ()
    junk_reply: ClassVar[Reply | None] = None
    finds_lost: ClassVar[bool] = False  # it can find a task at the provider without the provider's id
    refusal_is_certain: ClassVar[bool] = True  # HTTP 429 to a submit surely started nothing

    @abstractmethod
    def with_status(self, sample: QuerySample, word: str) -> Answer:
        """The sample's answer with this word as the provider's status of the task."""

    # -- the stage ---------------------------------------------------------------------------------

    @pytest.fixture
    def remote(self) -> Iterator[FakeProvider]:
        """The provider's side."""
        with FakeProvider() as provider:
            yield provider

    @pytest.fixture
    def handler(self, remote: FakeProvider) -> Handler:
        """The handler, pointed at the fake provider."""
        return self.make(remote.url)

    def make(self, base_url: str, **more: str) -> Handler:
        """A handler with the sample settings and others on top of them."""
        handler = handlers.load(self.provider, {**self.settings, "base_url": base_url, **more}, clock=lambda: NOW)
        return self.patience(handler, PATIENCE)

    def patience(self, handler: Handler, seconds: float) -> Handler:
        """The handler, giving up on a call after this long."""
        for value in vars(handler).values():
            if isinstance(value, ProviderSession):
                value.total_timeout = seconds
        return handler

    def endure(self, handler: Handler, fault: Script) -> None:
        """Shorten the handler's patience where the provider would use up all of it."""
        self.patience(handler, HURRY if isinstance(fault, Hang | Drip) else PATIENCE)

    def submit(self, handler: Handler, sample: SubmitSample, **more: Any) -> Receipt:
        """Validate like the service does, and submit."""
        loaded = handler.operations[sample.operation].schema().load({**sample.input, **more})
        url = sample.callback_url
        if url is None and handler.operations[sample.operation].callbacks:
            url = CALLBACK_URL if handler.callbacks is not Callbacks.NONE else None
        return handler.submit(Submission("task_1", sample.operation, loaded, url))

    def secrets(self) -> list[str]:
        """The texts that must never be shown."""
        options = handlers.options_of(handlers.find(self.provider))
        return [self.settings[option.name] for option in options if option.secret and option.name in self.settings]

    def assert_no_secret(self, shown: str) -> None:
        """Fail when a secret can be read in the text."""
        for secret in self.secrets():
            assert secret not in shown

    def assert_meaning(self, meaning: Meaning, sample: ErrorSample, call: Any) -> None:
        """Make the call and compare what it means with what the sample says."""
        if isinstance(meaning, RemoteStatus):
            (update,) = call().values()
            assert update.status is meaning
            return
        expected = Rejected if isinstance(meaning, ErrorCode) else meaning
        assert expected is not None
        with pytest.raises(expected) as caught:
            call()
        assert type(caught.value) is expected
        self.assert_no_secret("".join(traceback.format_exception(caught.value)) + repr(caught.value))
        if isinstance(caught.value, Rejected):
            assert caught.value.error.code is meaning
            assert sendable(caught.value.error)
            self.assert_no_secret(str(caught.value.error))
        if isinstance(caught.value, Unavailable) and sample.retry_after is not None:
            assert caught.value.retry_after == sample.retry_after

    def assert_update(self, update: TaskUpdate, sample: QuerySample | NoticeSample) -> None:
        """Compare an update with what its sample says."""
        assert update.status is sample.status, sample
        assert [output.kind for output in update.outputs] == list(sample.kinds), sample
        assert (update.error.code if update.error else None) is sample.error, sample
        assert sane(update)
