"""Commands whose options are declared elsewhere.

A command is a function. Its parameters are files, options of its own (help from its docstring), and classes
of options (`contracts.options`), of which each field becomes an option. `Of` takes a single field out of such
a class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from cyclopts import Group, Parameter
from cyclopts.validators import Number
from docstring_parser import parse

from ..contracts.options import Declared, Option, check_relations, declared, flattened, options_in, prefixed


@dataclass(frozen=True)
class Of:
    """Marks a parameter that is declared as a field of a class of options.

    Attributes:
        kind: the class.
    """

    kind: type[Any]


@dataclass(frozen=True)
class Prefix:
    """Marks a class of options whose flags begin with a word; they have no effect without that flag.

    Attributes:
        word: `finetune` makes `--finetune-epochs` of `--epochs`.
    """

    word: str


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the command line, with one parameter for each option.

    What isn't given takes the default of its own declaration, so that two classes may declare one option
    with different defaults.

    Args:
        function: takes files and options, and instances of classes of options.
    """
    own = inspect.signature(function, eval_str=True).parameters.values()
    options: dict[str, Declared] = {}
    shown: dict[str, inspect.Parameter] = {}
    for parameter in own:
        stands_for = list(_declared(parameter))
        for d in stands_for:
            if d.key not in options:
                options[d.key], shown[d.key] = d, _option(d)
        if not stands_for:
            shown[parameter.name] = parameter
    known = {
        name: options.get(name) or Declared(object, name, p.annotation, p.default, Option())
        for name, p in shown.items()
    }

    def called(*args: Any, **named: Any) -> Any:
        given = _given(shown, options, args, named)
        changed = {key: given[key] for key, d in known.items() if given.get(key, d.default) != d.default}
        check_relations(changed, known)
        values = {p.name: value for p in own if (value := _value(p, given)) is not _ABSENT}
        bound = inspect.signature(function).bind_partial()
        bound.arguments = values
        return function(*bound.args, **bound.kwargs)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(called, name, getattr(function, name))
    vars(called)["__signature__"] = inspect.Signature(sorted(shown.values(), key=lambda p: p.kind))
    called.__annotations__ = {name: p.annotation for name, p in shown.items()}
    return called


_ABSENT = object()


def _declared(parameter: inspect.Parameter) -> Iterator[Declared]:
    """The options that a parameter stands for; none if it is one of the command itself."""
    for mark in _marks(parameter):
        if isinstance(mark, Of):
            yield next(d for d in declared(mark.kind) if d.name == parameter.name)
    if kind := _class(parameter):
        prefix = next((mark.word for mark in _marks(parameter) if isinstance(mark, Prefix)), None)
        yield from flattened(kind) if prefix is None else prefixed(flattened(kind), prefix)


def _class(parameter: inspect.Parameter) -> type[Any] | None:
    """The class of options that a parameter is, if it is one."""
    annotation = parameter.annotation
    return options_in(get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation)


def _option(d: Declared) -> inspect.Parameter:
    """An option as cyclopts takes it."""
    kind = d.option.cli or d.type
    parameter = Parameter(
        name=d.flag,
        help=_help(inspect.cleandoc(d.owner.__doc__ or ""))[d.name],
        group=_group(d.owner.TITLE) if hasattr(d.owner, "TITLE") else None,
        negative=f"--no-{d.flag.removeprefix('--')}" if d.default is True else (),
        metavar=d.option.metavar or None,
        validator=None if d.option.low is None else Number(gte=d.option.low),
        show_default=_default(d),
    )
    annotation = kind if NoneType in get_args(kind) else kind | None
    return inspect.Parameter(
        d.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, parameter]
    )


@cache
def _group(title: str) -> Group:
    """Options that belong together, in the order in which they are declared."""
    return Group.create_ordered(title)


@cache
def _help(docstring: str) -> Mapping[str, str]:
    """What each option of a class does, out of its docstring."""
    return {p.arg_name: " ".join((p.description or "").split()) for p in parse(docstring).params}


def _default(d: Declared) -> Callable[[Any], str] | bool:
    """What `--help` says that the default is."""
    if not d.default or d.default is inspect.Parameter.empty:
        return False
    text = str(d.default) if d.option.unit == 1 else f"{d.default / d.option.unit:g}"
    return lambda _: text


def _given(
    shown: Mapping[str, inspect.Parameter],
    options: Mapping[str, Declared],
    args: Sequence[Any],
    named: Mapping[str, Any],
) -> dict[str, Any]:
    """What was given on the command line, by key, as values of the fields.

    Raises:
        UsageError: an option can't be read.
    """
    given = {**dict(zip(shown, args, strict=False)), **named}
    return {
        name: options[name].parsed(value) if name in options else value
        for name, value in given.items()
        if name not in options or value is not None
    }


def _marks(parameter: inspect.Parameter) -> tuple[Any, ...]:
    annotation = parameter.annotation
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _keys(parameter: inspect.Parameter) -> list[str]:
    return [d.key for d in _declared(parameter)] or [parameter.name]


def _value(parameter: inspect.Parameter, given: Mapping[str, Any]) -> Any:
    """What a function is called with; `_ABSENT` where its own default is meant."""
    kind = _class(parameter)
    if kind is not None:
        found = {(d.owner, d.name): given[d.key] for d in _declared(parameter) if d.key in given}
        return _built(kind, found) if found or parameter.default is parameter.empty else _ABSENT
    (key,) = _keys(parameter)
    return given.get(key, _ABSENT)


def _built(kind: type[Any], found: Mapping[tuple[type[Any], str], Any]) -> Any:
    """An instance of a class of options.

    Args:
        kind: the class.
        found: class that declares it, and name -> value, of the fields that are given.
    """
    values = {}
    for d in declared(kind):
        inner = options_in(d.type)
        if inner is None and (d.owner, d.name) in found:
            values[d.name] = found[d.owner, d.name]
        elif inner is not None and any((one.owner, one.name) in found for one in flattened(inner)):
            values[d.name] = _built(inner, found)
    return kind(**values)
