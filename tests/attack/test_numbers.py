"""Numbers that no float holds reach subscribers with every digit that the provider sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from handlers import Output, OutputKind, Receipt, json_text
from handlers._reading import Numeral, json_exactly, json_object
from handlers._vod_answers import alone
from receiver.events import outputs_json
from receiver.runtime import Runtime
from receiver.web import create_app
from tests.attack.conftest import Target
from tests.handlers.topview_samples import notice_body
from tests.story.samples import TOPVIEW
from tests.subscriber import Subscriber, answer
from tests.web.conftest import CREDENTIALS, KEY, Caller

LONG = "0.1234567890123456789012345678901234567890"
BIG = str(2**80)
MORE = f'{{"big":{BIG},"long":{LONG},"cents":1.10,"power":1.5E+2,"huge":1e400,"tiny":-1e-400}}'
KEPT = f'{{"big":{BIG},"long":{LONG},"cents":1.10,"power":1.5E+2,"huge":null,"tiny":-1e-400}}'


@pytest.mark.process
def test_every_digit_of_an_answer_reaches_the_subscriber(target: Target) -> None:
    """Provider, worker, database, webhook: the answer is in the signed bytes as it came, details to the last digit."""
    with Subscriber(answer(200)) as subscriber:
        target.system.subscribe(subscriber.url, ["task.succeeded"])
        task = target.start(TOPVIEW)
        said = target.provider.finish("topview", task["provider_task_id"], "https://cdn.example.test/a.png", MORE)
        target.system.finished(task)
        raw = subscriber.wait_for(1)[0].body.decode()
    assert f'"provider_response":{said}' in raw
    assert f'"details":{{"status":"success","more":{KEPT}}}' in raw
    answer_of_api = target.system.session.get(f"{target.system.url}/v1/tasks/{task['id']}", timeout=10).text
    assert raw.endswith(f'"data":{answer_of_api.rstrip()}}}')


def test_every_digit_of_a_believed_notice_reaches_the_event(
    build: Callable[..., Runtime], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice whose body is taken for the result is in the event as it came."""
    providers = {**settings.providers, "topview": {**settings.providers["topview"], "confirm_notices": "false"}}
    runtime = build(providers=providers)
    api = Caller(create_app(runtime).test_client(), KEY)
    path = _started(api, runtime)
    body = notice_body(taskId="tv-1").replace(b'"errorMsg": null}]', b'"more": %s}]' % MORE.encode())
    headers = {"TopView-Uid": CREDENTIALS["TOPVIEW_UID"]}
    assert api.client.post(path, data=body, headers=headers).status_code == 200
    event = api.get("/v1/events").text
    assert '"task.succeeded"' in event
    assert f'"provider_response":{body.decode()}' in event
    assert f'"more":{KEPT}' in event


def _started(api: Caller, runtime: Runtime) -> str:
    api.submit(provider="topview", operation="common_task_text2video", input={"model": "M", "prompt": "a cat"})
    (start,) = runtime.submissions.claim("topview", 1)
    url = runtime.submissions.submission_of(start).callback_url
    runtime.submissions.accepted(start.task, Receipt("tv-1", "{}"))
    return str(url).removeprefix("https://gw.example.test")


def test_one_job_of_many_keeps_its_digits() -> None:
    """An answer about several jobs is cut down to one without touching a number or a character."""
    job = f'{{"JobId":"b","Status":"success","Score":{LONG},"Huge":1e400,"Text":"图","Odd":"\\ud800\\u0000"}}'
    text = f'{{"RequestId":"r", "n": {BIG}, "AIImageJobList":[{{"JobId":"a"}}, 7, {job}]}}'
    body = json_object(text)
    assert body is not None
    cut = alone(body, body["AIImageJobList"][2], text)
    assert cut == f'{{"RequestId":"r","n":{BIG},"AIImageJobList":[{job}]}}'


@pytest.mark.parametrize(
    "text", [BIG, LONG, "-0.0", "1E5", "1e400", "-1e-400", '"\\ud800"', '"图"', "[]", "{}", "null", "true", "[1.0]"]
)
def test_what_is_read_is_written_as_it_came(text: str) -> None:
    """Reading and writing again changes no digit, no sign and no character."""
    assert json_text(json_exactly(text)) == text


def test_a_numeral_is_a_number() -> None:
    """It can be reckoned with, copied and sent between processes."""
    import copy
    import pickle

    number = Numeral(LONG)
    assert number * 2 == float(LONG) * 2
    assert copy.deepcopy(number).digits == pickle.loads(pickle.dumps(number)).digits == LONG
    assert json.dumps(number) == repr(float(LONG))


def test_an_infinity_of_our_own_is_still_refused() -> None:
    """What is no JSON never gets into an event."""
    with pytest.raises(ValueError, match="JSON"):
        outputs_json([Output(OutputKind.DATA, data={"x": float("inf")})])


@pytest.mark.parametrize("digits", ["9" * 4300, "1" + "0" * 5000])
def test_integers_of_thousands_of_digits_do_no_harm(digits: str) -> None:
    """Taken exactly, or not at all; never a failure."""
    found = json_object(f'{{"n":{digits}}}')
    assert found is None or json_text(found) == f'{{"n":{digits}}}'
