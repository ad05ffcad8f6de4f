"""The sandbox's settings: what can be chosen, from code or from the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from ._discovery import provider_modules

_PREFIX = "SANDBOX_"
_YES, _NO = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}
_YEAR = 31_536_000


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    ``allowed`` says it in words that follow "must be"; ``read`` makes the value of a text, and raises ValueError for
    a text that is not allowed. The text of a ``secret`` is never shown.
    """

    allowed: str
    read: Callable[[str], Any]
    secret: bool = False


def _number(low: float, high: float, read: Callable[[str], float] = float) -> Kind:
    def bounded(text: str) -> float:
        value = read(text)
        if not low <= value <= high:  # NaN is not, either
            raise ValueError(text)
        return value

    return Kind(f"a {'whole ' if read is int else ''}number from {low} to {high}", bounded)


def _matching(allowed: str, fits: Callable[[str], object], *, secret: bool = False) -> Kind:
    """A text that stays as it is."""

    def read(text: str) -> str:
        if not fits(text):
            raise ValueError(text)
        return text

    return Kind(allowed, read, secret)


def _yes_or_no(text: str) -> bool:
    if text.strip().lower() not in _YES | _NO:
        raise ValueError(text)
    return is_true(text)


def _is_web_address(text: str) -> bool:
    parts = urlsplit(text)
    return text.split() == [text] and parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0


def _or_empty(kind: Kind) -> Kind:
    return Kind(f"empty, or {kind.allowed}", lambda text: text and kind.read(text), kind.secret)


_TEXT = _matching("a text", lambda _: True)
_ADDRESS = _or_empty(_matching("an address that begins with http:// or https://", _is_web_address))
_KINDS: Mapping[str, Kind] = {
    "allow_remote_callbacks": Kind("true or false", _yes_or_no),
    "callback_key": _matching("at most 32 characters long", lambda text: len(text) <= 32, secret=True),
    "callback_threads": _number(1, 1000, int),
    "callback_timeout": _number(0, 3600),
    "callback_url": _ADDRESS,
    "credit": _number(0, 1_000_000_000, int),
    "duration": _number(0, _YEAR),
    "failure_rate": _number(0, 1),
    "max_tasks": _number(1, 10_000_000, int),
    "month_zone": _number(-12, 14),
    "public_url": _ADDRESS,
    "rate": _number(0, 1_000_000),
    "retry_after": _or_empty(_number(0, 86_400_000, int)),
    "seed": Kind("a whole number", int),
    "size_max": _number(1, 100_000, int),
    "size_min": _number(1, 100_000, int),
    "time_scale": _number(0, 1000),
    "training_callback_url": _ADDRESS,
    "window": _number(0, _YEAR),
}
"""Kinds by the name of a setting, the same for every provider that has it; what is not here is any text."""


@dataclass(frozen=True)
class Option:
    """One setting of one provider: ``SANDBOX_<PROVIDER>_<NAME>`` in the environment.

    ``choices`` empty means what `_KINDS` says of the name; ``several``: any number of them, with commas between.
    ``help`` is one sentence for the documentation.
    """

    name: str
    default: str
    help: str
    choices: Sequence[str] = ()
    several: bool = False


EVERY_PROVIDER: Sequence[Option] = (
    Option("rate", "0", "calls per second before the provider's own throttling answer; 0: no limit"),
    Option("always", "", "magic tokens that hold for every task of this provider"),
)
"""Options that each provider has without declaring them."""


