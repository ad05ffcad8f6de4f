"""What every handler promises, as tests that a provider's test file inherits.

How to use it. In ``tests/handlers/test_<provider>.py``::

    from tests.handlers.conformance import ErrorSample, HandlerConformance, NoticeSample, QuerySample, SubmitSample

    class TestConformance(HandlerConformance):
        provider = "superapp"
        settings = {"access_key": "ak-visible", "secret_key": "sk-secret-0001"}   # texts, all credentials
        credential_headers = ("X-Access-Key",)     # the only headers in which a *secret* option may appear
        submits = [SubmitSample("text2image", {...}, answers=[json_answer({...})], provider_task_id="...")]
        queries = [QuerySample("text2image", json_answer({...}), RemoteStatus.SUCCEEDED, kinds=("image",))]
        errors = [ErrorSample(json_answer({...}), on_submit=ErrorCode.INVALID_INPUT, on_query=Unavailable)]
        notices = [...]; bad_notices = [...]; junk_reply = Reply(...)               # if it calls back
        def with_status(self, sample, word): ...  # the sample's JSON with another status word in it

* ``submits``: at least one sample per operation. ``answers`` are the provider's answers to the calls that
  one submit makes, in order; only the last call starts work (``starts_work`` says otherwise).
* ``queries``: one sample per state worth telling apart. ``state`` is what the receipt's state was.
* ``errors``: an answer, and what it means on submit and on query: an exception class, or an ErrorCode
  (Rejected with that code), or a RemoteStatus (a TaskUpdate with that status); None: not tried.
* ``notices``: notices as the provider sends them, ``headers`` in lower case. A handler whose notices are
  signed lists ``signature_headers``; the suite removes and alters each. ``url`` is what we gave out.
* The suite finds the handler's ``ProviderSession`` attributes and shortens their time-outs where needed.

A promise that does not hold for a provider is not switched off here: talk about it first.
"""

from __future__ import annotations

import copy
import json
import traceback
from dataclasses import replace
from typing import Any

import pytest
from marshmallow import ValidationError

import handlers
from handlers import (
    Callbacks,
    ErrorCode,
    Handler,
    HandlerError,
    OutcomeUnknown,
    RemoteStatus,
    Submission,
    Unavailable,
)
from tests.handlers.conformance_notices import NoticeConformance
from tests.handlers.fake_provider import (
    HTML_500,
    Answer,
    Close,
    Cut,
    Drip,
    FakeProvider,
    Hang,
    Reset,
    Script,
    unreachable_url,
)
from tests.handlers.samples import (
    CALLBACK_URL,
    NOW,
    ErrorSample,
    NoticeSample,
    QuerySample,
    SubmitSample,
    dump,
    hurried,
    json_schema,
    mutations,
    sane,
    sendable,
    texts_in,
)

__all__ = [
    "CALLBACK_URL",
    "NOW",
    "ErrorSample",
    "HandlerConformance",
    "NoticeSample",
    "QuerySample",
    "SubmitSample",
]

LOST: tuple[Script, ...] = (Reset(), Close(), Hang(), HTML_500)
UNREADABLE: tuple[Script, ...] = (
    Drip(), Drip(headers=True), Answer(b"OK"), Answer(b"[" * 100_000), Answer(b""), Answer(b"\xff\xfe{}"),
)  # fmt: skip


