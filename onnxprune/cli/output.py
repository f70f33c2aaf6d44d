"""What all commands do with what they have to say."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from ..errors import harmless
from ..types import Progress

_FILE_WIDTH = 160  # of tables that go into a file or another program: wide enough for names in one piece


class _Harmless(Console):
    """A console that prints names out of models, whatever table they are in, as text that does no harm."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is printed: each a part of a line, or a line break."""
        for piece in super().render(renderable, options):
            if piece.control or piece.text == "\n" or not piece.text:
                yield piece
            else:
                yield Segment("\n".join(map(harmless, piece.text.split("\n"))), piece.style)


class Output:
    """Tables to stdout and progress to stderr, or nothing at all.

    Args:
        quiet: say nothing.

    Attributes:
        seconds: what each stage took, in the order in which they began.
    """

    def __init__(self, quiet: bool) -> None:
        self._console = _Harmless(quiet=quiet, markup=False, highlight=False)
        if not self._console.is_terminal and "COLUMNS" not in os.environ:
            self._console.width = _FILE_WIDTH
        self._progress = Console(stderr=True, quiet=quiet, markup=False)
        self.seconds: dict[str, float] = {}

    def show(self, *what: RenderableType) -> None:
        """Print to stdout."""
        for thing in what:
            self._console.print(thing)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Say what is going on, on stderr, and keep how long it takes."""
        with ExitStack() as stack:
            say = self._once()
            if self._progress.is_terminal:
                status = stack.enter_context(Status("Loading", console=self._progress))
                say = partial(_update, status)
            stages = _Stages(self.seconds)

            def told(text: str) -> None:
                stages.begin(_stage(text))
                say(text)

            yield told
            stages.end()

    def _once(self) -> Progress:
        """Without a terminal a stage is named once, not its every step."""
        said: set[str] = set()

        def say(text: str) -> None:
            stage = _stage(text)
            if stage not in said:
                said.add(stage)
                self._progress.print(f"{harmless(stage)} ...", highlight=False)

        return say


class _Stages:
    """A clock that is told what begins.

    Args:
        seconds: what each stage has taken.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._stage, self._since = "Loading", time.perf_counter()

    def begin(self, stage: str) -> None:
        """The last stage is over; one may go on later."""
        self.end()
        self._stage = stage

    def end(self) -> None:
        """So is this one."""
        now = time.perf_counter()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._since = now


def _update(status: Status, text: str) -> None:
    status.update(Text(f"{harmless(text)} ..."))


def _stage(text: str) -> str:
    """What is going on, without how far it is."""
    return text.partition(":")[0]


def as_json(data: Any) -> str:
    """JSON with sorted keys left alone, no NaN or infinity (they become null)."""
    return json.dumps(_finite(data), indent=1, default=str).replace("##[", "#\\u0023[")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {k: _finite(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(v) for v in data]
    return data


def print_text(text: str, *, end: str = "\n") -> None:
    """Print a text as it is."""
    sys.stdout.write(f"{text}{end}")
