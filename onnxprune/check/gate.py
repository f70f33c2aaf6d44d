"""The gate: select models, measure them, find their baselines, judge, and keep the baseline file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from ..graph import files_of, require_apart
from . import baseline as baselines
from .baseline import Another, Baseline, Before, Recorded, at_revision, recorded
from .git import revision
from .limits import Growth
from .measure import Measurement, Subject, measure, open_model
from .metrics import METRICS
from .selection import Model, known, matches, repository, select, shown
from .settings import Settings
from .speed import Speed, speed
from .verdict import Outcome, Report, judge

Progress = Callable[[str], None]
"""Called with what begins."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for beyond the configuration.

    Attributes:
        baseline: a file to compare with: a model, or a baseline file in place of the configured one.
        baseline_ref: a git revision to compare with.
        update: write the baseline file anew.
        ratchet: lower what the baseline file says where models became better.
        measure: costly metrics to report although nothing limits them.
        outputs: files that reports go to: none may be one that is read.
    """

    baseline: Path | None = None
    baseline_ref: str | None = None
    update: bool = False
    ratchet: bool = False
    measure: frozenset[str] = frozenset()
    outputs: tuple[Path, ...] = ()


def check(
    settings: Settings,
    named: Sequence[Path] = (),
    options: Options | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Check models against their limits, and write the baseline file if that is asked for.

    Args:
        settings: the configuration.
        named: the models; by default all that are configured.
        options: what to compare with and what to write.
        progress: called with what begins.

    Raises:
        UsageError: options contradict one another, or nothing says what to check.
        Overwrites: an output is a file that is read.
        InputError: a model, the baseline or the configuration can't be read.
    """
    options = options or Options()
    require_outputs_apart(options.outputs, named, [settings.source, options.baseline])
    file = _baseline_file(settings, options)
    if (options.update or options.ratchet) and options.baseline is None:
        _require_inside(file, settings.root)
    if not named and not settings.entries:
        where = str(settings.source) if settings.source else None
        hint = "name a model, or add [[tool.onnxprune.check.models]] with a path to pyproject.toml"
        raise UsageError("nothing to check", where=where, hint=hint)
    models = select(settings, named)
    require_outputs_apart(options.outputs, [model.path for model in models], [file])
    everything = {m.key for m in models} | (known(settings) if named and settings.entries else set())
    current = recorded(file, everything)
    costly = {m.key: _costly(m, options) for m in models}
    outcomes, records = [], dict[str, Measurement]()
    with _baseline(settings, options, file, current, models) as base:
        for model in models:
            progress(f"Measuring {model.path}")
            subject = open_model(model.path, model.dims)
            now = measure(subject, costly[model.key])
            before = base.find(model, now)
            timed = _speed(subject, before) if "latency" in costly[model.key] else None
            if options.update:
                # Growth is what is being accepted: only the other limits are judged.
                before, timed = Before(now, str(file)), Speed(timed.seconds) if timed else None
            outcomes.append(judge(model, now, before, timed))
            records[model.key] = (
                baselines.tightened(before.measurement, now) if options.ratchet and before else now
            )
        found = {o.key for o in outcomes if o.key}
        gone = () if named else base.gone({m.key for m in models} | found)
        deleted = () if named else base.deleted(lambda path: matches(settings, path))
    notes = [*_gone(gone, options), *deleted, *_better(outcomes, base, options)]
    if options.update or options.ratchet:
        changed = baselines.update(file, everything, records)
        notes.append(f"wrote {file}: commit it" if changed else f"{file} is up to date")
    warnings = tuple(_warnings(outcomes, base, file, options))
    return Report(tuple(outcomes), warnings, tuple(notes), repository(Path.cwd()))


def require_outputs_apart(
    outputs: Sequence[Path], models: Sequence[Path], files: Sequence[Path | None] = ()
) -> None:
    """Refuse reports that would be written over what is read.

    Args:
        outputs: files that reports go to.
        models: that are read, with the files of their weights.
        files: what else is read.

    Raises:
        Overwrites: a report would be.
        InputError: a report can't be written.
    """
    if outputs:
        parts = [part for model in models for part in _parts(model)]
        require_apart([*parts, *(file for file in files if file is not None)], outputs)


def _parts(model: Path) -> tuple[Path, ...]:
    """A model with the files of its weights; what is wrong with it is for whoever measures it to say."""
    try:
        return files_of(model)
    except InputError:
        return (model,)


