"""The command line. Rows go to standard output, everything else to standard error; an error is one plain line."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer

from gradmeter.bench import subcommands  # noqa: F401  the commands register themselves
from gradmeter.bench.subcommands.app import app
from gradmeter.estimators.errors import UsageError, printable, unknown

USAGE, DISK_FULL, INTERRUPTED = 2, 3, 130
LONGEST_MESSAGE = 1000
#: Set by the shells' completion.
COMPLETION = "_GRADMETER_COMPLETE"
#: By command, what an interrupted one leaves.
KEPT = {
    "run": "; finished rows are kept, the same command goes on from there",
    "fit": "; if there are checkpoints, the same command with --resume goes on from them",
}


def fail(message: str, status: int) -> int:
    """Print an error as one line, without the middle of a very long one, and return the exit status."""
    line = " ".join(printable(message).split())
    if len(line) > LONGEST_MESSAGE:
        line = f"{line[: LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2 :]}"
    print(f"gradmeter: error: {line}", file=sys.stderr)
    return status


class _Messages(io.TextIOWrapper):
    """Standard error, where a full disk or a reader that has gone changes no exit status."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(text)


def script() -> NoReturn:
    """`gradmeter` as a process. After Ctrl-C it waits for no thread: one that compiles would delay it, or abort it."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if sys.stderr is not None:
            sys.stderr = _Messages(sys.stderr.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        if COMPLETION in os.environ:  # a shell asks what completes a line; typer answers and exits
            app(prog_name="gradmeter")
        status = main()
    except KeyboardInterrupt:
        status = fail("interrupted", INTERRUPTED)
    if status == INTERRUPTED:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    # Not command.main(), which exits the process at a broken pipe and has an exit status of its own for it.
    try:
        with command.make_context("gradmeter", list(given), obj=given) as context:
            status = command.invoke(context) or 0
        sys.stdout.flush()
        return int(status)
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        return fail(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted" + KEPT.get(given[0] if given else "", ""), INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough: no complaint, not at exit either
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 0
    except _usage_exception() as error:
        return fail(_click_message(error, " ".join(["gradmeter", *given[:1]])), USAGE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return fail(f"no room to write: {error.strerror}", DISK_FULL)
        return fail(str(error), USAGE)


def _prepare_streams() -> None:
    """A closed stream swallows what is written; every other one takes any text, whatever the locale says."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _usage_exception() -> type[Exception]:
    """typer's base class of usage errors, wherever this version of it keeps it."""
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _click_message(error: Any, path: str) -> str:
    """Return a usage error of the command `path` in one line, with the nearest right option or command."""
    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoSuchOption":
        options = [name for p in context.command.params for name in p.opts if name.startswith("--")]
        return str(unknown("option", error.option_name, options, f"{context.command_path} --help"))
    if context is not None and message.startswith("No such command"):
        return str(unknown("command", message.split("'")[1], context.command.list_commands(context)))
    return f"{message}; see {path} --help"


if __name__ == "__main__":
    script()
