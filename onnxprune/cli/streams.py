"""The streams and signals of a process that runs one command.

What reads a command's output may go away, a disk may be full, and an encoding may lack characters: none of
these changes what a command does or its exit code, but for a full disk. Signals end it as exceptions do, so
that what is being written goes.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, Any, TextIO

INTERRUPTED = 128 + signal.SIGINT
"""What shells make of a signal: 128 and its number."""

FAILED = 2
"""The exit code where a stream can't be written to."""

_ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_PLAIN = {
    "−": "-",
    "×": "x",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "µ": "u",
    "…": "...",
    "✅": "ok",
    "❌": "FAIL",
    "⚠": "warning",
    "\ufe0f": "",
    "➖": "skip",
    "🎉": "",
    "\ufffd": "?",
}
"""What stands for characters of ours in encodings that lack them."""


class Terminated(BaseException):
    """A signal asks the process to end.

    Attributes:
        code: the exit code.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def guarded(command: Callable[[], int]) -> int:
    """Run a command in a process of its own, whatever happens to its streams.

    Args:
        command: gives an exit code; it tells of errors by itself.

    Returns:
        The exit code: the command's own, 2 if its output can't be written, 130 and above for signals.
    """
    out, err = _Stream(1), _Stream(2)
    sys.stdout, sys.stderr = out.text(sys.stdout), err.text(sys.stderr)
    warnings.simplefilter("ignore")  # of libraries: what matters to a user is told as an error or a note
    with _signals():
        try:
            code = command()
        except KeyboardInterrupt:
            code = _said("interrupted", INTERRUPTED)
        except Terminated as end:
            code = _said("terminated", end.code)
        sys.stdout.flush()
    if out.error is not None:
        code = _said(f"standard output: can't be written ({out.error.strerror})", FAILED)
    sys.stderr.flush()
    return code


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While libraries are imported, a signal ends the process at once, in one line: nothing has begun yet.

    Imports are no place for exceptions out of nowhere.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        told = "interrupted" if number == signal.SIGINT else "terminated"
        with contextlib.suppress(OSError):
            os.write(2, f"onnxprune: {told}\n".encode())
        os._exit(128 + number)

    numbers = [n for n in (signal.SIGINT, *_ENDINGS) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Signals that end a process as exceptions; those that a caller has other plans for stay."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Terminated(number)

    numbers = [n for n in _ENDINGS if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _said(text: str, code: int) -> int:
    sys.stderr.write(f"onnxprune: {text}\n")
    return code


class _Stream(io.RawIOBase):
    """A file descriptor that never fails: what can't be written is lost.

    Args:
        handle: the descriptor; it may be closed.

    Attributes:
        error: why nothing can be written, unless nobody reads it any more.
    """

    def __init__(self, handle: int) -> None:
        super().__init__()
        self._handle = handle
        self._gone = False
        self.error: OSError | None = None

    def text(self, like: TextIO | IO[str] | None) -> TextIO:
        """The stream for text, in the encoding of another one; characters that it lacks are replaced."""
        encoding = getattr(like, "encoding", None) or "utf-8"
        at_once = self.isatty() or self._handle == 2
        return io.TextIOWrapper(io.BufferedWriter(self), encoding, errors=_REPLACE, line_buffering=at_once)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._handle

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return os.isatty(self._handle)
        except OSError:
            return False

    def write(self, data: Any, /) -> int:
        """Write some of the data, or none if there is nowhere to write it; returns how much is done with."""
        if self._gone:
            return len(data)
        try:
            return os.write(self._handle, data)
        except OSError as error:
            self._gone = True
            if error.errno not in (errno.EPIPE, errno.EBADF, errno.EIO):
                self.error = error
            return len(data)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?") for c in lacking), error.end


_REPLACE = "onnxprune.replace"
codecs.register_error(_REPLACE, _replaced)
