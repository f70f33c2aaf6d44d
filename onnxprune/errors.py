"""The errors users meet: one line each, with a place, a reason, a way out and an exit code."""

from __future__ import annotations

from typing import ClassVar


class OnnxpruneError(Exception):
    """Base of every error that is meant for the user.

    Args:
        reason: what is wrong, without a trailing full stop.
        where: the file, node or option it is about, if any.
        hint: what the user can do about it, if anything is known to help.

    Attributes:
        exit_code: the process exit code that the command line uses for this kind of error.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, reason: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.reason = reason
        self.where = where
        self.hint = hint
        super().__init__(reason)

    def __str__(self) -> str:
        """One line: `where: reason; hint`."""
        text = f"{self.where}: {self.reason}" if self.where else self.reason
        text = f"{text}; {self.hint}" if self.hint else text
        return " ".join(text.split())


class CheckFailed(OnnxpruneError):
    """A verdict, budget or gate said no (exit code 1)."""

    exit_code = 1


class InputError(OnnxpruneError):
    """A file or value given by the user can't be used (exit code 2)."""


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
