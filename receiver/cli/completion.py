"""``receiver completion``: the script that lets a shell complete commands, options, providers and ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_PROGRAM = "receiver"
VARIABLE = "_RECEIVER_COMPLETE"
"""The environment variable by which the shell asks; click's own convention."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands.

    With it the Tab key knows commands, options and their choices, providers, operations, and ids of the running
    service (by RECEIVER_URL and RECEIVER_API_KEY; without them just no ids).

    \b
    bash:  receiver completion bash \\
               > ~/.local/share/bash-completion/completions/receiver
    zsh:   receiver completion zsh > "${fpath[1]}/_receiver"
    fish:  receiver completion fish > ~/.config/fish/completions/receiver.fish

    Or for this one shell: eval "$(receiver completion bash)"
    """  # noqa: D301  click reads the backspace
    found = get_completion_class(shell)
    assert found is not None  # the choice names only those that click knows
    click.echo(found(ctx.find_root().command, {}, _PROGRAM, VARIABLE).source().strip())
