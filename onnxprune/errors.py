"""The errors users meet: one line each, with a place, a reason, a way out and an exit code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

LONGEST = 2000
"""Characters of a message; names in files may have millions."""

_REPLACED = "\ufffd"
_COMMANDS = re.compile(r"##(?=\[)|^(\s*):(?=:)")


def harmless(text: str) -> str:
    """One line of text from elsewhere that neither a terminal nor a workflow's log takes for a command.

    Names in a model are anybody's. What can't be printed (control characters, line breaks, marks that turn
    the direction of writing around) is replaced, and so is the beginning of what logs of GitHub and Azure
    execute: `##[` anywhere, `::` at the start of a line. The length stays.
    """
    printable = text if text.isprintable() else "".join(c if c.isprintable() else _REPLACED for c in text)
    return _COMMANDS.sub(lambda found: found[0][:-1] + _REPLACED, printable)


def shortened(text: str, longest: int = LONGEST) -> str:
    """The beginning and the end of a text that is longer than anybody reads."""
    return text if len(text) <= longest else f"{text[: longest * 3 // 4]} ... {text[-longest // 4 :]}"


class OnnxpruneError(Exception):
    """Base of every error that is meant for the user.

    Args:
        reason: what is wrong, without a trailing full stop.
        where: the file, node or option it is about, if any.
        hint: what the user can do about it, if anything is known to help.

    Attributes:
        exit_code: the process exit code that the command line uses for this kind of error.

    Example:
        >>> str(InputError("is not an ONNX model", where="a.onnx", hint="export it again"))
        'a.onnx: is not an ONNX model; export it again'
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, reason: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.reason = reason
        self.where = where
        self.hint = hint
        super().__init__(reason)

    def __str__(self) -> str:
        """One harmless line: `where: reason; hint`."""
        text = f"{self.where}: {self.reason}" if self.where else self.reason
        text = f"{text}; {self.hint}" if self.hint else text
        return harmless(shortened(" ".join(text.split())))


class CheckFailed(OnnxpruneError):
    """A verdict, budget or gate said no (exit code 1)."""

    exit_code = 1


class InputError(OnnxpruneError):
    """A file or value given by the user can't be used (exit code 2)."""


class LoadFailed(InputError):
    """ONNX Runtime doesn't take a model (exit code 2)."""


class RunFailed(InputError):
    """ONNX Runtime took a model, and a node failed on what it was fed (exit code 2).

    Attributes:
        feeds: arrays by input name, where they are known.
    """

    feeds: Mapping[str, Any] | None = None


class UsageError(OnnxpruneError):
    """Options that are wrong by themselves or contradict one another (exit code 2)."""


class Infeasible(OnnxpruneError):
    """The model can't be pruned as asked (exit code 3)."""

    exit_code = 3


class ProofFailed(OnnxpruneError):
    """A transformation was not what it claims to be: a bug of onnxprune (exit code 70).

    It is none of the above, so that no program takes it for a verdict on a model.
    """

    exit_code = 70
