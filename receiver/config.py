"""The settings as data: name, default, meaning, secret or not. Read once, checked together.

Every problem is reported at once, in one ``SettingsError``, before anything starts. ``NAME_FILE``
reads the value of ``NAME`` from a file. Providers' settings come from their handlers.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from environs import FileAwareEnv

import handlers
from receiver.addresses import BadUrl, Network, parse_url
from receiver.errors import SettingsError
from receiver.sealing import MAKE_ONE, parse_secret_keys

_API_KEY = re.compile(r"[!-~]{16,256}")
"""What can be sent as a bearer token, and is not guessed."""
_SERVER = re.compile(r"([^@]*@)?(\[[^]@/]+]|[^][/:@?]*)(:[0-9]{1,5})?([/?].*)?")
"""What follows ``postgresql://``: user and password, host, port, and the rest."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``parse`` raises ValueError with the rest of a sentence that begins with the name."""

    name: str
    default: str
    help: str
    parse: Callable[[str], Any]
    secret: bool = False


def _number(low: float, high: float = 1e12) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:.15g} to {high:.15g}")
        return value

    return parse


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _schedule(text: str) -> tuple[float, ...]:
    if text.strip().lower() == "none":
        return ()
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (-1.0,)
    if not all(0 < value <= 31 * 86_400 for value in values):
        raise ValueError(
            "must be comma-separated seconds, each above 0 and at most 31 days, e.g. 5,300,1800;"
            " `none` for a single attempt"
        )
    return values


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in words:
        raise ValueError("must be true or false")
    return words[text.strip().lower()]


