"""The one place where objects are wired together, from settings; used by web, worker and command line alike."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import handlers
from receiver import logs
from receiver.accounts import AccountService
from receiver.addresses import AddressPolicy
from receiver.bell import Bell
from receiver.config import Settings
from receiver.deliveries import DeliveryService
from receiver.errors import SettingsError
from receiver.feed import EventFeed
from receiver.inspections import InspectionService
from receiver.notices import NoticeService
from receiver.overview import OverviewService
from receiver.polling import PollingService
from receiver.providers import Providers
from receiver.resealing import ResealService
from receiver.sealing import Sealer, new_secret_key, parse_secret_keys
from receiver.signing import CallbackTokens
from receiver.stats import StatsService
from receiver.store import Store
from receiver.store.places import database_folder, is_in_use, password_of, place_of
from receiver.store.private import make_folder
from receiver.store.wire import Wire
from receiver.submissions import SubmissionService
from receiver.subscribers import SubscriberService
from receiver.sweeping import SweepService
from receiver.tasks import TaskService
from receiver.uploads import DirectCalls


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Runtime:
    """Everything a process of the service needs, ready to use."""

    settings: Settings
    clock: Callable[[], int]
    store: Store
    bell: Bell
    policy: AddressPolicy
    providers: Providers
    accounts: AccountService
    tasks: TaskService
    submissions: SubmissionService
    polling: PollingService
    notices: NoticeService
    subscribers: SubscriberService
    deliveries: DeliveryService
    feed: EventFeed
    direct: DirectCalls
    sweeping: SweepService
    stats: StatsService
    overview: OverviewService
    inspections: InspectionService
    resealing: ResealService

    @classmethod
    def build(cls, settings: Settings, clock: Callable[[], int] = wall_clock) -> Runtime:
        """Wire the services, and keep the secrets of the settings out of logs. Raises SettingsError.

        Opens no connection; call ``prepare`` before first use.
        """
        settings = with_secret_keys(settings)
        logs.keep_out(secrets_of(settings))
        try:
            store = Store(settings.database_url, settings.database_pool)
        except ValueError as error:
            raise SettingsError([f"RECEIVER_DATABASE_URL: cannot be used: {error}"]) from None
        except ImportError as error:
            raise SettingsError([f"RECEIVER_DATABASE_URL: {error}. {NO_LIBRARY}"]) from None
        bell = Bell(place_of(settings.database_url), Wire(store))
        policy = AddressPolicy(settings.allowed_networks, settings.allow_http)
        providers = Providers(settings.providers, clock)
        sealer = Sealer(settings.secret_keys)
        tokens = CallbackTokens(settings.secret_keys)
        public_url, lease = settings.public_url, settings.lease
        return cls(
            settings=settings,
            clock=clock,
            store=store,
            bell=bell,
            policy=policy,
            providers=providers,
            accounts=AccountService(store, sealer, clock),
            tasks=TaskService(store, providers, policy, bell, clock),
            submissions=SubmissionService(store, providers, tokens, bell, clock, public_url=public_url, lease=lease),
            polling=PollingService(store, providers, bell, clock, lease=lease),
            notices=NoticeService(store, providers, tokens, bell, clock, public_url=public_url),
            subscribers=SubscriberService(store, sealer, policy, bell, clock),
            deliveries=DeliveryService(
                store,
                sealer,
                bell,
                clock,
                retry_schedule=settings.retry_schedule,
                timeout=settings.delivery_timeout,
                lease=lease,
                per_subscriber=settings.subscriber_concurrency,
                disable_after=settings.disable_after,
            ),
            feed=EventFeed(store),
            direct=DirectCalls(providers, policy),
            sweeping=SweepService(store, clock, retention_days=settings.retention_days),
            stats=StatsService(store, clock),
            overview=OverviewService(store, clock),
            inspections=InspectionService(store, sealer, clock),
            resealing=ResealService(store, sealer),
        )

    def prepare(self) -> None:
        """Bring the schema up and make the default account."""
        self.store.migrate()
        self.accounts.bootstrap(self.settings.api_key)

    def close(self) -> None:
        """Give connections back."""
        self.bell.close()
        self.store.close()


def secrets_of(settings: Settings) -> list[str]:
    """Every secret text in the settings, to be kept out of logs; as it stands in a URL too."""
    found = [settings.api_key, password_of(settings.database_url)]
    found += [base64.urlsafe_b64encode(key).decode("ascii").rstrip("=") for key in settings.secret_keys]
    for name, given in settings.providers.items():
        secret = {option.name for option in handlers.options_of(handlers.find(name)) if option.secret}
        texts = [text for option, text in given.items() if option in secret]
        found += [each.strip() for text in texts for each in (text, *text.split(","))]  # some hold an old and a new one
    return [*found, *(quote(text, safe="") for text in found)]


NO_LIBRARY = "PostgreSQL needs its library: `pip install 'callback-receiver[postgres]'` where the service is installed."
"""What is done about a database whose library is not installed."""
KEY_LOST = (
    "Put back the one that belongs to the database; a new one opens nothing that is stored. If it is gone for good, "
    "write a new key into that file: `receiver check` then says what to do."
)
"""What to do when the file is gone and the database is not."""


def with_secret_keys(settings: Settings) -> Settings:
    """The settings with secret keys: given ones, or those in the file beside a local SQLite database."""
    if settings.secret_keys:
        return settings
    folder = database_folder(settings.database_url)
    if folder is None:
        raise SettingsError(["RECEIVER_SECRET_KEYS must be set unless the database is a local SQLite file"])
    path = folder / "secret_key"
    # In this order: who starts at the same time makes the key before the database.
    if is_in_use(settings.database_url) and not path.exists():
        raise SettingsError([f"the secret key file {path} is missing. {KEY_LOST}"])
    try:
        text = _read_or_create(path)
        return replace(settings, secret_keys=parse_secret_keys(text.strip()))
    except (OSError, ValueError) as error:
        raise SettingsError([f"the secret key file {path} cannot be used: {error}"]) from None


def _read_or_create(path: Path) -> str:
    """The key in the file; made on a first start, readable by its owner alone, by one process only."""
    make_folder(path.parent)
    if not path.exists():
        # A name of its own: processes in containers have the same pid, and may share the folder.
        handle, fresh = tempfile.mkstemp(prefix=".secret_key.", dir=path.parent)
        try:
            with open(handle, "w") as file:  # noqa: PTH123  it is open already
                file.write(new_secret_key() + "\n")
                file.flush()
                os.fsync(file.fileno())  # what will be sealed with it must not outlive it
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)  # fails when another process was first: then its key is ours too
        finally:
            Path(fresh).unlink()
    return path.read_text()
