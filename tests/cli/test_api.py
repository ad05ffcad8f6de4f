"""Calls to the running service: where it is, who asks, and what it says no with."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from receiver.cli.api import Api, ApiProblem, default_url, local_url, part
from tests.cli.conftest import KEY, Run
from tests.cli.service import FakeService, Said, task


def test_the_key_goes_along_and_a_netrc_cannot_replace_it(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every call carries the API key of the environment, whatever a .netrc says."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    assert run("tasks").exit_code == 0
    assert service.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert service.asked[0].headers["user-agent"].startswith("receiver-cli/")


def test_the_address_of_the_api_will_do(run: Run, service: FakeService) -> None:
    """`receiver run` shows the API's address, with /v1: whoever takes that one reaches the service, too."""
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    assert run("tasks", "--url", f"{service.url}/v1/").exit_code == 0


def test_options_win_over_the_environment(run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--url`` and ``--key`` come before RECEIVER_URL and RECEIVER_API_KEY."""
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    monkeypatch.setenv("RECEIVER_URL", "http://127.0.0.1:1")
    assert run("tasks", "--url", f"{service.url}/", "--key", "rk_other").exit_code == 0
    assert service.asked[0].headers["authorization"] == "Bearer rk_other"


def test_a_key_can_come_from_a_file(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RECEIVER_API_KEY_FILE is read, as for the service."""
    (tmp_path / "key").write_text("rk_from_file\n")
    monkeypatch.setenv("RECEIVER_API_KEY_FILE", str(tmp_path / "key"))
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    assert run("tasks").exit_code == 0
    assert service.asked[0].headers["authorization"] == "Bearer rk_from_file"
    monkeypatch.setenv("RECEIVER_API_KEY_FILE", str(tmp_path / "gone"))
    assert "cannot be read" in run("tasks").stderr


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "nothing in it"), (b"\n", "nothing in it"), (b"\xff", "a text file")]
)
def test_a_file_that_holds_no_key_is_told(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, said: str
) -> None:
    """An empty file, or one that is no text, is told with its path and its variable; no other key is taken for it."""
    (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("RECEIVER_API_KEY_FILE", str(tmp_path / "key"))
    result = run("tasks")
    assert result.exit_code == 4
    assert "RECEIVER_API_KEY_FILE" in result.stderr
    assert said in result.stderr
    assert str(tmp_path / "key") in result.stderr
    assert not service.asked


def test_a_variable_that_names_no_file_is_as_good_as_unset(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RECEIVER_API_KEY_FILE set to nothing leaves RECEIVER_API_KEY in force, as for the service."""
    monkeypatch.setenv("RECEIVER_API_KEY_FILE", "")
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    assert run("tasks").exit_code == 0
    assert service.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_the_way_to_one_is_told(run: Run) -> None:
    """No key: the message says how to name one and how to make one."""
    result = run("tasks")
    assert result.exit_code == 4
    assert "RECEIVER_API_KEY" in result.stderr
    assert "receiver keys create" in result.stderr


@pytest.mark.parametrize("key", ["zwei worte", "schlüssel", "a\nb"])
def test_a_key_that_cannot_be_one_is_refused_before_it_is_sent(run: Run, service: FakeService, key: str) -> None:
    """A key with odd characters never becomes a header."""
    result = run("tasks", "--key", key)
    assert result.exit_code == 4
    assert "cannot be right" in result.stderr
    assert not service.asked


def test_a_service_that_is_not_there_is_told_with_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listening: one message, code 5, and how to start it or to name another address."""
    result = run("tasks", "--url", "http://127.0.0.1:1", "--key", KEY)
    assert result.exit_code == 5
    assert "no service at http://127.0.0.1:1" in result.stderr
    assert "receiver run" in result.stderr


def test_an_address_from_a_file_of_windows_is_taken(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White space around RECEIVER_URL is dropped, as the service does with its settings."""
    monkeypatch.setenv("RECEIVER_URL", f" {service.url}\r")
    monkeypatch.setenv("RECEIVER_API_KEY", f"{KEY} \r")
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    assert run("tasks").exit_code == 0


def test_an_address_that_is_none_is_a_usage_error(run: Run) -> None:
    """A URL without http:// ends with code 2."""
    assert run("tasks", "--url", "localhost:8000", "--key", KEY).exit_code == 2
    assert "is not the address" in run("tasks", "--url", "http://:80:80/", "--key", KEY).stderr


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999", "http://", "http://a:b"])
@pytest.mark.parametrize("option", ["--url", "--forward"])
def test_an_address_that_cannot_be_read_is_a_usage_error(run: Run, service: FakeService, option: str, url: str) -> None:
    """Half a bracket, no host and a port that does not exist end at once, with code 2 and no traceback."""
    result = run("listen", option, url)
    assert result.exit_code == 2
    assert f"{option}: '{url}'" in result.stderr
    assert not service.asked


@pytest.mark.parametrize(
    "args", [["task", "\udcff"], ["tasks", "--operation", "\udcff"], ["keys", "create", "--name", "a\udcff"]]
)
def test_an_argument_that_is_no_text_is_a_usage_error(run: Run, service: FakeService, args: list[str]) -> None:
    """Bytes that are not UTF-8, as a terminal may send them, are named; they reach neither service nor database."""
    result = run(*args)
    assert result.exit_code == 2
    assert "is not valid Unicode" in result.stderr
    assert not service.asked


def test_a_problem_is_told_in_the_services_words_field_by_field(run: Run, service: FakeService) -> None:
    """Validation errors name each field, and end with the code for a wrong call."""
    problem = {
        "title": "Unprocessable",
        "status": 422,
        "detail": "The request has invalid fields.",
        "errors": {"input.width": ["Must be at most 2048."]},
    }
    service.on("POST", "/v1/tasks", Said(problem, 422))
    result = run("submit", "superapp", "text2image", "width=9000")
    assert result.exit_code == 2
    assert "The request has invalid fields.\n  - input.width: Must be at most 2048." in result.stderr


@pytest.mark.parametrize(
    ("status", "body", "said", "code"),
    [
        (401, {"title": "Unauthorized", "detail": "No such key."}, "receiver keys create", 4),
        (403, {"title": "Forbidden", "detail": "Missing scope."}, "--scope", 4),
        (409, {"title": "Conflict", "detail": "It has ended."}, "It has ended.", 1),
        (429, {"title": "Too Many Requests", "detail": "Slower."}, "Slower.", 5),
        (502, b"<html>Bad Gateway</html>", "The service answered 502", 5),
        (500, [1], "The service answered 500", 5),
        (307, b"", "It points to http://127.0.0.1:1/", 1),
        (404, b"<html>", "another program", 3),
        (200, b"<html>", "is not this service", 5),
        (200, {"hello": "world"}, "is not this service", 5),
        (200, [], "is not this service", 5),
    ],
)
def test_every_refusal_is_one_plain_message(
    run: Run, service: FakeService, status: int, body: object, said: str, code: int
) -> None:
    """Whatever is answered in place of a 2xx with JSON, also by a proxy, ends with its exit code and a sentence."""
    html = {"Content-Type": "text/html"} if isinstance(body, bytes) else {}
    service.on("GET", "/v1/tasks", Said(body, status, {"Location": "http://127.0.0.1:1/", **html}))
    result = run("tasks")
    assert result.exit_code == code
    assert said in result.stderr


def test_a_404_that_names_no_type_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program answers there, as bare as HTTP allows: a sentence, no traceback."""
    bare = requests.Response()
    bare.status_code, bare._content = 404, b""
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: bare)
    with pytest.raises(ApiProblem, match="another program"):
        Api("http://127.0.0.1:1", KEY).get("/v1/tasks")


def test_the_problem_knows_its_status(service: FakeService) -> None:
    """Callers can tell a refusal from an absence."""
    service.on("GET", "/x", Said(None, 404))
    with pytest.raises(ApiProblem) as caught:
        Api(service.url, KEY).get("/x")
    assert caught.value.status == 404
    with pytest.raises(ApiProblem) as caught:
        Api("http://127.0.0.1:1", KEY).get("/x")
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("", "http://127.0.0.1:8000"),
        ("127.0.0.1:8010", "http://127.0.0.1:8010"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("[::]:9000", "http://[::1]:9000"),
        ("[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("nonsense", "http://127.0.0.1:8000"),
    ],
)
def test_the_default_address_is_that_of_the_service_here(monkeypatch: pytest.MonkeyPatch, bind: str, url: str) -> None:
    """Without RECEIVER_URL the commands call the service that RECEIVER_BIND starts."""
    monkeypatch.setenv("RECEIVER_BIND", bind)
    assert default_url() == url


def test_local_urls_and_parts_of_paths() -> None:
    """An address for all is called by the loopback one; ids cannot leave their part of the path."""
    assert local_url("", 80) == "http://127.0.0.1:80"
    assert part("../keys?x#y") == "..%2Fkeys%3Fx%23y"


def test_ids_are_escaped(run: Run, service: FakeService) -> None:
    """An id with a slash asks for that id, not for another path."""
    service.on("GET", "/v1/tasks/a%2F..%2Fb", task())
    assert run("task", "a/../b").exit_code == 0
