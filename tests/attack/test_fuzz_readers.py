"""Generated notices, URLs and headers for the pure readers: a known answer or a known refusal, nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import handlers
from handlers import BadNotice, Notice, NotSupported, RemoteTask, json_text
from handlers._http import retry_after as provider_retry_after
from handlers._reading import json_object
from receiver.addresses import AddressPolicy, BadUrl, check_url, is_public, parse_url
from receiver.events import outputs_json
from receiver.schedule import DAY, retry_after
from receiver.signing import BadToken, BadWebhook, CallbackTokens, new_secret, signature_header, verify
from tests.attack.effort import effort
from tests.attack.test_fuzz_door import CALLING, HEADER_TEXT, bodies, genuine_headers
from tests.handlers.samples import sane
from tests.web.conftest import CREDENTIALS

NOW = 1_790_000_000
OPERATIONS = {
    "topview": ["common_task_text2image", "m2v_export", "m2v_script", "scraper", "voice_clone", "product_any_shoot_v3"],
    "apsaravideo_vod": ["submit_ai_image_job"],
    "img_open": ["flux_text2image", "face_swap_v1", "image_description", "sd_text2image"],
}


def loaded(provider: str) -> handlers.Handler:
    """A handler with the credentials of the tests."""
    prefix = f"{provider.upper()}_"
    options = {
        name.removeprefix(prefix).lower(): value for name, value in CREDENTIALS.items() if name.startswith(prefix)
    }
    return handlers.load(provider, options, clock=lambda: NOW)


HANDLERS: Mapping[str, handlers.Handler] = {provider: loaded(provider) for provider in CALLING}


@effort(400)
@given(st.data())
def test_readers_of_notices_answer_or_refuse(data: st.DataObject) -> None:
    """Verify, read, name and reply, in any order: an update that can be stored and sent on, or a refusal."""
    provider = data.draw(st.sampled_from(CALLING))
    handler = HANDLERS[provider]
    operation = data.draw(st.sampled_from(OPERATIONS[provider]))
    state = data.draw(st.sampled_from([{}, {"noticeUuid": "uuid-1"}]))
    task = RemoteTask("task_1", operation, data.draw(st.sampled_from(["remote-1", None])), state, {"scriptId": 1}, 5.0)
    body = data.draw(bodies(provider, "remote-1"))
    headers = {**genuine_headers(provider, "/x"), **data.draw(st.dictionaries(HEADER_TEXT, HEADER_TEXT, max_size=2))}
    lowered = {name.lower(): value for name, value in headers.items()}
    where = data.draw(st.sampled_from([task, task, None]))
    notice = Notice(lowered, {}, body, "https://gw.example.test/x", NOW * 1000, where)
    with contextlib.suppress(BadNotice):
        handler.verify(notice)
    name = handler.notice_id(notice)
    assert name is None or name.encode()
    reply = handler.reply(notice)
    assert 200 <= reply.status < 500
    try:
        update = handler.read(notice)
    except (BadNotice, NotSupported):
        return
    assert sane(update)
    outputs = outputs_json(update.outputs)
    json.loads(outputs, parse_constant=pytest.fail)
    assert "\\u0000" not in outputs


@effort(300)
@given(st.binary(max_size=80) | bodies("topview", "remote-1"))
def test_what_is_read_can_be_stored_and_written_again(body: bytes) -> None:
    """Any bytes: an object without NUL and lone surrogates, whose text is the same object; or None."""
    found = json_object(body)
    if found is not None:
        text = json_text(found)
        assert "\0" not in text
        assert json_object(text.encode()) == found


HOSTS = st.sampled_from(
    ["127.0.0.1", "0x7f.1", "2130706433", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
     "localhost", "good.example", "good.example.", "169.254.169.254", "[fe80::1%25eth0]", "a@127.0.0.1",
     "127.0.0.1\\@good.example",
     "good.example#@127.0.0.1", "１２７.0.0.1", "127。0。0。1", "ⓛocalhost", "xn--", "-.example", "8.8.8.8",
     "[2002:7f00:1::]"]
)  # fmt: skip
URLS = st.one_of(
    st.text(max_size=40),
    st.text(max_size=20).map(lambda text: f"https://{text}"),
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTPS://", "https:/", "//", "ftp://", " https://", "https:\\\\"]),
        HOSTS | st.text(max_size=12),
        st.sampled_from(["", ":", ":80", ":0", ":65536", ":٣", ":80:80"]),
        st.sampled_from(["", "/", "/..", "/%2e%2e/%00", "?x=y", "/\t", "/é", "/a b", "#", "/\x85"])
        | st.text(max_size=6),
    ).map("".join),
)


@effort(500)
@given(URLS)
def test_the_url_guard_reads_every_url_one_way(url: str) -> None:
    """Refused, or read like the standard library reads what we send, once and again; no forbidden address passes."""
    try:
        target = parse_url(url)
    except BadUrl:
        with pytest.raises(BadUrl):
            check_url(url, AddressPolicy())
        return
    again = parse_url(target.origin + target.path)
    assert again == target
    parts = urlsplit(target.origin + target.path)
    assert (parts.scheme, parts.port, parts.username) == (target.scheme, target.port, None)
    assert parts.hostname == target.host
    assert (target.origin + target.path + target.host_header).isascii()
    assert not set(target.path + target.host_header) & set(" \r\n\t\0\\#")
    if target.address is not None and not is_public(target.address):
        with pytest.raises(BadUrl):
            check_url(url, AddressPolicy())


SIGNATURES = st.one_of(
    HEADER_TEXT,
    st.lists(st.sampled_from(["v1,", "v1,AAAA", "v1", "v2,x", "", ",", "v1,ü", "v1a,\udcff"]), max_size=4).map(
        " ".join
    ),
)


@effort(300)
@given(
    SIGNATURES,
    HEADER_TEXT | st.sampled_from([str(NOW), f"+{NOW}", f"{NOW}.0", "٣", "9" * 400, "-1", ""]),
    HEADER_TEXT,
    st.binary(max_size=20),
)
def test_no_header_breaks_the_verification_of_a_webhook(signature: str, stamp: str, name: str, body: bytes) -> None:
    """What we did not sign is refused, whatever the three headers hold."""
    headers = {"webhook-id": name, "webhook-timestamp": stamp, "Webhook-Signature": signature}
    with pytest.raises(BadWebhook):
        verify([SECRET], headers, body, NOW)


SECRET = new_secret()


@effort(100)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20), st.binary(max_size=20))
def test_what_we_signed_is_believed(name: str, body: bytes) -> None:
    """The genuine headers pass."""
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(NOW),
        "webhook-signature": signature_header([SECRET], name, NOW, body),
    }
    verify([SECRET], headers, body, NOW)


DATES = st.sampled_from(
    ["Wed, 21 Oct 2026 07:28:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
     "Wed, 99 Xxx 0 0:0:0", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +9999",
     "1e400", "nan", "-inf", "1_0", "٣", " 5 ",
     "1.5"]
)  # fmt: skip


@effort(300)
@given(HEADER_TEXT | DATES)
@example("9" * 5000)
def test_retry_after_is_a_bounded_wait_or_nothing(value: str) -> None:
    """Of subscribers at most a day, of providers a finite number of seconds; never an error."""
    wait = retry_after(value, NOW * 1000)
    assert wait is None or 0 <= wait <= DAY
    seconds: Any = provider_retry_after({"retry-after": value})
    assert seconds is None or 0 <= seconds < float("inf")


@effort(300)
@given(st.text(max_size=90) | st.text("0123456789abcdefghjkmnpqrstvwxyz.AZ_-", min_size=68, max_size=72))
def test_no_invented_token_is_taken(token: str) -> None:
    """What we did not sign names no task."""
    with pytest.raises(BadToken):
        CallbackTokens([b"k" * 32]).read("topview", token)
