"""How latency is measured."""

# Annotations are evaluated here: they hold what `contracts.options` reads.

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from ..errors import UsageError
from .options import Option

if TYPE_CHECKING:
    from ..runtime import ExecutionOptions, Feeds


def sizes_by_name(texts: Sequence[str]) -> dict[str, int]:
    """Sizes of dimensions, from texts `NAME=SIZE`.

    Raises:
        UsageError: a text is none.
    """
    sizes = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"'{text}' is not NAME=SIZE", where="--dim", hint="such as --dim batch=4")
        sizes[name] = int(size)
    return sizes


@dataclass(frozen=True)
class Timing:
    """How latency is measured.

    Attributes:
        provider: The execution provider of ONNX Runtime.
        threads: Threads within an operator; 0 leaves it to ONNX Runtime.
        dims: Size of a symbolic dimension; may be repeated.
        batch: Size of first axes without a fixed size; 1 by default.
        table_in: Use the latency table in this file, not the cache. One from another machine is all that is
            known: nothing is measured then.
        sample: A real one, of models whose inputs of integers must agree: random ones may not run.
        table_out: Save the latencies that were used, for --profile-in.
    """

    TITLE: ClassVar[str] = "Execution"

    provider: Annotated[str, Option(metavar="NAME")] = "CPUExecutionProvider"
    threads: Annotated[int, Option(low=0)] = 0
    dims: Annotated[
        Mapping[str, int], Option(flag="--dim", cli=list[str], read=sizes_by_name, metavar="NAME=SIZE")
    ] = field(default_factory=dict)
    batch: Annotated[int | None, Option(low=1)] = None
    table_in: Annotated[
        str | os.PathLike[str] | None,
        Option(flag="--profile-in", cli=Path, metavar="PATH", requires=("latency",)),
    ] = None
    table_out: Annotated[
        str | os.PathLike[str] | None,
        Option(flag="--profile-out", cli=Path, metavar="PATH", requires=("latency",)),
    ] = None

    sample: Annotated["Feeds | None", Option(hidden=True)] = field(default=None, compare=False)

    @property
    def options(self) -> "ExecutionOptions":
        """How ONNX Runtime executes."""
        from ..runtime import ExecutionOptions

        return ExecutionOptions(self.provider, self.threads)
