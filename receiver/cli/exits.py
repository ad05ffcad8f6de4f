"""Exit codes: the same meaning in every command, so that scripts can tell what happened."""

from __future__ import annotations

from enum import IntEnum

import click


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    AWAY = 5
    UNFINISHED = 6
    INTERRUPTED = 130
    """128 and the number of SIGINT, as shells count."""
    BROKEN_PIPE = 141
    """128 and the number of SIGPIPE."""


MEANINGS = {
    Exit.OK: "it worked",
    Exit.FAILED: "what was asked for failed: the task failed, a delivery was refused, `check` found a problem",
    Exit.USAGE: "it was called wrongly: an option, an argument or a field of the input",
    Exit.NOT_FOUND: "there is no such task, subscriber, delivery or event",
    Exit.DENIED: "no API key, a wrong one, or one that may not do this",
    Exit.AWAY: "the service or its database does not answer, or is too busy: try again later",
    Exit.UNFINISHED: "`--wait` was over before the end; the work goes on",
    Exit.INTERRUPTED: "broken off with Ctrl-C (commands that run until Ctrl-C end with 0)",
    Exit.BROKEN_PIPE: "the program that read the output went away",
}
"""What each code says, for the help and the documentation."""


def of_answer(status: int | None) -> Exit:
    """The exit code for an HTTP status that was no success; None: there was no answer."""
    match status:
        case None | 429:
            return Exit.AWAY
        case 401 | 403:
            return Exit.DENIED
        case 404:
            return Exit.NOT_FOUND
        case 400 | 413 | 415 | 422:
            return Exit.USAGE
        case _ if status >= 500:
            return Exit.AWAY
    return Exit.FAILED


class Problem(click.ClickException):
    """Ends the command with a message, and with the exit code that says what kind of problem it is.

    What others said may be in the message: it is shown without control characters.
    """

    def __init__(self, message: str, code: Exit) -> None:
        from receiver.cli.controls import replaced  # late: the help comes without it

        super().__init__(replaced(message))
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class, and reads it of the object
