"""The command line: options in, text out, exit codes; no logic of its own."""

from __future__ import annotations

import os

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from .. import __version__
from ..errors import OnnxpruneError, harmless, shortened

_BUG = 70
"""What `sysexits.h` calls an internal software error: never taken for a verdict on a model."""

_INTERRUPTED = 130
"""What shells make of a signal: 128 and its number."""

_ROOM = "take fewer samples at once (--batch) or in all (--samples), or a machine with more memory"

_STAGES = {
    "calibration": "measuring statistics",
    "check": "measuring the model",
    "criteria": "scoring channels",
    "execution": "running the model",
    "gradients": "computing gradients",
    "graph": "reading or changing the model",
    "profile": "timing layers",
    "proof": "proving the surgery",
    "quality": "comparing models",
    "reductions": "cutting the model",
    "repair": "repairing weights",
    "rewrites": "cleaning the graph",
    "runtime": "running the model",
    "samples": "reading samples",
    "tuning": "fine-tuning",
}
"""Room of the package -> what goes on there."""

COMMANDS = {
    "inspect": "Show every layer and weight, its group of channels, and what blocks it.",
    "prune": "Remove whole channels until a budget is met.",
    "finetune": "Fine-tune a model towards the outputs of its original, labels, or both.",
    "calibrate": "Gather statistics of samples, to prune with later or elsewhere.",
    "apply": "Replay a plan on its model, or on a checkpoint.",
    "validate": "Compare two models side by side in ONNX Runtime.",
    "bench": "Time models in turns in ONNX Runtime.",
    "profile": "Time every layer, at the width it has and at narrower ones.",
    "check": "Check models against the limits in pyproject.toml or onnxprune.toml.",
    "diff": "Show what changed from one model to another.",
}
"""Each is a function in a module of its own, imported when it is called."""

app = App(
    name="onnxprune",
    help="Make an ONNX model smaller and faster: remove whole channels, repair the rest, prove it.",
    version=f"onnxprune {__version__}",
    default_parameter=Parameter(negative=(), show_default=False),
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, _help in COMMANDS.items():
    app.command(f"onnxprune.cli.{_name}:{_name}", name=_name, help=_help)


def run(arguments: list[str]) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 a check failed, 2 bad usage or input, 3 can't be pruned as asked, 70 a bug of
        onnxprune, 130 interrupted.
    """
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        if not arguments:
            app.help_print([])
            return 2
        code = int(app(arguments, exit_on_error=False, print_error=False) or 0)
        text = "interrupted" if code == _INTERRUPTED else ""
    except OnnxpruneError as error:
        code, text = error.exit_code, str(error)
    except CycloptsError as error:
        code, text = 2, _wrong_usage(error)
    except KeyboardInterrupt:
        code, text = _INTERRUPTED, "interrupted"
    except MemoryError as error:
        code, text = 3, f"out of memory while {_stage(error)}; {_ROOM}"
    except Exception as error:
        if os.environ.get("ONNXPRUNE_DEBUG"):
            raise
        kind = harmless(shortened(" ".join(f"{type(error).__name__}: {error}".split())))
        code = _BUG
        text = f"a bug in onnxprune ({kind}); please report it with the traceback of ONNXPRUNE_DEBUG=1"
    return _said(stderr, code, text)


def _said(stderr: Console, code: int, text: str) -> int:
    if text:
        stderr.print(f"onnxprune: {harmless(text)}", markup=False)
    return code


def _stage(error: BaseException) -> str:
    """What was going on where an error comes from: the innermost room of the package that says so."""
    found, trace = "working", error.__traceback__
    while trace is not None:
        room = (trace.tb_frame.f_globals.get("__name__", "") + "..").split(".")[1]
        found = _STAGES.get(room, found)
        trace = trace.tb_next
    return found


def _wrong_usage(error: CycloptsError) -> str:
    """What is wrong with the options, and which help says what is right."""
    text = " ".join(str(error).split()).rstrip("., ")
    command = " ".join(["onnxprune", *(error.command_chain or ())])
    return f"{text}; see '{command} --help'"
