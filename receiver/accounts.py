"""Accounts, their API keys and their signing secret."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Collection, Sequence

from receiver import logs
from receiver.errors import Busy, Invalid, NotFound
from receiver.models import Account, ApiKey, Scope, new_id
from receiver.sealing import Sealer
from receiver.signing import Secret, dump_secrets, live, load_secrets, new_secret, rotate
from receiver.store import Connection, Store, accounts

DEFAULT = "default"
LAST_USE_STEP = 60_000
"""A key's last use is written at most this often (ms), so that reading costs no write."""

log = logs.get("accounts")


class AccountService:
    """Accounts and API keys: made, found, ended. Its transactions begin here."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], int]) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._noted: dict[str, int] = {}  # when this process last tried to write a key's use

    def bootstrap(self, api_key: str) -> None:
        """Make sure that the account ``default`` exists, and that it owns ``api_key`` unless that is empty.

        A key that was made for another account, or for less than everything, stays as it is.
        """
        now = self._clock()
        with self._store.write() as connection:
            account = self._ensure(connection, DEFAULT, now)
            if not api_key:
                return
            key = ApiKey(
                new_id("key", now), account.id, "from the settings", _prefix(api_key), frozenset({Scope.MANAGE}), now
            )
            digest = digest_of(api_key)
            taken = accounts.add_key(connection, key, digest) or accounts.revive_key(connection, account.id, digest)
        if not taken:
            log.warning("RECEIVER_API_KEY is a key of another account or scope, and stays that")

    def has_keys(self) -> bool:
        """Whether any API key exists."""
        with self._store.read() as connection:
            return accounts.count_keys(connection) > 0

    def create_key(self, account_name: str, name: str, scopes: Collection[str]) -> tuple[ApiKey, str]:
        """A new key of an account, which is made when it does not exist; the text is shown this once.

        Raises Invalid for an unknown scope or an empty name.
        """
        known = [scope.value for scope in Scope]
        unknown = [scope for scope in scopes if scope not in known]
        if unknown or not scopes:
            raise Invalid({"scopes": [f"Must be some of {', '.join(known)}."]})
        if not account_name.strip():
            raise Invalid({"account": ["Must not be empty."]})
        now = self._clock()
        text = "rk_" + secrets.token_urlsafe(32)
        with self._store.write() as connection:
            account = self._ensure(connection, account_name.strip(), now)
            key = ApiKey(
                new_id("key", now), account.id, name, _prefix(text), frozenset(Scope(word) for word in scopes), now
            )
            accounts.add_key(connection, key, digest_of(text))
        return key, text

    def list_keys(self, account_name: str) -> Sequence[ApiKey]:
        """All keys of an account, revoked ones included. Raises NotFound."""
        with self._store.read() as connection:
            account = accounts.find(connection, account_name)
            if account is None:
                raise NotFound(f"There is no account {account_name!r}.")
            return accounts.list_keys(connection, account.id)

    def get(self, account_id: str) -> Account:
        """The account. Raises NotFound."""
        with self._store.read() as connection:
            account = accounts.get(connection, account_id)
        if account is None:
            raise NotFound("There is no such account.")
        return account

    def revoke_key(self, key_id: str) -> None:
        """End a key. Raises NotFound."""
        with self._store.write() as connection:
            if not accounts.revoke_key(connection, key_id, self._clock()):
                raise NotFound(f"There is no living key {key_id!r}.")

    def authenticate(self, text: str, *, used_before: bool = False) -> ApiKey | None:
        """The living key of this text, or None; notes its use now and then. ``used_before``: only one that was used.

        The look-up is by the digest of the text, never by the text: how long it takes depends on the digest
        alone, and who does not know a key cannot choose digests that come near its digest.
        """
        now = self._clock()
        with self._store.read() as connection:
            key = accounts.find_key(connection, digest_of(text))
        if key is not None and key.last_used_at is None and used_before:
            return None
        if key is not None and now - max(key.last_used_at or 0, self._noted.get(key.id, 0)) > LAST_USE_STEP:
            self._noted[key.id] = now  # before the try: while the database is locked, others need not wait with it
            with contextlib.suppress(Busy), self._store.write() as connection:  # reading goes on without it
                accounts.touch_key(connection, key.id, now)
        return key

    def living_key(self, key_id: str) -> ApiKey | None:
        """The key with this id, None when there is none or it was revoked."""
        with self._store.read() as connection:
            return accounts.get_key(connection, key_id)

    def signing_secrets(self, account_id: str) -> tuple[Secret, ...]:
        """The live secrets that sign what goes to tasks' callback URLs, newest first.

        Raises SealBroken when no secret key opens them any more.
        """
        with self._store.read() as connection:
            sealed = accounts.secrets_sealed(connection, account_id)
        if sealed is None:
            raise NotFound("There is no such account.")
        return live(load_secrets(self._sealer.open(sealed, account_id)), self._clock())

    def rotate_signing_secret(self, account_id: str, overlap: int) -> tuple[Secret, ...]:
        """A new secret; the old ones still sign for ``overlap`` seconds. Raises Invalid when too many live.

        Old ones that no secret key opens any more cannot sign on: they end with an overlap of 0, else Invalid.
        """
        now = self._clock()
        with self._store.write() as connection:
            accounts.lock(connection, account_id)
            sealed = accounts.secrets_sealed(connection, account_id)
            if sealed is None:
                raise NotFound("There is no such account.")
            opened = self._sealer.opened(sealed, account_id)
            try:
                rotated = rotate(None if opened is None else load_secrets(opened), new_secret(), now, overlap)
            except ValueError as error:
                raise Invalid({"overlap": [str(error)]}) from None
            accounts.set_secrets(connection, account_id, self._sealer.seal(dump_secrets(rotated), account_id))
        return rotated

    def _ensure(self, connection: Connection, name: str, now: int) -> Account:
        present = accounts.find(connection, name)
        if present is not None:
            return present
        account = Account(new_id("acct", now), name, now)
        sealed = self._sealer.seal(dump_secrets([Secret(new_secret(), now, None)]), account.id)
        if accounts.add(connection, account, sealed):
            return account
        present = accounts.find(connection, name)
        assert present is not None  # another transaction has just made it
        return present


def digest_of(text: str) -> str:
    """What is kept of an API key. Keys have 256 random bits, so a plain SHA-256 cannot be reversed by guessing."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _prefix(text: str) -> str:
    return text[:7] + "…"
