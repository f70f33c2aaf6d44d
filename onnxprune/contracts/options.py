"""Options, declared once: a field of a frozen dataclass with its type, default and constraints.

The command line, the Python functions, plans and the documentation read the declarations. The class's
docstring explains what each option does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, get_type_hints

from ..errors import UsageError


@dataclass(frozen=True)
class Unless:
    """An option that contradicts another one.

    Attributes:
        field: the other one.
        reason: why both can't be.
        hint: what to do about it.
        values: values of the other one that don't contradict it.
    """

    field: str
    reason: str
    hint: str = ""
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Option:
    """The constraints of an option, and how the command line spells it.

    Attributes:
        flag: on the command line, if it is not spelled as the field is.
        short: a letter for it.
        metavar: what its value is called in `--help`.
        group: of options that belong together.
        low: the least value.
        between: values lie between these, both excluded.
        decides: whether it affects the result, so that a plan records it.
        requires: fields of which one has to be given, or this one has no effect.
        unless: what contradicts it.
        read: from the text on the command line to the value.
    """

    flag: str = ""
    short: str = ""
    metavar: str = ""
    group: str = ""
    low: float | None = None
    between: tuple[float, float] | None = None
    decides: bool = True
    requires: tuple[str, ...] = ()
    unless: tuple[Unless, ...] = ()
    read: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class Declared:
    """An option as it is declared.

    Attributes:
        name: of the field.
        type: of the field, without what is annotated.
        default: of the field.
        option: its constraints.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """As the command line spells it."""
        return self.option.flag or spelled(self.name)


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


@cache
def _declared(kind: type[Any]) -> tuple[Declared, ...]:
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(kind):
        hint = hints[field.name]
        marks = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Option)]
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        plain = getattr(hint, "__origin__", hint) if marks else hint
        found.append(Declared(field.name, plain, default, marks[0] if marks else Option()))
    return tuple(found)


def given(options: Any) -> Mapping[str, Any]:
    """The options that are other than their defaults, by field."""
    found = {d.name: getattr(options, d.name) for d in declared(options)}
    return {d.name: found[d.name] for d in declared(options) if found[d.name] != d.default}


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


def check_relations(options: Any) -> None:
    """Refuse options that contradict one another, or that have no effect with the others.

    Raises:
        UsageError: there is one.
    """
    asked, by_name = given(options), {d.name: d for d in declared(options)}
    for name in asked:
        d = by_name[name]
        if d.option.requires and not any(other in asked for other in d.option.requires):
            wanted = " or ".join(by_name[other].flag for other in d.option.requires)
            raise UsageError(f"has no effect without {wanted}", where=d.flag)
        for clash in d.option.unless:
            if clash.field in asked and asked[clash.field] not in clash.values:
                hint = clash.hint or f"leave out {by_name[clash.field].flag}"
                raise UsageError(clash.reason, where=d.flag, hint=hint)
