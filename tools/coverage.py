#!/usr/bin/env python3
"""Prune every model of a zoo with the command line, and judge each result independently of the pruner.

    tools/coverage.py ZOO_DIR [--ratio 0.5] [--jobs 2] [--only PATTERN] [--markdown FILE] [--json FILE]

ZOO_DIR holds `index.json`, weight-free skeletons of ONNX files, and `skeleton.py` that fills them with
weights. Each model is filled, pruned and judged (tools/oracle.py) in processes of their own: a crash is
that model's failure and nobody else's.

Skeletons are filled with `--untie`: the TorchScript exporter merges equal tensors (zero biases, unit
scales) of an untrained net, which training would not leave equal, so each gets values of its own. `--tied`
keeps them merged, which tests copying on write. Cuts are relative to the filled file; a model that is not
pruned and exact counts 0.

Exit code 1 if any result is wrong or broken, or any run ended in a traceback, a crash or a time-out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
COMMAND = (
    f"{shlex.quote(sys.executable)} -m onnxprune prune {{model}} -o {{out}} --ratio {{ratio}}"
    " --criterion l1 --repair none --no-simplify --force --quiet"
)
JUDGE_SECONDS = 600
LOW_CUT = 0.4
UNBLOCK = "; what would unblock it: "
INHERENT = ("nothing", "--allow-approximate")
# exact: pruned and proven. unchanged: exit code 0 but nothing removed. refused: another exit code, without a
# traceback. error: the original could not be filled, run or judged, which is no fault of the pruner.
STATUSES = ("exact", "unchanged", "refused", "wrong", "broken", "traceback", "crash", "timeout", "error")
FAULTS = {"wrong", "broken", "traceback", "crash", "timeout"}


@dataclass
class Row:
    """What became of one model. Cuts are shares removed; `blocked` is the largest blocked share.

    `why` is what `inspect` says of it: the reason, and what would unblock it.
    """

    name: str
    status: str
    note: str = ""
    params_cut: float = 0.0
    macs_cut: float = 0.0
    error: float | None = None
    mask: str = ""
    effect: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    blocked: float | None = None
    blocked_by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Settings:
    """How to prune and judge."""

    zoo: Path
    command: str
    ratio: float
    timeout: float
    tied: bool
    threads: int


def run(command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command from the project's folder, with the project importable; raises TimeoutExpired."""
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, check=False
    )


def last_line(text: str) -> str:
    """The last line of what a command said, which is where an error is."""
    return (text.strip().splitlines() or [""])[-1][:200]


def fill(settings: Settings, skeleton: Path, model: Path) -> str:
    """Fill a skeleton with weights; an empty string, or why that failed."""
    command = [sys.executable, str(settings.zoo / "skeleton.py"), "materialize"]
    done = run([*command, *([] if settings.tied else ["--untie"]), str(skeleton), str(model)], JUDGE_SECONDS)
    return last_line(done.stderr) or "no file" if done.returncode or not model.exists() else ""


def prune(settings: Settings, model: Path, out: Path) -> Row:
    """Prune one file; the status is `exact`, unproven, if the pruner says that it is done."""
    row = Row(model.stem, "exact")
    values = {"model": shlex.quote(str(model)), "out": shlex.quote(str(out)), "ratio": settings.ratio}
    started = time.perf_counter()
    try:
        done = run(shlex.split(settings.command.format(**values)), settings.timeout)
    except subprocess.TimeoutExpired:
        row.status, row.seconds = "timeout", settings.timeout
        return row
    row.seconds, row.exit_code = time.perf_counter() - started, done.returncode
    if "Traceback (most recent call last)" in done.stderr:
        row.status = "traceback"
    elif done.returncode < 0:
        row.status = "crash"
    elif done.returncode > 0:
        row.status = "refused"
    elif not out.exists():
        row.status, row.note = "broken", "no file was written"
    if done.returncode:
        row.note = last_line(done.stderr)
    return row


def judge(settings: Settings, row: Row, model: Path, out: Path, feed: dict[str, Any]) -> None:
    """Fill in the verdict of the oracle, run in a process of its own."""
    command = [sys.executable, str(HERE / "oracle.py"), str(model), str(out), "--json"]
    command += ["--feed", json.dumps(feed), "--threads", str(settings.threads)]
    try:
        done = run(command, JUDGE_SECONDS)
        verdict = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        row.status, row.note = "error", "the judge timed out"
        return
    except json.JSONDecodeError:
        row.status, row.note = "error", last_line(done.stderr)
        return
    row.status, row.note = verdict["status"], verdict["reason"]
    row.error, row.mask, row.effect = verdict["error"], verdict["mask"], verdict["effect"]
    if row.status == "exact":
        (params, params_left), (macs, macs_left) = verdict["params"], verdict["macs"]
        row.params_cut, row.macs_cut = 1 - params_left / max(params, 1), 1 - macs_left / max(macs, 1)


def largest_block(model: Path, timeout: float) -> tuple[float | None, str, str]:
    """The largest share of parameters that one operator blocks, its type, and why, by `onnxprune inspect`.

    Nothing if that command or its answer does not exist.
    """
    try:
        done = run([sys.executable, "-m", "onnxprune", "inspect", str(model), "--json"], timeout)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None, "", ""
    return blocked_share(report)


