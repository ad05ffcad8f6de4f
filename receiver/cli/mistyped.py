"""Commands that say what they take to those who type what they do not take."""

from __future__ import annotations

import click


class Listing(click.Command):
    """A command that lists things, and takes none of them: another command shows one."""

    allow_extra_args = True  # they are refused here, with more words

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the options; an argument is answered with the command that shows one thing."""
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            one = {"tasks": "task", "deliveries": "delivery"}[str(self.name)]
            ctx.fail(f"`{ctx.command_path}` is the list, and takes no {rest[0]!r}. `receiver {one} ID` shows one.")
        return rest


class Group(click.Group):
    """A group of few commands: all of them are named where one is not there."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. There are {', '.join(sorted(self.commands))}.")
        return super().resolve_command(ctx, args)
