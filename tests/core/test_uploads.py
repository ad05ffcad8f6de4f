"""Uploads: the bytes go where the provider says, if that is an address we may dial."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from handlers import ErrorCode, NotSupported, Rejected, TaskError, Unavailable, Upload, UploadTicket
from receiver import dialling
from receiver.errors import Invalid, NotFound, ProviderFailed, ProviderOff
from tests.core.stage import Stage
from tests.subscriber import Subscriber, answer, stay_on_loopback

CAT = Upload("cat.png", "image/png", 3)


def takes_uploads(stage: Stage, monkeypatch: pytest.MonkeyPatch, url: str, finish: Any = None) -> None:
    """Make the toy a provider that names this address for uploads."""
    for name, value in {
        "takes_uploads": True,
        "begin_upload": lambda upload: UploadTicket("file-1", url, {"X-Proof": "p"}),
        "finish_upload": finish or (lambda ticket: {"fileId": ticket.file_id}),
    }.items():
        monkeypatch.setattr(stage.handler, name, value, raising=False)


def upload(stage: Stage, provider: str = "toy") -> Any:
    """Three bytes for a provider."""
    return stage.runtime.direct.upload(provider, CAT, io.BytesIO(b"cat"))


def test_the_bytes_are_put_where_the_provider_says(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly they, with the ticket's headers and nothing of ours; the caller gets the provider's id."""
    with Subscriber(answer(200)) as storage:
        takes_uploads(stage, monkeypatch, storage.url)
        done = upload(stage)
        (request,) = storage.requests
    assert (done.file_id, done.filename, done.size, done.details) == ("file-1", "cat.png", 3, {"fileId": "file-1"})
    assert (request.method, request.body, request.header("x-proof")) == ("PUT", b"cat", "p")
    assert request.header("authorization") is None


def test_an_inner_address_is_never_dialled(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's answer cannot make us reach into our own network."""
    stage: Stage = build(RECEIVER_ALLOWED_NETWORKS="")
    dialled: list[Any] = []
    stay_on_loopback(monkeypatch)
    monkeypatch.setattr(dialling, "_connect", lambda *where: dialled.append(where))
    for url in ("http://127.0.0.1:1/x", "https://169.254.169.254/x", "https://[::1]/x", "ftp://x/"):
        takes_uploads(stage, monkeypatch, url)
        with pytest.raises(ProviderFailed):
            upload(stage)
    assert dialled == []


def test_failures_say_who_must_act(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that refuses, a provider that refuses or is away: an error that tells which, and whether to try again."""
    with Subscriber(answer(403)) as storage:
        takes_uploads(stage, monkeypatch, storage.url)
        with pytest.raises(ProviderFailed, match="storage") as caught:
            upload(stage)
        assert caught.value.temporary
        storage.script(answer(200))

        def away(_: UploadTicket) -> Any:
            raise Unavailable("not there yet", 4.0)

        takes_uploads(stage, monkeypatch, storage.url, away)
        with pytest.raises(ProviderFailed) as caught:
            upload(stage)
        assert (caught.value.temporary, caught.value.retry_after) == (True, 4.0)

        def refuse(code: ErrorCode) -> Any:
            def finish(_: UploadTicket) -> Any:
                raise Rejected(TaskError(code, "no", provider_code="4xx"))

            return finish

        takes_uploads(stage, monkeypatch, storage.url, refuse(ErrorCode.INSUFFICIENT_CREDIT))
        with pytest.raises(ProviderFailed, match="4xx") as caught:
            upload(stage)
        assert not caught.value.temporary
        takes_uploads(stage, monkeypatch, storage.url, refuse(ErrorCode.INVALID_INPUT))
        with pytest.raises(Invalid) as wrong:
            upload(stage)
        assert set(wrong.value.errors) == {"file"}


def test_lists_of_a_provider_are_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the provider gives them; its refusal and its absence are told apart from a list that does not exist."""
    given: list[Any] = [
        {"voices": [1]},
        NotSupported("no such list"),
        Unavailable("away", 3.0),
        Rejected(TaskError(ErrorCode.INVALID_INPUT, "bad page")),
    ]

    def fetch(resource: str, params: Mapping[str, str]) -> Any:
        found = given.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(stage.handler, "resources", {"voices": "all of them"}, raising=False)
    monkeypatch.setattr(stage.handler, "fetch", fetch, raising=False)
    direct = stage.runtime.direct
    assert direct.fetch("toy", "voices", {"page": "1"}) == {"voices": [1]}
    for error in (NotFound, ProviderFailed, Invalid):
        with pytest.raises(error):
            direct.fetch("toy", "voices", {})


def test_who_takes_no_uploads_says_so(stage: Stage) -> None:
    """A provider without uploads, one that is off, one that does not exist; and lists that do not."""
    for provider, error in (("toy", Invalid), ("nobody", Invalid), ("topview", ProviderOff)):
        with pytest.raises(error):
            upload(stage, provider)
    with pytest.raises(NotFound, match="no resource"):
        stage.runtime.direct.fetch("toy", "voices", {})