def blocked_share(report: Any) -> tuple[float | None, str, str]:
    """The share of parameters in layers that one operator (`by`: "Op name") blocks, which one, and why."""
    layers = report.get("layers") if isinstance(report, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        return None, "", ""
    total = sum(layer.get("params", 0) for layer in layers)
    by_operator: dict[str, Counter[str]] = defaultdict(Counter)
    for layer in layers:
        if layer.get("by"):
            why = f"{layer.get('reason')}{UNBLOCK}{layer.get('unblock')}"
            by_operator[layer["by"].partition(" ")[0]][why] += layer.get("params", 0)
    if not total or not by_operator:
        return (0.0 if total else None), "", ""
    operator, reasons = max(by_operator.items(), key=lambda item: item[1].total())
    return reasons.total() / total, operator, reasons.most_common(1)[0][0]


def cover(settings: Settings, entry: dict[str, Any]) -> Row:
    """Fill, prune and judge one entry of the index."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        model, out = Path(folder, f"{entry['name']}.onnx"), Path(folder, "pruned.onnx")
        problem = fill(settings, settings.zoo / entry["file"], model)
        if problem:
            return Row(entry["name"], "error", problem)
        row = prune(settings, model, out)
        if row.status == "exact":
            judge(settings, row, model, out, entry["feed"])
        if row.status in ("exact", "unchanged", "refused"):
            row.blocked, row.blocked_by, row.why = largest_block(model, settings.timeout)
        return row


def cells(row: Row) -> list[str]:
    """A row of the table, as text."""
    return [
        row.name,
        row.status,
        f"{row.params_cut:.0%}" if row.status == "exact" else "",
        f"{row.macs_cut:.0%}" if row.status == "exact" else "",
        "" if row.error is None else f"{row.error:.0e}",
        row.mask,
        f"{row.seconds:.1f}",
        "" if row.exit_code is None else str(row.exit_code),
        "" if not row.blocked else f"{row.blocked:.0%} {row.blocked_by}",
        row.note,
    ]


HEADER = ["model", "status", "params", "MACs", "error", "mask", "s", "exit", "largest block", "note"]
WIDTHS = [46, 10, 7, 6, 7, 10, 6, 5, 18, 0]


def text_line(values: Sequence[str]) -> str:
    """A line of the table on the terminal."""
    return "".join(f"{value:<{width}}" for value, width in zip(values, WIDTHS, strict=True)).rstrip()


def summary(rows: Sequence[Row]) -> list[str]:
    """Totals, and the files of which less than 40% was cut, each with what is most in the way."""
    counts = Counter(row.status for row in rows)
    share = counts["exact"] / max(len(rows), 1)
    low = sorted((r for r in rows if r.params_cut < LOW_CUT), key=lambda r: (r.params_cut, r.name))
    return [
        f"{len(rows)} files; pruned and exact: {counts['exact']} ({share:.1%})",
        f"mean cut over all files: {mean(r.params_cut for r in rows):.1%} of parameters, "
        f"{mean(r.macs_cut for r in rows):.1%} of MACs",
        "other results: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES[1:]),
        f"slowest: {max(r.seconds for r in rows):.1f} s",
        f"below {LOW_CUT:.0%} of parameters: {len(low)} files",
        *(f"  {in_the_way(r)}" for r in low),
    ]


def in_the_way(row: Row) -> str:
    """Why little was cut of a file; inherent is what no engine could cut exactly."""
    text = f"{row.name}: {row.params_cut:.0%}{'' if row.status == 'exact' else f' ({row.status})'}"
    if not row.blocked:
        return text
    way = row.why.rpartition(UNBLOCK)[2]
    kind = "inherent" if way.startswith(INHERENT) else "a gap"
    return f"{text}; {row.blocked:.0%} is blocked by {row.blocked_by} ({kind}): {row.why}"


def markdown(rows: Sequence[Row]) -> str:
    """The table and the summary as a document."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells(row))} |" for row in rows]
    listed = [f"    - {line.strip()}" if line.startswith("  ") else f"- {line}" for line in summary(rows)]
    return "\n".join([*listed, "", *lines, ""])


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("zoo", type=Path, help="folder with index.json and skeleton.py")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=2, help="models at the same time")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="shell pattern of names")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for pruning one model")
    parser.add_argument("--tied", action="store_true", help="leave merged constants of the skeletons merged")
    parser.add_argument(
        "--command", default=COMMAND, help="how to prune: {model}, {out} and {ratio} are filled in"
    )
    parser.add_argument("--markdown", type=Path, help="write the table and the summary to this file")
    parser.add_argument("--json", type=Path, help="write all the rows to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the zoo; print rows as they come, then the summary."""
    args = options(argv)
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    settings = Settings(args.zoo.resolve(), args.command, args.ratio, args.timeout, args.tied, threads)
    index = json.loads((settings.zoo / "index.json").read_text())["models"]
    entries = [entry for entry in index if fnmatch.fnmatch(entry["name"], args.only)]
    if not entries:
        print(f"no model in {settings.zoo} is called {args.only}", file=sys.stderr)
        return 2
    print(text_line(HEADER))
    rows = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for done in as_completed([pool.submit(cover, settings, entry) for entry in entries]):
            rows.append(done.result())
            print(text_line(cells(rows[-1])), flush=True)
    rows.sort(key=lambda row: row.name)
    print("", *summary(rows), sep="\n")
    if args.markdown:
        args.markdown.write_text(markdown(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return int(any(row.status in FAULTS for row in rows))


if __name__ == "__main__":
    sys.exit(main())
