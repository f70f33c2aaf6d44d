"""Parameters that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Out = Annotated[Path, Parameter(name=["--output", "-o"])]
ReportOut = Annotated[Path | None, Parameter(name="--report")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"])]