@dataclass(frozen=True)
class SandboxSettings:
    """How the sandbox behaves. Each field is ``SANDBOX_<FIELD>`` in the environment.

    ``public_url``: address of the sandbox in result links; empty: the address each task was submitted to.
    ``time_scale``: every delay (durations of tasks, ladders of callbacks, slow answers) is multiplied by it;
    1.0 is real time. ``duration``: seconds a task takes, before scaling. ``seed``: fixes the dice, ids of
    pictures and link signatures. ``always``: magic tokens that hold for every task. ``failure_rate``: share
    of tasks that fail, 0 to 1. ``allow_remote_callbacks``: call addresses outside this machine's loopback.
    ``callback_timeout``: seconds, in place of each provider's own; 0: the provider's own.
    ``callback_threads``: callbacks in flight. ``max_tasks``: tasks kept, the oldest are dropped.
    ``options``: settings of single providers as ``{"topview_uid": "demo-uid"}``.
    """

    public_url: str = ""
    time_scale: float = 1.0
    duration: float = 3.0
    seed: int = 0
    always: str = ""
    failure_rate: float = 0.0
    allow_remote_callbacks: bool = False
    callback_timeout: float = 0.0
    callback_threads: int = 16
    max_tasks: int = 20_000
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        general = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "options"}
        _refuse(_problems({**general, **self.options}, str))

    def option(self, provider: str, name: str) -> str:
        """The value of a provider's option, or its declared default.

        Raises KeyError for an option that the provider does not declare.
        """
        given = self.options.get(f"{provider}_{name}")
        if given is not None:
            return given
        return {o.name: o.default for o in declared(provider)}[name]

    def chosen(self, provider: str, name: str) -> frozenset[str]:
        """The words of an option that takes several."""
        return frozenset(_words(self.option(provider, name)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> SandboxSettings:
        """Settings from variables ``SANDBOX_*``; all others are ignored.

        Raises ValueError that names every variable which is unknown or has a value that is not allowed.
        """
        general = {f.name for f in fields(cls) if f.name != "options"}
        keys = {name: name for name in general}
        for provider in provider_modules():
            keys |= _spellings(provider)
        texts: dict[str, str] = {}
        called: dict[str, str] = {}
        problems: list[str] = []
        for variable, text in sorted(environ.items()):
            if not variable.startswith(_PREFIX):
                continue
            key = keys.get(variable.removeprefix(_PREFIX).lower())
            if key is None:
                problems.append(f"{variable} is not a setting of the sandbox")
            else:
                texts[key], called[key] = text.strip(), variable
        _refuse(problems + _problems(texts, lambda key: called.get(key, _PREFIX + key.upper())))
        values: dict[str, Any] = {name: _KINDS.get(name, _TEXT).read(texts[name]) for name in general & texts.keys()}
        return cls(**values, options={key: text for key, text in texts.items() if key not in general})


def declared(provider: str) -> list[Option]:
    """All options of one provider: its own and those that every provider has."""
    own: Sequence[Option] = getattr(provider_modules()[provider], "OPTIONS", ())
    return [*own, *EVERY_PROVIDER]


def is_true(text: str) -> bool:
    """Whether an option's text means yes (``true``, ``1``, ``yes``, ``on``)."""
    return text.strip().lower() in _YES


def kind_of(option: Option) -> Kind:
    """What a provider's option may be."""
    if not option.choices:
        return _KINDS.get(option.name, _TEXT)
    choices = set(option.choices)
    if option.several:
        allowed = f"one of {', '.join(option.choices)}, or several with commas between"
        return _matching(allowed, lambda text: set(_words(text)) <= choices)
    return _matching(f"one of {', '.join(option.choices)}", choices.__contains__)


def _problems(texts: Mapping[str, str], name_of: Callable[[str], str]) -> list[str]:
    """What is wrong with settings given as texts; ``name_of`` says how their user calls them."""
    options = {f"{provider}_{o.name}": o for provider in provider_modules() for o in declared(provider)}
    kinds = {f.name: _KINDS.get(f.name, _TEXT) for f in fields(SandboxSettings) if f.name != "options"}
    kinds |= {key: kind_of(option) for key, option in options.items()}
    values = {key: kinds[key].read(option.default) for key, option in options.items()}
    problems: list[str] = []
    for key, text in texts.items():
        kind = kinds.get(key)
        if kind is None:
            problems.append(f"no provider has the option {key}")
            continue
        try:
            values[key] = kind.read(text)
        except ValueError:
            values.pop(key, None)
            shown = "" if kind.secret or "@" in text else f", not {text!r}"  # an address may hold a password
            problems.append(f"{name_of(key)} must be {kind.allowed}{shown}")
    for least in [key for key in values if key.endswith("_size_min")]:
        most = least.removesuffix("min") + "max"
        if most in values and values[least] > values[most]:
            problems.append(f"{name_of(least)} ({values[least]}) must not be above {name_of(most)} ({values[most]})")
    return problems


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ValueError("The sandbox's settings cannot work:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _spellings(provider: str) -> dict[str, str]:
    """Lower-case variable names of a provider's options, without prefix, each with the option's key."""
    short = getattr(provider_modules()[provider], "SHORT_NAME", provider)
    return {
        f"{name}_{option.name}": f"{provider}_{option.name}"
        for option in declared(provider)
        for name in (provider, short)
    }