def _baseline_file(settings: Settings, options: Options) -> Path:
    """The baseline file, once the options are known to make sense together."""
    if options.baseline is not None and options.baseline_ref is not None:
        raise UsageError("give one of --baseline and --baseline-ref")
    if options.update and options.ratchet:
        raise UsageError(
            "give one of --update and --ratchet", hint="--update takes any value, --ratchet only better ones"
        )
    if options.baseline_ref == "":
        raise UsageError("is empty", where="--baseline-ref", hint="name a branch, a tag or a commit")
    if options.baseline is None:
        return shown(settings.baseline)
    where = f"--baseline {options.baseline}"
    if options.baseline.is_dir():
        raise InputError("is a directory; name a model or a baseline file", where=where)
    if not options.baseline.exists() and not (options.update and _is_record(options.baseline)):
        raise InputError("no such file", where=where)
    if _is_record(options.baseline):
        return options.baseline
    if options.update or options.ratchet:
        raise UsageError("can't be written to", where=where, hint="leave --baseline out")
    return shown(settings.baseline)


def _require_inside(file: Path, root: Path) -> None:
    """Refuse to write a baseline elsewhere than in the project: who changes a configuration names it.

    Raises:
        InputError: the file, or what a link leads to, lies outside.
    """
    home = repository(root) or root.resolve()
    if not file.resolve().is_relative_to(home):
        reason = f"lies outside {home}, where a configuration may not have files written"
        raise InputError(reason, where=str(file), hint="name it with --baseline to write it nevertheless")


def _is_record(file: Path) -> bool:
    return file.suffix == ".json"


@contextmanager
def _baseline(
    settings: Settings, options: Options, file: Path, current: Recorded, models: Sequence[Model]
) -> Iterator[Baseline]:
    name = options.baseline_ref or (settings.baseline_ref if options.baseline is None else None)
    costly = frozenset(key for m in models for key in _costly(m, options))
    if options.baseline is not None and not _is_record(options.baseline):
        if len(models) != 1:
            hint = "name the model to compare"
            raise UsageError(
                f"is one model, and {len(models)} are checked",
                where=f"--baseline {options.baseline}",
                hint=hint,
            )
        yield Another(options.baseline, costly)
    elif name is not None and not (options.update or options.ratchet):  # these are about the file
        with at_revision(revision(name, settings.root), file, current, costly, models) as base:
            yield base
    else:
        yield current


def _costly(model: Model, options: Options) -> frozenset[str]:
    wanted = model.rules.limited | options.measure
    return frozenset(key for key, metric in METRICS.items() if metric.costly and key in wanted)


def _speed(subject: Subject, before: Before | None) -> Speed:
    old = before.subject if before else None
    return speed(subject.path, subject.facts, (old.path, old.facts) if old else None)


def _gone(keys: Sequence[str], options: Options) -> list[str]:
    if options.update or options.ratchet:
        return [f"removed '{key}' from the baseline: its model is gone" for key in keys]
    hint = "'onnxprune check --update' removes it"
    return [f"'{key}' is in the baseline, and its model is gone: {hint}" for key in keys]


def _better(outcomes: Sequence[Outcome], base: Baseline, options: Options) -> list[str]:
    """How to keep what became better."""
    count = sum(f.better for o in outcomes for f in o.findings)
    if not count or options.update or options.ratchet or not isinstance(base, Recorded):
        return []
    values = "1 value is" if count == 1 else f"{count} values are"
    return [f"{values} better than in {base.source}: 'onnxprune check --ratchet' lowers it to them"]


def _warnings(outcomes: Sequence[Outcome], base: Baseline, file: Path, options: Options) -> list[str]:
    """One warning for all models whose limits need a baseline that isn't there."""
    if options.update or options.ratchet:
        return []
    alone = [o.model.key for o in outcomes if o.source is None and _compares(o.model)]
    if not alone:
        return []
    shown = ", ".join(f"'{key}'" for key in alone[:3]) + (
        f" and {len(alone) - 3} more" if len(alone) > 3 else ""
    )
    update = "'onnxprune check --update' writes it, then commit it"
    if isinstance(base, Recorded) and not base.exists:
        return [f"there is no baseline {file}, which limits of {shown} need: {update}"]
    return [f"no baseline for {shown} in {base.source}: growth isn't limited yet; {update}"]


def _compares(model: Model) -> bool:
    numbers = (limit for limits in model.rules.numbers.values() for _, limit in limits)
    sets = (allowed for limits in model.rules.sets.values() for _, allowed in limits)
    return any(isinstance(limit, Growth) for limit in numbers) or any(s.patterns is None for s in sets)
