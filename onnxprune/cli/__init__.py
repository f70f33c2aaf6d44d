"""The command line: options in, text out, exit codes; no logic of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from .. import __version__
from ..errors import OnnxpruneError
from . import apply, bench, calibrate, check, diff, inspect, profile, prune, validate

_BUG = 70
"""What `sysexits.h` calls an internal software error: never taken for a verdict on a model."""

_INTERRUPTED = 130
"""What shells make of a signal: 128 and its number."""

app = typer.Typer(
    name="onnxprune",
    help="Make an ONNX model smaller and faster: remove whole channels, repair the rest, prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    inspect.inspect,
    prune.prune,
    calibrate.calibrate,
    apply.apply,
    validate.validate,
    bench.bench,
    profile.profile,
    check.check,
    diff.diff,
):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxprune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options of no command."""


def main() -> None:
    """Run the command line; every error is one line on stderr, and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 a check failed, 2 bad usage or input, 3 can't be pruned as asked, 70 a bug of
        onnxprune, 130 interrupted.
    """
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        code = int(app(arguments, prog_name="onnxprune", standalone_mode=False) or 0)
        text = "interrupted" if code == _INTERRUPTED else ""
    except OnnxpruneError as error:
        code, text = error.exit_code, str(error)
    except typer.TyperException as error:
        code, text = 2, _wrong_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code, text = _INTERRUPTED, "interrupted"
    except MemoryError:
        code, text = 3, "out of memory"
    except Exception as error:
        if os.environ.get("ONNXPRUNE_DEBUG"):
            raise
        kind = f"{type(error).__name__}: {error}".replace("\n", " ")
        code = _BUG
        text = f"a bug in onnxprune ({kind}); please report it with the traceback of ONNXPRUNE_DEBUG=1"
    if text:
        stderr.print(f"onnxprune: {text}", markup=False)
    return code


def _wrong_usage(error: typer.TyperException) -> str:
    """What is wrong with the options, and which help says what is right; nothing after the help itself."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text}; see '{context.command_path} --help'" if text and context else text
