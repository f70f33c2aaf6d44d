"""Where outputs of a command may go: nowhere over what it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .. import samples
from ..contracts.sampling import Calibration
from ..graph import files_of, require_apart


def check_outputs(
    outputs: Iterable[str | os.PathLike[str] | None],
    *,
    models: Iterable[Path] = (),
    calib: Calibration | None = None,
    files: Iterable[str | os.PathLike[str] | None] = (),
) -> None:
    """Refuse outputs that would be written over what a command reads, or can't be written.

    Args:
        outputs: all that are asked for.
        models: that are read, with the files of their weights.
        calib: samples that are read.
        files: what else is read.

    Raises:
        UsageError: an output is an input, or two outputs are the same file.
        InputError: a model can't be read, a folder is missing, or a file can't be written.
    """
    wanted = [Path(output) for output in outputs if output is not None]
    if not wanted:
        return
    read = [file for model in models for file in files_of(model)]
    read += [Path(file) for file in files if file is not None]
    if calib is not None and isinstance(calib.source, str | os.PathLike) and calib.source != "random":
        read += samples.files(calib.source)
    require_apart(read, wanted)
