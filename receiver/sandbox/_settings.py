"""The sandbox's settings: what can be chosen, from code or from the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from ._discovery import provider_modules

_PREFIX = "SANDBOX_"


@dataclass(frozen=True)
class Option:
    """One setting of one provider: ``SANDBOX_<PROVIDER>_<NAME>`` in the environment.

    ``choices`` empty means any text; ``several``: any number of them, with commas between. ``help`` is one sentence
    for the documentation.
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
        problems = [
            f"{name} must not be negative"
            for name in ("time_scale", "duration", "callback_timeout")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.failure_rate <= 1:
            problems.append("failure_rate must be from 0 to 1")
        if self.callback_threads < 1 or self.max_tasks < 1:
            problems.append("callback_threads and max_tasks must be at least 1")
        known = {f"{provider}_{o.name}": o for provider in provider_modules() for o in declared(provider)}
        for name, value in self.options.items():
            option = known.get(name)
            if option is None:
                problems.append(f"no provider has the option {name}")
            elif option.choices and not set(_words(value) if option.several else [value]) <= set(option.choices):
                problems.append(f"{name} must be one of {', '.join(option.choices)}, not {value!r}")
        if problems:
            raise ValueError("sandbox settings: " + "; ".join(problems))

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

        Raises ValueError that names every variable which is unknown or cannot be read.
        """
        general = {f.name: f for f in fields(cls) if f.name != "options"}
        options = {spelling: key for p in provider_modules() for spelling, key in _spellings(p).items()}
        values: dict[str, object] = {}
        chosen: dict[str, str] = {}
        problems: list[str] = []
        for variable, text in environ.items():
            if not variable.startswith(_PREFIX):
                continue
            name = variable.removeprefix(_PREFIX).lower()
            if name in general:
                try:
                    values[name] = _read(str(general[name].type), text)
                except ValueError:
                    problems.append(f"{variable}={text!r} is not a {general[name].type}")
            elif name in options:
                chosen[options[name]] = text
            else:
                problems.append(f"{variable} is not a setting of the sandbox")
        if problems:
            raise ValueError("; ".join(problems))
        return cls(**values, options=chosen)  # type: ignore[arg-type]  # names and types come from the fields


def declared(provider: str) -> list[Option]:
    """All options of one provider: its own and those that every provider has."""
    own: Sequence[Option] = getattr(provider_modules()[provider], "OPTIONS", ())
    return [*own, *EVERY_PROVIDER]


def is_true(text: str) -> bool:
    """Whether an option's text means yes (``true``, ``1``, ``yes``, ``on``)."""
    return text.strip().lower() in {"true", "1", "yes", "on"}


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


def _read(kind: str, text: str) -> object:
    match kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            if text.strip().lower() not in {"true", "1", "yes", "on", "false", "0", "no", "off", ""}:
                raise ValueError(text)
            return is_true(text)
        case _:
            return text
