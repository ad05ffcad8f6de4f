"""Secrets are compared in constant time: no comparison in the code stops at the first letter that differs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers._signatures import same
from receiver.accounts import digest_of
from tests.markdown import ROOT

SECRET = re.compile(
    r"(^|_)(signatures?|secrets?|tokens?|passwords?|digests?|hmac|mac|auth_?key|api_?key|credentials?)(_|$)|whsec"
)
"""What variables, attributes and functions are called that hold or make something secret."""
LEAVES = ("sandbox",)  # it plays the providers, and its secrets are published
MODULES = [
    path
    for folder in ("handlers", "receiver")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not set(LEAVES) & set(path.parts)
]
COMPARED = {
    "handlers/_signatures.py": "every provider's signature of a notice (`same`)",
    "receiver/signing.py": "webhook signatures (`verify`), secrets in use (`rotate`)",
    "receiver/verifying/examining.py": "signatures of a webhook that somebody asks about",
    "receiver/verifying/mistakes.py": "the same, with the mistakes that receivers make",
    "receiver/web/dashboard/sessions.py": "the token in the dashboard's forms",
}
"""Every place in the code that compares secrets, beside itsdangerous (callback tokens) and AES-GCM's own tag."""


def name_of(node: ast.expr) -> str:
    """What an operand is called: a variable, the attribute or the function at its end, the key it is found under."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=function):
            return name_of(function)
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Subscript(value=value) | ast.Await(value=value):
            return name_of(value)
    return ""


def leaking(tree: ast.AST) -> Iterator[ast.Compare]:
    """Comparisons with == or != of something that is called like a secret, with anything but a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = [node.left, *node.comparators]
            if any(SECRET.search(name_of(side).lower()) for side in sides) and not any(
                isinstance(side, ast.Constant) for side in sides
            ):
                yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_secret_is_compared_with_an_equals_sign(path: Path) -> None:
    """No ``==`` or ``!=`` on what is called a signature, secret, token, digest, password or key of somebody."""
    found = [f"{path.name}:{node.lineno}: {ast.unparse(node)}" for node in leaking(ast.parse(path.read_text()))]
    assert not found


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("given == signature", True),
        ("self.secret != other", True),
        ("params['Signature'] == expected", True),
        ("hmac_sha256_hex(key, body) == given", True),
        ("text.split('.')[1] == callback_token", True),
        ("same(given, signature)", False),
        ("name != 'signature'", False),
        ("tokens_made == 3", False),
    ],
)
def test_the_search_finds_what_it_should(code: str, caught: bool) -> None:
    """The rule itself is tried on what must and what must not be caught."""
    assert bool(list(leaking(ast.parse(code)))) is caught


def test_every_place_that_compares_secrets_is_known() -> None:
    """A new comparison comes into this list, where it is looked at."""
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if re.search(r"\bcompare_digest\(", path.read_text())
    }  # fmt: skip
    assert found == set(COMPARED)


@pytest.mark.parametrize(
    ("given", "expected", "equal"),
    [("abc", "abc", True), ("abc", "abd", False), ("abc", "abcd", False), ("", "", True), ("ü\udcff", "ü\udcff", True)],
)
def test_texts_of_any_kind_can_be_compared(given: str, expected: str, equal: bool) -> None:
    """Whatever a header holds, the comparison answers and never fails."""
    assert same(given, expected) is equal


def test_api_keys_are_looked_up_by_their_digest_alone() -> None:
    """The database compares digests, of which nobody can choose the first letters; it never sees a key."""
    source = (ROOT / "receiver" / "store" / "accounts.py").read_text()
    assert re.findall(r"api_keys\.c\.(\w+) == (\w+)", source).count(("hash", "key_hash")) >= 1
    assert "text" not in re.findall(r"api_keys\.c\.\w+ == (\w+)", source)
    assert digest_of("rk_1") != digest_of("rk_2")
    assert re.fullmatch("[0-9a-f]{64}", digest_of("rk_\udc80"))
