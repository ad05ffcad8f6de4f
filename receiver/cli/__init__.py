"""The command line. ``main`` is the program ``receiver``; one module for each group of commands.

A command's module is imported when the command is used, so that ``receiver tasks`` does not wait for
the database's libraries. Exit codes: 0 it worked, 1 it failed, 2 it was called wrongly.
"""

from __future__ import annotations

import errno
import importlib
from typing import Any

import click

from receiver import __version__
from receiver.errors import Invalid, ReceiverError, SettingsError

COMMANDS = {
    "run": ("run", "The whole service on one machine: web and worker, supervised."),
    "web": ("service", "The HTTP side alone: API, callbacks, health and metrics."),
    "worker": ("service", "The working side alone: submits, polls, delivers, cleans up."),
    "sandbox": ("service", "A local emulator of all providers, with faults on demand."),
    "migrate": ("service", "Bring the database's schema up to this version."),
    "check": ("check", "Say what is wrong with the settings, and how to mend it."),
    "demo": ("demo", "See it all work with emulated providers, in seconds."),
    "keys": ("keys", "API keys of an account."),
    "reseal": ("reseal", "Encrypt what is stored with the first secret key."),
    "providers": ("providers", "List providers, or show the operations and fields of one."),
    "submit": ("submit", "Hand a task to a provider, and watch it if wanted."),
    "tasks": ("tasks", "List tasks, newest first."),
    "task": ("tasks", "Show one task, or its timeline."),
    "cancel": ("tasks", "End a task that has not ended yet."),
    "subscribers": ("subscribers", "Webhooks that get events."),
    "deliveries": ("deliveries", "List deliveries, newest first."),
    "delivery": ("deliveries", "Show one delivery with its attempts."),
    "retry": ("deliveries", "Attempt a delivery again now."),
    "replay": ("deliveries", "Deliver again what a subscriber was sent since a time."),
    "listen": ("listen", "Print events as they happen; forward them to a local port."),
}
"""Every command, in the order of the help: the module that holds it, and its line in the help.

The line stands here too so that ``receiver --help`` need not load every module (a test compares).
"""


class Commands(click.Group):
    """Finds commands by name in their modules, and turns faults that are to be expected into one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """The command, or None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"receiver.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the services or the settings say no with is shown without a traceback."""
        try:
            return super().invoke(ctx)
        except Invalid as error:
            fields = [f"{name}: {' '.join(messages)}" for name, messages in error.errors.items()]
            raise click.ClickException("\n  - ".join([error.detail, *fields])) from None
        except ReceiverError as error:
            raise click.ClickException(error.detail) from None
        except SettingsError as error:
            raise click.ClickException(f"{error}\n`receiver check` says more.") from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # who read our output went away: click ends quietly
            raise click.ClickException(str(error)) from None


HELP = """Tasks to generative-AI providers, their callbacks in, signed webhooks out.

\b
Start here:  receiver demo                  see it all work, in seconds
             receiver run --with-sandbox    the service, with emulated providers
             receiver check                 what is wrong with the settings

Commands that talk to a running service take its address from --url or RECEIVER_URL, and the API key
from --key or RECEIVER_API_KEY. Reading commands print JSON with --json. Colours are for terminals
only; NO_COLOR=1 turns them off. Exit codes: 0 it worked, 1 it failed, 2 it was called wrongly.
"""


@click.command(cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="receiver", message="%(prog)s %(version)s")
def main() -> None:
    """The program ``receiver``."""
