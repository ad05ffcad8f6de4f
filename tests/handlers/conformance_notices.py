"""The part of the conformance suite that is about notices."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import BadNotice, BadSignature, Callbacks, Handler, Malformed, Notice
from tests.handlers.samples import NoticeSample, dump, hurried, mutations, sane, sendable
from tests.handlers.stage import Stage

JUNK = (
    b"",
    b"\0",
    b" ",
    b"null",
    b"true",
    b"1e999",
    b'"text"',
    b"[]",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe\xfa",
    b'{"a": "\xe9"}',
    b'{"taskId": "a\0b"}',
    b"<xml/>",
    b"a=1&b=2",
    b"{}",
)


class NoticeConformance(Stage):
    """What every handler promises about notices; handlers without callbacks pass for want of samples."""

    def test_notices_are_understood(self, handler: Handler) -> None:
        """A genuine notice is accepted, understood, kept as it came, and answered as the provider wants."""
        assert bool(self.notices) == (handler.callbacks is not Callbacks.NONE)
        for sample in self.notices:
            handler.verify(sample.notice)
            update = handler.read(sample.notice)
            self.assert_update(update, sample)
            assert update.raw == sample.body.decode()
            if sample.reply is not None:
                assert handler.reply(sample.notice) == sample.reply

    def test_repeated_notices_have_one_identity(self, handler: Handler) -> None:
        """The same notice sent twice is recognised, whenever it comes; another one is told apart."""
        seen = set()
        for sample in self.notices:
            first = handler.notice_id(sample.notice)
            later = replace(sample, received_at=sample.received_at + 60_000)
            assert handler.notice_id(later.notice) == first
            assert first is None or (first.strip() and first not in seen)
            seen.add(first)
            assert handler.reply(later.notice) == handler.reply(sample.notice)

    def test_notices_without_a_task_need_the_providers_signature(self, handler: Handler) -> None:
        """At the provider-wide address only what the provider itself signed is taken."""
        for sample in self.notices:
            bare = {k: v for k, v in sample.headers.items() if k not in self.signature_headers}
            with pytest.raises(BadSignature):
                handler.verify(replace(sample, task=None, headers=bare).notice)

    def test_altered_signatures_are_refused(self, handler: Handler) -> None:
        """A missing or changed part of the provider's signature is refused; so is a changed body it covers."""
        if handler.callbacks is Callbacks.SIGNED:
            assert self.signature_headers
        signed = [s for s in self.notices if set(self.signature_headers) & set(s.headers)]
        for sample in signed if self.signature_headers else []:
            for name in self.signature_headers:
                value = sample.headers[name]
                altered = value[:-1] + ("0" if value[-1] != "0" else "1")
                rest = {k: v for k, v in sample.headers.items() if k != name}
                for headers in (rest, *({**rest, name: text} for text in (altered, "", "é\udcff", value * 9, "-1"))):
                    with pytest.raises(BadSignature):
                        handler.verify(replace(sample, headers=headers).notice)
            if handler.signature_covers_body:
                with pytest.raises(BadSignature):
                    handler.verify(replace(sample, body=sample.body + b" ").notice)

    def test_bad_notices_are_refused(self, handler: Handler) -> None:
        """Forged and foreign notices are refused before they have any effect."""
        for notice in self.bad_notices:
            with pytest.raises(BadNotice):
                self.accept(handler, notice)

    def test_a_notice_about_another_task_is_refused(self, handler: Handler) -> None:
        """A genuine notice that comes to another task's address, which whoever knows both could send, is not its."""
        for sample in self.notices:
            if sample.task is not None:
                other = replace(sample.task, task_id="task_2", provider_task_id="remote-2")
                with pytest.raises(BadNotice):
                    self.accept(handler, replace(sample, task=other).notice)

    def test_junk_notices_are_malformed_and_still_answered(self, handler: Handler) -> None:
        """A body that is no notice is refused as Malformed; its answer can be made all the same."""
        for sample in self.notices[:1]:
            for body in JUNK:
                notice = replace(sample, body=body).notice
                with pytest.raises(Malformed):
                    handler.read(notice)
                self.identify(handler, notice)
                reply = handler.reply(notice)
                assert self.junk_reply is None or reply == self.junk_reply

    def test_nonsense_in_a_notice_never_crashes(self, handler: Handler) -> None:
        """Whatever JSON comes as a notice, it is understood or refused, and can be answered."""
        for sample in self.notices:

            @hurried(mutations(json.loads(sample.body)))
            def check(value: Any, sample: NoticeSample = sample) -> None:
                notice = replace(sample, body=dump(value)).notice
                reply = handler.reply(notice)
                assert isinstance(reply.body, bytes)
                self.identify(handler, notice)
                try:
                    handler.verify(notice)
                    assert sane(handler.read(notice))
                except BadNotice:
                    return

    def accept(self, handler: Handler, notice: Notice) -> None:
        """What the service does with a notice before it has any effect."""
        handler.verify(notice)
        handler.read(notice)

    def identify(self, handler: Handler, notice: Notice) -> None:
        """``notice_id`` never raises, not even for junk."""
        found = handler.notice_id(notice)
        assert found is None or (isinstance(found, str) and sendable(found))