def _word(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError("must be one of " + ", ".join(filter(None, words)))
        return text.strip().lower()

    return parse


def _public_url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold credentials")
    if parts.scheme not in ("http", "https") or not parts.hostname or "?" in text or parts.fragment or parts.port == 0:
        raise ValueError("must be the http(s) address under which providers reach this service, without a query")
    try:
        parse_url(text.strip())
    except BadUrl as error:
        raise ValueError(f"cannot be called by a provider. {error}") from None
    return text.strip().rstrip("/")


def _bind(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    if host in ("", "*") or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("must be HOST:PORT, e.g. 127.0.0.1:8000, or 0.0.0.0:8000 for every address of this machine")
    return host.strip("[]"), int(port)


def _bind_or_nothing(text: str) -> tuple[str, int] | None:
    return _bind(text) if text else None


def _database(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme == "postgres":  # libpq's other name for it, which many hosts hand out
        scheme, text = "postgresql", f"postgresql://{rest}"
    if scheme == "sqlite" and (len(rest) < 2 or rest[0] != "/" or rest.startswith("/:memory:")):
        raise ValueError("must name a file, like sqlite:///var/receiver.db: several threads and processes share it")
    if scheme == "sqlite" and "?" in rest:  # the file would be another one: the driver cuts it off there
        raise ValueError("must name a file and no options; write a ? in its path as %3F")
    if scheme == "sqlite" and rest.startswith("/~"):  # else a folder of that name would be made
        raise ValueError("must name its folder in full: ~ is not known here")
    if scheme not in ("sqlite", "postgresql", "postgresql+psycopg") or not rest:
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if scheme != "sqlite" and not _SERVER.fullmatch(rest):  # else a piece of the password could be taken for the host
        raise ValueError("must be like postgresql://user:password@host:5432/name, an @ in the password written as %40")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"must be comma-separated networks like 10.1.0.0/16 ({error})") from None
    return tuple(networks)


def _secret_keys(text: str) -> tuple[bytes, ...]:
    return parse_secret_keys(text) if text else ()


SETTINGS: tuple[Setting, ...] = (
    Setting("RECEIVER_DATABASE_URL", "sqlite:///var/receiver.db", "SQLite, or postgresql://…", _database, secret=True),
    Setting("RECEIVER_DATABASE_POOL", "10", "connections to PostgreSQL that each process holds at most, beside the one "
            "on which it is woken", _count(2, 500)),
    Setting("RECEIVER_PUBLIC_URL", "http://127.0.0.1:8000",
            "where providers reach us; callback URLs begin with it", _public_url),
    Setting("RECEIVER_SECRET_KEYS", "",
            "comma-separated, each 32 random bytes in URL-safe base64; the first signs and encrypts, all verify and "
            "decrypt; generated into a file beside a local SQLite database when empty", _secret_keys, secret=True),
    Setting("RECEIVER_API_KEY", "", "makes sure that the account `default` exists and owns this key", str,
            secret=True),
    Setting("RECEIVER_BIND", "127.0.0.1:8000", "the web address", _bind),
    Setting("RECEIVER_WEB_PROCESSES", "1", "web processes of one `receiver web`", _count(1, 64)),
    Setting("RECEIVER_WEB_THREADS", "32", "threads of each web process", _count(2, 512)),
    Setting("RECEIVER_RETRY_SCHEDULE", "5,300,1800,7200,18000,36000,50400,72000,86400",
            "seconds between attempts of a delivery; jitter only ever adds; `none` for a single attempt", _schedule),
    Setting("RECEIVER_DELIVERY_TIMEOUT", "15", "total seconds for one attempt, response body included",
            _number(0.1, 120)),
    Setting("RECEIVER_DELIVERY_CONCURRENCY", "256", "attempts in flight per worker", _count(1, 1024)),
    Setting("RECEIVER_SUBSCRIBER_CONCURRENCY", "32", "attempts in flight per subscriber", _count(1, 1024)),
    Setting("RECEIVER_LEASE", "30", "seconds after which the work of a worker that died is picked up again; longer "
            "than any single call may take", _number(1, 3600)),
    Setting("RECEIVER_SHUTDOWN_TIMEOUT", "25", "seconds that work in flight gets to end after SIGTERM",
            _number(0, 600)),
    Setting("RECEIVER_DISABLE_AFTER", "432000", "seconds of nothing but failure before a subscriber is disabled",
            _number(1)),
    Setting("RECEIVER_ALLOWED_NETWORKS", "", "CIDRs that subscriber URLs may reach beside public addresses; metadata "
            "addresses stay shut unless named exactly", _networks),
    Setting("RECEIVER_ALLOW_HTTP", "false", "subscriber URLs may be plain http; addresses in an allowed network "
            "always may", _flag),
    Setting("RECEIVER_MAX_BODY", "1048576", "bytes of an inbound body, enforced while reading",
            _count(1024, 1 << 30)),
    Setting("RECEIVER_REQUEST_RATE", "100", "requests per second of each API key in each web process, twice as many at "
            "once; 0: no limit", _number(0, 1e6)),
    Setting("RECEIVER_RETENTION_DAYS", "30", "after which finished tasks, notices, events and attempts are purged",
            _number(0.01, 36500)),
    Setting("RECEIVER_WORKER_METRICS_BIND", "", "HOST:PORT at which a worker shows its metrics; empty: nowhere",
            _bind_or_nothing),
    Setting("RECEIVER_LOG_FORMAT", "", "`console` or `json`; empty: console on a terminal, else json",
            _word("console", "json", "")),
    Setting("RECEIVER_LOG_LEVEL", "info", "`debug`, `info`, `warning` or `error`",
            _word("debug", "info", "warning", "error")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings after reading; times in seconds. ``providers``: option texts of configured providers."""

    database_url: str
    database_pool: int
    public_url: str
    secret_keys: tuple[bytes, ...]
    api_key: str
    bind: tuple[str, int]
    web_processes: int
    web_threads: int
    retry_schedule: tuple[float, ...]
    delivery_timeout: float
    delivery_concurrency: int
    subscriber_concurrency: int
    lease: float
    shutdown_timeout: float
    disable_after: float
    allowed_networks: tuple[Network, ...]
    allow_http: bool
    max_body: int
    request_rate: float
    retention_days: float
    worker_metrics_bind: tuple[str, int] | None
    log_format: str
    log_level: str
    providers: Mapping[str, Mapping[str, str]]


def read_settings() -> Settings:
    """The settings from the process's environment. Raises SettingsError with every problem at once."""
    env = FileAwareEnv(strip_whitespace=True)
    problems: list[str] = []
    values: dict[str, Any] = {}

    def text_of(name: str) -> str:
        try:
            text = str(env.str(name, "")).strip()
            text.encode()
        except UnicodeEncodeError:
            problems.append(f"{name} must be text in UTF-8, which the locale must be, too (LC_ALL=C.UTF-8)")
            return ""
        except (ValueError, OSError):
            problems.append(f"{name}_FILE must be the path of a text file that can be read")
            return ""
        if not text and env.str(f"{name}_FILE", ""):  # the default would be another database, or no key at all
            problems.append(f"{name}_FILE names a file with nothing in it; write the value there, or unset {name}_FILE")
        return text

    for setting in SETTINGS:
        text = text_of(setting.name) or setting.default
        try:
            values[setting.name.removeprefix("RECEIVER_").lower()] = setting.parse(text)
        except ValueError as error:
            shown = "" if setting.secret or "@" in text else f" (it is {text!r})"
            problems.append(f"{setting.name}: {error}{shown}")
    values["providers"] = _providers(text_of, problems)
    problems += _together(values)
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _providers(text_of: Callable[[str], str], problems: list[str]) -> dict[str, dict[str, str]]:
    """Option texts of the providers whose credentials are there; half a pair of credentials is a problem.

    The other options are read even where there are none: with a sandbox they hold as well.
    """
    configured: dict[str, dict[str, str]] = {}
    for name in handlers.available():
        handler = handlers.find(name)
        given = {
            option.name: text
            for option in handlers.options_of(handler)
            if (text := text_of(handlers.variable_of(name, option)))
        }
        missing = handlers.missing_credentials(handler, given)
        credentials = [option for option in handler.options if option.credential]
        if missing and len(missing) < len(credentials):
            problems.append(f"{' and '.join(missing)} must be set too, or {handler.title} cannot be used")
        try:
            handlers.parse_options(handler, given)
        except handlers.ConfigurationError as error:
            problems += error.problems
        if not missing:
            configured[name] = given
    return configured


def _together(values: Mapping[str, Any]) -> list[str]:
    """Problems that only show when settings are seen side by side; those that could not be read are not there."""
    problems: list[str] = []
    if values.get("lease", math.inf) <= values.get("delivery_timeout", 0):
        problems.append(
            f"RECEIVER_LEASE ({values['lease']:g} s) must be longer than RECEIVER_DELIVERY_TIMEOUT "
            f"({values['delivery_timeout']:g} s), or one attempt is made by two workers"
        )
    if values.get("database_url", "").startswith("postgresql") and not values.get("secret_keys", "unread"):
        problems.append(
            f"RECEIVER_SECRET_KEYS must be set with PostgreSQL, so that all machines share it. To make one: {MAKE_ONE}"
        )
    if values.get("api_key") and not _API_KEY.fullmatch(values["api_key"]):
        problems.append("RECEIVER_API_KEY must have 16 to 256 characters, visible ASCII ones without spaces")
    return problems


def masked(settings: Settings) -> dict[str, str]:
    """The settings for the start-up log: secrets are only said to be set or not."""
    shown: dict[str, str] = {}
    for setting in SETTINGS:
        value = getattr(settings, setting.name.removeprefix("RECEIVER_").lower())
        shown[setting.name] = ("(set)" if value else "(not set)") if setting.secret else str(value)
    return shown
