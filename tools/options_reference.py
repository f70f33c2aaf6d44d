"""Write the tables of options in docs/cli.md from their declarations.

python tools/options_reference.py           # write them
python tools/options_reference.py --check   # exit code 1 if they are out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from cyclopts import Group
from cyclopts.argument import Argument

from onnxprune.cli.app import COMMANDS, app

PAGE = Path(__file__).parent.parent / "docs/cli.md"
BEGIN, END = "<!-- begin options -->\n", "<!-- end options -->\n"


def choices(hint: object) -> Iterator[str]:
    """The words that a type allows."""
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    else:
        for inner in get_args(hint):
            yield from choices(inner)


KINDS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
"""What values of a type are called."""


def kind(hint: object) -> str:
    """What the values of a type are called; nothing for flags."""
    return next((KINDS[t] for t in (hint, *get_args(hint)) if t in KINDS), "")


def groups(argument: Argument) -> list[str]:
    """The titles under which an option is shown."""
    return [group.name for group in argument.parameter.group if isinstance(group, Group)]  # type: ignore[union-attr]


def row(argument: Argument) -> str:
    """An option as a row of its table."""
    negative = argument.parameter.negative or ()
    names = ", ".join(f"`{n}`" for n in argument.names if not n.startswith("--no-") or n in negative)
    value = argument.parameter.metavar or "|".join(choices(argument.hint)) or kind(argument.hint)
    value = value.replace("|", " \\| ")
    shown = argument.parameter.show_default
    default = shown(None) if callable(shown) else "required" if argument.required else ""
    default = "" if default == "True" else default
    help_text = (argument.parameter.help or "").replace("|", "\\|")
    return f"| {names} | {value} | {default} | {help_text} |"


def tables() -> Iterator[str]:
    """A section for each command."""
    for name in sorted(COMMANDS):
        yield f"### Options of {name}\n\n"
        command = app[name]
        arguments = [a for a in command.assemble_argument_collection(parse_docstring=True) if a.show]
        titles = dict.fromkeys(title for a in arguments for title in groups(a))
        for title in titles:
            yield f"{title}:\n\n| option | value | default | |\n| --- | --- | --- | --- |\n"
            for a in arguments:
                if title in groups(a):
                    yield row(a) + "\n"
            yield "\n"


def page(text: str) -> str:
    """The page with its tables as they should be."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{''.join(tables())}{END}{tail}"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    text = PAGE.read_text("utf-8")
    if parser.parse_args().check:
        return int(page(text) != text)
    PAGE.write_text(page(text), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
