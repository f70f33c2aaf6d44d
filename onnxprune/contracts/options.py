"""Options, declared once: a field of a frozen dataclass with its type, default and constraints.

The command line, the Python functions, plans and the documentation read the declarations. The class's
docstring explains what each option does; its `TITLE` is the heading of its options in `--help`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType
from typing import Any, get_args

from ..errors import UsageError


@dataclass(frozen=True)
class Unless:
    """An option that contradicts another one.

    Attributes:
        key: of the other one.
        reason: why both can't be.
        hint: what to do about it.
        values: values of the other one that don't contradict it.
    """

    key: str
    reason: str
    hint: str = ""
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Option:
    """The constraints of an option, and how the command line spells it.

    Attributes:
        flag: on the command line, if it is not spelled as the field is.
        cli: the type on the command line, if it is not that of the field.
        read: from what the command line gives to the value.
        unit: what one stands for on the command line: 1e9 for a field of bytes that is given in GB.
        metavar: what its value is called in `--help`.
        hidden: the command line doesn't have it.
        low: the least value.
        between: values lie between these, both excluded.
        decides: whether it affects the result, so that a plan records it.
        requires: keys of options of which one has to be given, or this one has no effect.
        unless: what contradicts it.
    """

    flag: str = ""
    cli: Any = None
    read: Callable[[Any], Any] | None = None
    unit: float = 1
    metavar: str = ""
    hidden: bool = False
    low: float | None = None
    between: tuple[float, float] | None = None
    decides: bool = True
    requires: tuple[str, ...] = ()
    unless: tuple[Unless, ...] = ()


@dataclass(frozen=True)
class Declared:
    """An option as it is declared.

    Attributes:
        owner: the class that declares it.
        name: of the field.
        type: of the field, without what is annotated.
        default: of the field.
        option: its constraints.
    """

    owner: type[Any]
    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """As the command line spells it."""
        return self.option.flag or spelled(self.name)

    @property
    def key(self) -> str:
        """The flag as an identifier: no two options of a command have the same."""
        return self.flag.removeprefix("--").replace("-", "_")

    def parsed(self, given: Any) -> Any:
        """The value of what the command line gives.

        Raises:
            UsageError: it can't be read.
        """
        if self.option.read is not None:
            return self.option.read(given)
        return given if self.option.unit == 1 else given * self.option.unit


def spelled(name: str) -> str:
    """A field as the command line spells it.

    Example:
        >>> spelled("max_drop")
        '--max-drop'
    """
    return f"--{name.replace('_', '-')}"


def declared(options: type[Any] | Any) -> tuple[Declared, ...]:
    """The options of a class, or of an instance of it, in their order."""
    return _declared(options if isinstance(options, type) else type(options))


def prefixed(options: Iterable[Declared], prefix: str) -> Iterator[Declared]:
    """Options under longer flags, which have no effect without the flag that is the prefix.

    Args:
        options: the options.
        prefix: a word; `--epochs` becomes `--finetune-epochs`.
    """
    for d in options:
        clashes = tuple(replace(one, key=f"{prefix}_{one.key}") for one in d.option.unless)
        flag = f"--{prefix}-{d.flag.removeprefix('--')}"
        yield replace(d, option=replace(d.option, flag=flag, requires=(prefix,), unless=clashes))


def options_in(annotation: Any) -> type[Any] | None:
    """The class of options that a type is, or is if not `None`; `None` for any other type."""
    kinds = [t for t in (get_args(annotation) or (annotation,)) if t is not NoneType]
    return kinds[0] if len(kinds) == 1 and is_dataclass(kinds[0]) and isinstance(kinds[0], type) else None


def flattened(kind: type[Any]) -> Iterator[Declared]:
    """The options of a class that the command line has, with those of the classes in it."""
    for d in declared(kind):
        if inner := options_in(d.type):
            yield from flattened(inner)
        elif not d.option.hidden:
            yield d


@cache
def _declared(kind: type[Any]) -> tuple[Declared, ...]:
    owners = {name: one for one in reversed(kind.__mro__) for name in inspect.get_annotations(one)}
    found = []
    for field in fields(kind):
        hint: Any = field.type
        marks = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Option)]
        default = field.default
        if default is MISSING:
            factory = field.default_factory
            default = inspect.Parameter.empty if factory is MISSING else factory()
        plain = getattr(hint, "__origin__", hint) if marks else hint
        option = marks[0] if marks else Option()
        found.append(Declared(owners[field.name], field.name, plain, default, option))
    return tuple(found)


def given(options: Any) -> Mapping[str, Any]:
    """The options that are other than their defaults, by field."""
    return {d.name: value for d in declared(options) if (value := getattr(options, d.name)) != d.default}


def signed(function: Callable[..., Any], kind: type[Any]) -> inspect.Signature:
    """The signature of a function whose `**given` are the fields of a class of options."""
    named = [
        inspect.Parameter(d.name, inspect.Parameter.KEYWORD_ONLY, default=d.default, annotation=d.type)
        for d in declared(kind)
    ]
    own = inspect.signature(function)
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return own.replace(parameters=[*kept, *named])


def check_ranges(options: Any) -> None:
    """Refuse values out of their range.

    Raises:
        UsageError: there is one.
    """
    for d in declared(options):
        value, o = getattr(options, d.name), d.option
        if value is None or isinstance(value, str):
            continue
        if o.low is not None and not value >= o.low:
            least = "above zero" if o.low == 1 else f"{o.low:g} or more"
            raise UsageError(f"{value:g} is not {least}", where=d.flag)
        if o.between is not None and not o.between[0] < value < o.between[1]:
            low, high = o.between
            raise UsageError(f"{value:g} is not between {low:g} and {high:g}", where=d.flag)


def check_sense(options: Any) -> None:
    """Refuse options of one class that contradict one another, or have no effect with the others.

    Raises:
        UsageError: there is one.
    """
    known, found = {d.key: d for d in declared(options)}, given(options)
    check_relations({key: found[d.name] for key, d in known.items() if d.name in found}, known)


def check_relations(asked: Mapping[str, Any], known: Mapping[str, Declared]) -> None:
    """Refuse options that contradict one another, or that have no effect with the others.

    Args:
        asked: key -> value of the options that are other than their defaults.
        known: key -> declaration, of all options that could be.

    Raises:
        UsageError: there is one.
    """
    for key in asked:
        d = known[key]
        wanted = [known[other].flag for other in d.option.requires if other in known]
        if wanted and not any(other in asked for other in d.option.requires):
            raise UsageError(f"has no effect without {' or '.join(wanted)}", where=d.flag)
        for clash in d.option.unless:
            if clash.key in asked and asked[clash.key] not in clash.values:
                hint = clash.hint or f"leave out {known[clash.key].flag}"
                raise UsageError(clash.reason, where=d.flag, hint=hint)
