"""How the service is pointed at the sandbox: the settings that take the place of real accounts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

import handlers

if TYPE_CHECKING:
    from receiver.sandbox import SandboxSettings

LOOPBACK = "127.0.0.0/8,::1/128"


def sandbox_environment(
    sandbox_url: str, service_url: str, settings: SandboxSettings, environ: Mapping[str, str]
) -> dict[str, str]:
    """Variables for the service and the sandbox, so that both know the same credentials.

    Credentials are the sandbox's own. A secret of a provider that the sandbox could use but was not
    given (the key of signed callbacks) is made up and set on both sides. Nothing that ``environ`` sets
    is changed. A provider that the sandbox does not play stays off.
    """
    made: dict[str, str] = {}
    for provider in handlers.available():
        try:
            made.update(_provider(provider, sandbox_url, settings))
        except KeyError:  # the sandbox does not play it
            continue
    made["RECEIVER_ALLOWED_NETWORKS"] = LOOPBACK
    made["RECEIVER_PUBLIC_URL"] = service_url
    return {name: value for name, value in made.items() if not environ.get(name)}


def _provider(provider: str, sandbox_url: str, settings: SandboxSettings) -> dict[str, str]:
    made = {f"{provider}_base_url".upper(): f"{sandbox_url}/{provider}"}
    handler = handlers.find(provider)
    for option in handler.options:
        variable = handlers.variable_of(provider, option)
        if option.credential:
            made[variable] = settings.option(provider, option.name)
        elif option.secret:
            try:
                known = settings.option(provider, option.name)
            except KeyError:
                continue  # the sandbox has no use for it
            made[variable] = known or secrets.token_hex(16)
            made[f"SANDBOX_{variable}"] = made[variable]
    return made