class HandlerConformance(NoticeConformance):
    """Inherit, fill in the samples, and pytest runs every promise on them."""

    # -- what it says of itself --------------------------------------------------------------------

    def test_describes_itself(self, handler: Handler) -> None:
        """Name, title, documentation and sane defaults are there for listings and for the start-up check."""
        assert handler.name == self.provider
        assert handler.title
        assert handler.docs.startswith("https://")
        assert handler.base_url.startswith("https://")
        assert handler.pace.poll_schedule
        assert handler.pace.task_deadline >= 300
        assert handler.pace.submit_rate > 0
        assert handler.pace.query_rate > 0
        assert {option.name for option in handler.options if option.credential} <= set(self.settings)

    def test_every_option_explains_itself(self) -> None:
        """Each setting has a help sentence, and every secret is a credential or marked as secret."""
        for option in handlers.options_of(handlers.find(self.provider)):
            assert option.help
            assert option.name == option.name.lower()

    def test_missing_credentials_are_named(self) -> None:
        """A provider without its credentials is refused with the variables' names, without other values."""
        for option in handlers.find(self.provider).options:
            if option.credential:
                given = {name: text for name, text in self.settings.items() if name != option.name}
                with pytest.raises(handlers.ConfigurationError) as caught:
                    handlers.load(self.provider, given)
                assert handlers.variable_of(self.provider, option) in str(caught.value)
                self.assert_no_secret(str(caught.value))

    @pytest.mark.parametrize("text", ["first\nsecond line", "ключ", "a b", "a\x7f"])
    def test_a_credential_that_no_call_could_carry_is_refused(self, text: str) -> None:
        """A file of two lines for a key: said at the start, not "cannot be reached" until every task has expired."""
        options = [option for option in handlers.find(self.provider).options if option.credential]
        given = dict.fromkeys([option.name for option in options], text)
        with pytest.raises(handlers.ConfigurationError) as caught:
            handlers.parse_options(handlers.find(self.provider), given)
        assert len(caught.value.problems) == len(options)
        assert text not in str(caught.value)
        assert "second" not in str(caught.value)

    def test_secrets_do_not_show_in_a_repr(self, handler: Handler) -> None:
        """Printing a handler into a log does not print its secrets."""
        assert self.secrets()
        self.assert_no_secret(repr(handler))

    # -- inputs ------------------------------------------------------------------------------------

    def test_every_operation_has_a_sample(self, handler: Handler) -> None:
        """No operation escapes this suite."""
        assert {sample.operation for sample in self.submits} == set(handler.operations)
        assert all(name == operation.name for name, operation in handler.operations.items())

    def test_inputs_can_be_described_as_json_schema(self, handler: Handler) -> None:
        """Every input schema can be published as JSON Schema with its required fields."""
        for operation in handler.operations.values():
            schema = json_schema(operation.schema)
            assert schema["type"] == "object"
            required = {field.data_key or name for name, field in operation.schema().fields.items() if field.required}
            assert required == set(schema.get("required", []))
            json.dumps(schema)

    def test_required_fields_are_required(self, handler: Handler) -> None:
        """An input without a required field is refused, and the field is named."""
        for sample in self.submits:
            schema = handler.operations[sample.operation].schema
            for name in json_schema(schema).get("required", []):
                with pytest.raises(ValidationError) as caught:
                    schema().load({key: value for key, value in sample.input.items() if key != name})
                assert name in caught.value.normalized_messages()

    def test_unknown_fields_reach_the_provider(self, handler: Handler, remote: FakeProvider) -> None:
        """A field that the provider invents tomorrow works today."""
        for sample in self.submits:
            remote.answer(*sample.answers)
            self.submit(handler, sample, x_new_field="x-new-value")
            assert any(b"x_new_field" in request.raw for request in remote.requests), sample.operation

    def test_inputs_of_the_wrong_type_are_refused_or_taken_but_never_crash(self, handler: Handler) -> None:
        """Whatever JSON a caller sends as input, validation says yes or names what is wrong."""
        for sample in self.submits:
            schema = handler.operations[sample.operation].schema()

            @hurried(mutations(dict(sample.input)))
            def check(value: Any, schema: Any = schema) -> None:
                try:
                    schema.load(value)
                except ValidationError as error:
                    json.dumps(error.normalized_messages())

    # -- submit ------------------------------------------------------------------------------------

    def test_submit_gives_a_receipt(self, handler: Handler, remote: FakeProvider) -> None:
        """An accepted task yields the provider's id and its answer word for word."""
        for sample in self.submits:
            remote.answer(*sample.answers)
            receipt = self.submit(handler, sample)
            assert receipt.provider_task_id == sample.provider_task_id, sample.operation
            assert receipt.raw == sample.answers[-1].body.decode()
            assert json.loads(json.dumps(receipt.state)) == receipt.state
            assert len(remote.requests) == len(sample.answers)
            if sample.path is not None:
                assert remote.last.path == sample.path

    def test_submit_sends_the_callback_url_only_when_there_is_one(self, remote: FakeProvider) -> None:
        """The provider is told our address exactly when the operation can call back."""
        handler = self.make(remote.url)
        for sample in self.submits:
            if handler.callbacks is Callbacks.NONE or not handler.operations[sample.operation].callbacks:
                continue
            token = b"token-1"
            remote.answer(*sample.answers)
            self.submit(handler, sample)
            assert token in b"".join(request.raw for request in remote.requests), sample.operation
            remote.answer(*sample.answers)
            loaded = handler.operations[sample.operation].schema().load(dict(sample.input))
            handler.submit(Submission("task_1", sample.operation, loaded, None))
            assert token not in b"".join(request.raw for request in remote.requests), sample.operation

    def test_secrets_travel_only_where_they_must(self, handler: Handler, remote: FakeProvider) -> None:
        """A secret is never in a URL or a body, and only in the documented headers."""
        allowed = {name.lower() for name in self.credential_headers}
        seen = []
        for sample in self.submits:
            remote.answer(*sample.answers)
            self.submit(handler, sample)
            seen += remote.requests
        for query in self.queries:
            remote.answer(query.answer)
            handler.query([query.task])
            seen += remote.requests
        for request in seen:
            headers = "".join(value for name, value in request.headers if name.lower() not in allowed)
            self.assert_no_secret(request.target + headers + request.body.decode("utf-8", "replace"))

    def test_submit_changes_nothing_of_what_it_was_given(self, handler: Handler, remote: FakeProvider) -> None:
        """The stored input stays what the caller sent."""
        for sample in self.submits:
            remote.answer(*sample.answers)
            loaded = handler.operations[sample.operation].schema().load(copy.deepcopy(dict(sample.input)))
            before = copy.deepcopy(loaded)
            handler.submit(Submission("task_1", sample.operation, loaded, None))
            assert loaded == before

    def test_submit_to_nobody_is_unavailable(self) -> None:
        """A refused connection started nothing and may be tried again."""
        handler = self.make(unreachable_url())
        with pytest.raises(Unavailable) as caught:
            self.submit(handler, self.submits[0])
        self.assert_no_secret("".join(traceback.format_exception(caught.value)))

    @pytest.mark.parametrize("fault", LOST, ids=lambda fault: type(fault).__name__)
    def test_a_lost_answer_to_a_submit_is_an_unknown_outcome(
        self, handler: Handler, remote: FakeProvider, fault: Script
    ) -> None:
        """Whenever the work may have been started, nobody is told that it was not, and the call is not made again."""
        for sample in {len(sample.answers): sample for sample in self.submits}.values():
            for position, starts in enumerate(sample.starting):
                self.endure(handler, fault)
                remote.answer(*sample.answers[:position], fault)
                with pytest.raises(OutcomeUnknown if starts else Unavailable) as caught:
                    self.submit(handler, sample)
                assert len(remote.requests) == position + 1
                self.assert_no_secret("".join(traceback.format_exception(caught.value)))

    def test_a_broken_answer_to_a_submit_is_an_unknown_outcome(self, handler: Handler, remote: FakeProvider) -> None:
        """Half an answer, a dripping one, or one that is not JSON: the work may have been started."""
        sample = self.submits[0]
        for fault in (Cut(sample.answers[-1]), *UNREADABLE):
            self.endure(handler, fault)
            remote.answer(*sample.answers[:-1], fault)
            with pytest.raises(OutcomeUnknown):
                self.submit(handler, sample)

    def test_too_many_requests_says_when_to_come_back(self, handler: Handler, remote: FakeProvider) -> None:
        """HTTP 429 is try-later, with the provider's Retry-After; of a submit only where that surely did nothing."""
        remote.answer(Answer(b"slow down", 429, {"Retry-After": "7"}))
        if self.refusal_is_certain:
            with pytest.raises(Unavailable) as caught:
                self.submit(handler, self.submits[0])
            assert caught.value.retry_after == 7
        else:
            with pytest.raises(OutcomeUnknown) as unknown:
                self.submit(handler, self.submits[0])
            assert unknown.value.retry_after == 7
        with pytest.raises(Unavailable) as caught:
            handler.query([self.queries[0].task])
        assert caught.value.retry_after == 7

    def test_no_pause_is_longer_than_an_hour(self, handler: Handler, remote: FakeProvider) -> None:
        """A moment in time where seconds are meant, or another huge number, stops a provider for no more than that."""
        for header in ("1795255200", "1e17"):
            remote.answer(Answer(b"slow down", 429, {"Retry-After": header}))
            with pytest.raises(Unavailable) as caught:
                handler.query([self.queries[0].task])
            assert caught.value.retry_after == 3600

    # -- query -------------------------------------------------------------------------------------

    def test_query_understands_every_sample(self, handler: Handler, remote: FakeProvider) -> None:
        """Each state of the provider becomes the right state, outputs and error of ours; the raw text is kept."""
        for sample in self.queries:
            remote.answer(sample.answer)
            updates = handler.query([sample.task])
            assert set(updates) == {"task_1"}, sample
            update = updates["task_1"]
            self.assert_update(update, sample)
            assert update.raw == sample.answer.body.decode()

    def test_an_unknown_status_means_still_running(self, handler: Handler, remote: FakeProvider) -> None:
        """A status word nobody has heard of ends no task, and is reported so that it can be logged."""
        for sample in self.queries:
            if sample.status.final and sample.error in (None, ErrorCode.PROVIDER_ERROR):
                remote.answer(self.with_status(sample, "Zzz-Unheard-Of"))
                (update,) = handler.query([sample.task]).values()
                assert update.status is RemoteStatus.RUNNING
                assert update.unknown_status == "Zzz-Unheard-Of"

    def test_an_answer_about_another_task_says_nothing_of_ours(self, handler: Handler, remote: FakeProvider) -> None:
        """Nobody gets another's result: an answer that names a task counts for that task alone."""
        for sample in self.queries:
            if {sample.provider_task_id, sample.task.task_id} & set(texts_in(json.loads(sample.answer.body))):
                remote.answer(sample.answer)
                other = replace(sample.task, task_id="task_2", provider_task_id="remote-2")
                try:
                    updates = handler.query([other])
                except Unavailable:
                    continue
                assert updates == {}, sample

    @pytest.mark.parametrize("fault", LOST, ids=lambda fault: type(fault).__name__)
    def test_a_failed_query_says_nothing_of_the_task(
        self, handler: Handler, remote: FakeProvider, fault: Script
    ) -> None:
        """A query that got no answer can be asked again."""
        self.endure(handler, fault)
        remote.answer(fault)
        with pytest.raises(Unavailable) as caught:
            handler.query([self.queries[0].task])
        self.assert_no_secret("".join(traceback.format_exception(caught.value)))

    def test_a_broken_answer_to_a_query_says_nothing_of_the_task(self, handler: Handler, remote: FakeProvider) -> None:
        """Half an answer, a dripping one, or one that is not JSON: ask again later."""
        for fault in (Cut(self.queries[0].answer), *UNREADABLE):
            self.endure(handler, fault)
            remote.answer(fault)
            with pytest.raises(Unavailable):
                handler.query([self.queries[0].task])
        with pytest.raises(Unavailable):
            self.make(unreachable_url()).query([self.queries[0].task])

    def test_no_tasks_no_call(self, handler: Handler, remote: FakeProvider) -> None:
        """Asking for nothing costs nothing, and a task without the provider's id is left out."""
        nameless = replace(self.queries[0].task, provider_task_id=None)
        assert handler.query([]) == {}
        if not self.finds_lost:
            assert handler.query([nameless]) == {}
            assert remote.requests == []

    # -- errors and nonsense -----------------------------------------------------------------------

    def test_every_error_has_its_meaning(self, handler: Handler, remote: FakeProvider) -> None:
        """Each documented failure says who must act: the caller, the operator, or time."""
        sample, query = self.submits[0], self.queries[0]
        for error in self.errors:
            if error.on_submit is not None:
                remote.answer(*sample.answers[:-1], error.answer)
                self.assert_meaning(error.on_submit, error, lambda: self.submit(handler, sample))
            if error.on_query is not None:
                remote.answer(error.answer)
                self.assert_meaning(error.on_query, error, lambda: handler.query([query.task]))

    def test_nonsense_in_a_submit_answer_never_crashes(self, handler: Handler, remote: FakeProvider) -> None:
        """Whatever JSON the provider answers a submit with, the result is a receipt or a HandlerError."""
        for sample in {len(sample.answers): sample for sample in self.submits}.values():
            for position, answer in enumerate(sample.answers):

                @hurried(mutations(json.loads(answer.body)))
                def check(value: Any, position: int = position, sample: SubmitSample = sample) -> None:
                    answers = list(sample.answers)
                    answers[position] = Answer(dump(value))
                    remote.answer(*answers)
                    try:
                        receipt = self.submit(handler, sample)
                    except HandlerError:
                        return
                    assert isinstance(receipt.provider_task_id, str)
                    assert receipt.provider_task_id.strip()
                    assert sendable([receipt.provider_task_id, receipt.state, receipt.raw])

    def test_nonsense_in_a_query_answer_never_crashes(self, handler: Handler, remote: FakeProvider) -> None:
        """Whatever JSON the provider answers a query with, the result is a sane update or a HandlerError."""
        for sample in self.queries:

            @hurried(mutations(json.loads(sample.answer.body)))
            def check(value: Any, sample: QuerySample = sample) -> None:
                remote.answer(Answer(dump(value)))
                try:
                    updates = handler.query([sample.task])
                except HandlerError:
                    return
                assert set(updates) <= {"task_1"}
                assert all(sane(update) for update in updates.values())

    def test_an_answer_that_repeats_a_secret_gives_it_to_nobody(self, handler: Handler, remote: FakeProvider) -> None:
        """Error pages show the headers of a request: what is kept of an answer goes to callers and subscribers."""
        echo = {"request": [f"Authorization: Bearer {secret}" for secret in self.secrets()]}
        sample, query = self.submits[0], self.queries[0]
        remote.answer(*sample.answers[:-1], Answer(dump({**json.loads(sample.answers[-1].body), **echo})))
        receipt = self.submit(handler, sample)
        remote.answer(Answer(dump({**json.loads(query.answer.body), **echo})))
        (update,) = handler.query([query.task]).values()
        remote.answer(*sample.answers[:-1], Answer(dump(echo), 403, {"Content-Type": "text/html"}))
        with pytest.raises(handlers.Rejected) as caught:
            self.submit(handler, sample)
        for kept in (receipt.raw, update.raw, caught.value.raw or ""):
            assert "***" in kept
            self.assert_no_secret(kept)

    # -- what else it may offer --------------------------------------------------------------------

    def test_what_is_not_offered_says_so(self, handler: Handler) -> None:
        """Unknown resources, and uploads where there are none, are NotSupported."""
        with pytest.raises(handlers.NotSupported):
            handler.fetch("no-such-resource", {})
        if not handler.takes_uploads:
            with pytest.raises(handlers.NotSupported):
                handler.begin_upload(handlers.Upload("a.png", "image/png", 3))
