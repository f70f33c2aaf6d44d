#!/usr/bin/env python3
"""Run commands on mutated models, samples, plans, statistics, tables, configurations and baselines.

    tools/fuzz.py [--inputs 2000] [--minutes M] [--seed 0] [--jobs 2] [--kind KIND] [--out FILE]
    tools/fuzz.py --replay FILE

Each input is one case: a seed with up to four mutations, drawn by hypothesis. A run is unclean if it hangs,
crashes, takes much memory, ends in a traceback or "a bug", prints control characters, commands to a log of a
workflow or another library's lines, gives no reason or several, or leaves files of a failed run.

What is found is shrunk by hypothesis, and written to --out as lines of JSON. `tests/corpus` has what was ever
found; the tests run it. Exit code 1 if anything is unclean.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing import seeds
from fuzzing.cases import FILES, JSON, READERS, Case, Found, Kit, kit, line, loaded, tried
from fuzzing.mutate import BYTE_EDITS, JSON_EDITS, MODEL_EDITS, Edit
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
_NUMBERS = st.integers(0, 2**16)
_AT_ONCE = 4
"""Commands that run on one input."""


def _edits(names: list[str]) -> st.SearchStrategy[tuple[Edit, ...]]:
    one = st.builds(Edit, st.sampled_from(names), _NUMBERS, _NUMBERS)
    return st.lists(one, min_size=1, max_size=4).map(tuple)


def _of(kind: str, seed: str, edits: st.SearchStrategy[tuple[Edit, ...]]) -> st.SearchStrategy[Case]:
    count = len(READERS[kind])
    commands = st.lists(st.integers(0, count - 1), min_size=1, max_size=_AT_ONCE, unique=True)
    return st.builds(Case, st.just(seed), edits, commands.map(tuple))


def cases(kind: str = "") -> st.SearchStrategy[Case]:
    """All cases, or of a kind: `model` for graphs, `bytes` for models as bytes, `files` for all others."""
    graphs = [_of("model", seed, _edits(list(MODEL_EDITS))) for seed in seeds.MODELS]
    raw = [_of("model", seed, _edits(list(BYTE_EDITS))) for seed in seeds.MODELS]
    files = [_of(FILES[seed][0], seed, _edits(list(BYTE_EDITS))) for seed in FILES]
    files += [_of(FILES[seed][0], seed, _edits(list(JSON_EDITS))) for seed in JSON]
    ways = {"model": st.one_of(graphs), "bytes": st.one_of(raw), "files": st.one_of(files)}
    return ways[kind] if kind else st.one_of(ways["model"], ways["model"], ways["bytes"], ways["files"])


def drawn(count: int, seed: int, kind: str = "") -> list[Case]:
    """So many cases, the same ones for the same seed."""
    found: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=_QUIET,
    )
    @given(cases(kind))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def shrunk(found: Found, good: Kit) -> Case:
    """The simplest case with the same fault that hypothesis finds in a minute."""
    until = time.monotonic() + 60

    def same(case: Case) -> bool:
        return time.monotonic() < until and any(
            f.faults and f.signature == found.signature for f in tried(case, good)
        )

    kind = "model" if {e.name for e in found.case.edits} <= MODEL_EDITS.keys() else ""
    one = st.just(found.case) | cases(kind)
    return find(
        one,
        same,
        settings=settings(database=None, deadline=None, max_examples=50, suppress_health_check=_QUIET),
    )


def _share(job: tuple[list[Case], Kit]) -> tuple[Counter[str], list[Found]]:
    """Exit codes of all runs of some cases, and those that are not clean."""
    mine, good = job
    done = [one for case in mine for one in tried(case, good)]
    return Counter(str(one.run.code) for one in done), [one for one in done if one.faults]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop then, and tell how far it is"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", default="", choices=["", "model", "bytes", "files"])
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--replay", type=Path, help="lines of JSON that --out wrote, or a file of tests/corpus"
    )
    parser.add_argument("--no-shrink", action="store_true")
    options = parser.parse_args()
    import onnxslim  # noqa: F401  (forks have it then)

    import onnxprune.cli.app  # noqa: F401

    good = kit()
    if options.replay:
        wanted = [
            loaded(json.loads(text)) for text in options.replay.read_text().splitlines() if text.strip()
        ]
    else:
        wanted = drawn(options.inputs, options.seed, options.kind)
    start = time.monotonic()
    size = max(1, min(10, -(-len(wanted) // options.jobs)))
    parts = [(wanted[k : k + size], good) for k in range(0, len(wanted), size)]
    codes: Counter[str] = Counter()
    found: list[Found] = []
    inputs = 0
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for (share, _), (more, new) in zip(parts, pool.imap(_share, parts), strict=True):
            inputs += len(share)
            codes += more
            found += new
            for one in new:
                told = (one.run.err.decode("utf-8", "replace").strip().splitlines() or ["-"])[-1]
                said = f"{', '.join(one.faults)}: {' '.join(one.run.arguments)}"
                print(f"{said}\n  {told[:300]!a}\n  {line(one.case)}", flush=True)
            if sys.stderr.isatty():
                print(f"\r{inputs} inputs, {len(found)} unclean runs", end="", file=sys.stderr)
            if time.monotonic() - start > 60 * options.minutes:
                break
    kinds = Counter(one.signature for one in found)
    took = time.monotonic() - start
    ended = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    print(f"{inputs} inputs, {codes.total()} runs in {took:.0f} s ({ended})")
    print(f"{len(found)} unclean, {len(kinds)} kinds")
    for signature, count in kinds.most_common():
        print(f"{count:5} {signature}")
    if options.out is not None:
        distinct = {one.signature: one for one in reversed(found)}.values()
        kept = [one.case if options.no_shrink else shrunk(one, good) for one in distinct]
        options.out.write_text("".join(f"{line(case)}\n" for case in kept))
    return bool(found)


if __name__ == "__main__":
    tempfile.tempdir = tempfile.gettempdir()
    sys.exit(main())
