"""The command line. ``main`` is the program ``receiver``; one module for each group of commands.

A command's module is imported when the command is used, so that ``receiver tasks`` does not wait for
the database's libraries. Exit codes: ``receiver.cli.exits``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

try:
    import click
    from click.shell_completion import CompletionItem

    from receiver import __version__
    from receiver.cli.exits import MEANINGS, Exit, Problem
    from receiver.errors import Busy, Invalid, NotFound, ReceiverError, SettingsError
except KeyboardInterrupt:  # Ctrl-C before there is anybody who could tell of it
    raise SystemExit(130) from None

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
    "trigger": ("trigger", "Have the sandbox make any event, for trying out a subscriber."),
    "export": ("export", "Write all that is kept of a task, for a support ticket."),
    "purge": ("purge", "Delete now what retention would delete, with progress."),
    "completion": ("completion", "Print the script that lets a shell complete commands."),
}
"""Every command, in the order of the help: the module that holds it, and its line in the help.

The line stands here too so that ``receiver --help`` need not load every module (a test compares).
"""


class Commands(click.Group):
    """Finds commands by name in their modules, and turns faults that are to be expected into one message."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Begin; a standard stream that was closed beforehand (``>&-``, some supervisors) becomes an empty one."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  open as long as the program runs
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows fewer characters than we write
        try:
            return super().main(*args, **extra)
        except (KeyboardInterrupt, RuntimeError) as error:
            if KeyboardInterrupt not in (type(error), type(error.__cause__)):
                raise  # but Python 3.11 makes a RuntimeError of what comes while a class is made
            _interrupted()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the program's own arguments; help and version are written already here."""
        with _told():
            return super().make_context(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments, unless one is no text: it could be neither sent nor stored."""
        for arg in args:
            try:
                arg.encode()
            except UnicodeEncodeError:
                raise click.UsageError(f"{arg!r} is not valid Unicode.", ctx) from None
        return super().parse_args(ctx, args)

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; a mistyped name is answered with those that resemble it."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib  # late: who types well need not wait for it

            meant = difflib.get_close_matches(name, COMMANDS)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {' or '.join(meant)}?" if meant else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the services or the settings say no with is shown without a traceback."""
        with _told():
            return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, without loading them, and the options of the program."""
        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


_EXITS: dict[type[ReceiverError], Exit] = {NotFound: Exit.NOT_FOUND, Busy: Exit.AWAY}


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn faults that are to be expected into one message and an exit code."""
    try:
        yield
    except Invalid as error:
        fields = [f"{name}: {' '.join(messages)}" for name, messages in error.errors.items()]
        raise Problem("\n  - ".join([error.detail, *fields]), Exit.USAGE) from None
    except ReceiverError as error:
        raise Problem(error.detail, _EXITS.get(type(error), Exit.FAILED)) from None
    except SettingsError as error:
        raise Problem(f"{error}\n`receiver check` says more.", Exit.FAILED) from None
    except OSError as error:
        if error.errno == errno.EPIPE:
            _nobody_reads()
        write_the_rest()
        raise Problem(str(error), Exit.FAILED) from None
    except KeyboardInterrupt:
        _interrupted()
    except click.NoSuchOption as error:
        if error.ctx is not None and isinstance(error.ctx.command, click.Group):
            place = f"{error.ctx.command_path} COMMAND {error.option_name} …"
            said = f"{error.format_message()} Options of a command stand behind it: {place}"
            raise click.UsageError(said, error.ctx) from None
        raise
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):  # Ctrl-C at a question
            _interrupted()
        raise


def _interrupted() -> NoReturn:
    click.echo(err=True)  # the line on which the terminal wrote ^C
    raise SystemExit(Exit.INTERRUPTED)


def _nobody_reads() -> NoReturn:
    """Who read our output went away, like ``| head``: end without a word, also when Python flushes at its end."""
    _drop_the_rest(sys.stdout)
    raise SystemExit(Exit.BROKEN_PIPE)


def write_the_rest() -> None:
    """Write what is left to be said; what cannot be, Python must not try again at its end, and complain (exit 120)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop_the_rest(stream)


def _drop_the_rest(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


HELP = """Tasks to generative-AI providers, their callbacks in, signed webhooks out.

\b
Start here:  receiver demo                see it all work, in seconds
             receiver run --with-sandbox  the service, with emulated providers
             receiver check               what is wrong with the settings

Commands that talk to a running service take its address from --url or RECEIVER_URL, and the API key
from --key or RECEIVER_API_KEY. Reading commands print JSON with --json. Colours are for terminals
only; NO_COLOR=1 turns them off. `receiver completion` sets up the Tab key.

\b
Exit codes:
""" + "\n".join(
    textwrap.fill(f"{code:>5}  {meaning}", 78, subsequent_indent=" " * 7) for code, meaning in MEANINGS.items()
)


@click.command(cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="receiver", message="%(prog)s %(version)s")
def main() -> None:
    """The program ``receiver``."""
