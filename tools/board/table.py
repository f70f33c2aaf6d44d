"""The scoreboard as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .cells import Cell, Section

OURS = "default"
PEERS = ("onnxsim", "torch-pruning")
TITLES = {
    "l1": "`l1`, no repair",
    "default": "**default**",
    "steps": "**`--steps 4`**",
    "onnxsim": "onnxsim 0.8.1",
    "torch-pruning": "Torch-Pruning 1.6.1",
}
_ALLOWED = {True: {0.7: 0.2, 0.5: 0.6, 0.3: 2.0}, False: {0.9: 1.0, 0.8: 3.0}}
"""Points that may be lost at a share of the MACs: of the networks in `models/`, and of real models."""


def missed(section: Section, share: float) -> list[str]:
    """What falls short at a share: of what is allowed, or of a peer."""
    lost = section.lost(OURS, share)
    if lost is None:
        return ["no model"] if (OURS, share) in section.cells else []
    allowed = _ALLOWED[section.ours].get(share)
    short = [f"{lost:.2f} lost, {allowed:g} allowed"] if allowed is not None and lost > allowed + 1e-9 else []
    for peer in PEERS:
        other = section.lost(peer, share)
        if other is not None and other < lost:
            short.append(f"{TITLES[peer]} loses {other:.2f}")
    return short


def unknown(sections: Sequence[Section], shares: Sequence[float]) -> int:
    """How many cells of the default and of its peers have not been run."""
    wanted = [
        (section, method, share)
        for section in sections
        for method in (OURS, *PEERS)
        for share in shares
        if section.ours or method != "torch-pruning"
    ]
    return sum((method, share) not in section.cells for section, method, share in wanted)


def summary(sections: Sequence[Section], shares: Sequence[float]) -> str:
    """Points lost by the default, one row for each model; what falls short is named below."""
    lines = [
        "| model | before | " + " | ".join(f"{share:g}" for share in shares) + " |",
        "| --- | ---: |" + " ---: |" * len(shares),
    ]
    short = []
    for section in sections:
        row = []
        for share in shares:
            lost = section.lost(OURS, share)
            short_here = missed(section, share)
            row.append("" if lost is None else f"{lost:.2f}" + (" ✗" if short_here else ""))
            short += [f"- {section.name} at {share:g}: {reason}" for reason in short_here]
        lines.append(f"| {section.title} | {section.before[0]:.2f} | " + " | ".join(row) + " |")
    missing = unknown(sections, shares)
    ahead = "Everything is within what is allowed, and no peer is ahead in any cell"
    ahead += f" that was run; {missing} were not." if missing else "."
    return "\n".join([*lines, "", *(["Short of what is asked (✗):", "", *short] if short else [ahead])])


def details(section: Section, shares: Sequence[float]) -> str:
    """Quality by method, and what the default took."""
    counts = f"{section.samples[0]} samples to calibrate, {section.samples[1]} others to judge"
    methods = [m for m in TITLES if any((m, share) in section.cells for share in shares)]
    before = ", ".join(f"{m} {v:.2f}%" for m, v in zip(section.metrics, section.before, strict=True))
    lines = [
        f"### {section.title}",
        "",
        f"{section.params:,} parameters, {section.macs:,} MACs, {section.bytes:,} bytes.",
        "",
        f"{counts}. Before: {before}.",
        "",
        "| MACs | " + " | ".join(TITLES[m] for m in methods) + " |",
        "| --- |" + " ---: |" * len(methods),
    ]
    notes: list[str] = []
    for share in shares:
        row = [_quality(section.cells.get((m, share)), notes) for m in methods]
        lines.append(f"| {share:g} | " + " | ".join(row) + " |")
    lines += ["", *(f"{index}. {note}" for index, note in enumerate(notes, 1)), ""] if notes else [""]
    lines += [
        "| MACs | | parameters | bytes | latency | seconds | peak memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for share in shares:
        for method in methods:
            cell = section.cells.get((method, share))
            if cell is not None and cell.met:
                lines.append(f"| {cell.macs:.3f} | {TITLES[method]}{_way(cell)} | {_costs(cell)} |")
    return "\n".join(lines)


def _quality(cell: Cell | None, notes: list[str]) -> str:
    if cell is None:
        return ""
    if not cell.met:
        if cell.error not in notes:
            notes.append(cell.error)
        return f"— ({notes.index(cell.error) + 1})"
    first, *others = (f"{value:.2f}" for value in cell.metrics)
    return first + (f" ({', '.join(others)})" if others else "")


def _way(cell: Cell) -> str:
    return f": {cell.way}" if cell.way and not cell.way.startswith("-") else ""


def _costs(cell: Cell) -> str:
    timed = "" if cell.latency is None else "{:.2f} [{:.2f}, {:.2f}]".format(*cell.latency)
    return f"{cell.params:.3f} | {cell.size:.3f} | {timed} | {cell.seconds:.0f} | {cell.peak / 2**20:,.0f} MB"
