"""Which mutants there are: the operators of cosmic-ray at every place of a file, drawn by a seed."""

from __future__ import annotations

import ast
import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_SKIPPED = frozenset({"name", "string", "fstring_string", "newline", "endmarker"})
"""Types of nodes that no operator changes."""

_PUNCTUATION = frozenset("()[]{}.,:=;@") | {"->", ":="}

_KINDS = ({"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}, {"BitOr", "BitAnd", "BitXor"})
"""Binary operators that replace one another: a shift of a float would only raise."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: of the file, from the root of the repository.
        line: where, from 1 on.
        column: where, from 0 on.
        operator: as cosmic-ray names it.
        source: the whole file with the change.
        before: the line as it was, without what surrounds it.
        after: the line as it is.
    """

    path: str
    line: int
    column: int
    operator: str
    source: str
    before: str
    after: str

    @cached_property
    def key(self) -> str:
        """The same for the same change of the same file."""
        return hashlib.sha256(f"{self.path}\0{self.source}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Site:
    """A place, and how operators of one kind can change it."""

    path: str
    line: int
    column: int
    variants: tuple[tuple[str, int], ...]


def drawn(sources: Mapping[str, str], seed: int) -> Iterator[Mutant]:
    """Mutants in random order, one for every place and kind of operator.

    A place is drawn first, and then what becomes of it: an operator that can be replaced by eleven others
    counts once. What Python never evaluates (annotations, docstrings) is left out, and so is what guards
    against mistakes that the code doesn't make: `frozen` and `eq` of classes, `strict` of zip, and the mark
    behind which parameters have to be named.

    Args:
        sources: path -> text.
        seed: of the order.
    """
    chance = random.Random(seed)
    sites = [site for path in sorted(sources) for site in _sites(path, sources[path])]
    chance.shuffle(sites)
    for site in sites:
        variants = list(site.variants)
        chance.shuffle(variants)
        source = sources[site.path]
        mutant = next((m for v in variants if (m := _mutant(site, source, *v)) is not None), None)
        if mutant is not None and not is_guard(mutant.before, mutant.after):
            yield mutant


def _sites(path: str, source: str) -> Iterable[_Site]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    operators = {n: get_operator(n) for n in sorted(operator_names()) if _is_wanted(n)}
    usable = {name: kind() for name, kind in operators.items() if not kind.arguments()}
    seen = dict.fromkeys(usable, 0)
    found: dict[tuple[int, int, str], list[tuple[str, int]]] = {}
    for node in ast_nodes(get_ast(source)):
        if node.type in _SKIPPED or getattr(node, "value", "") in _PUNCTUATION:
            continue
        if node.parent is not None and node.parent.type == "parameters":  # the * before what has a keyword
            continue
        for name, operator in usable.items():
            for (line, column), _ in operator.mutation_positions(node):
                found.setdefault((line, column, name.split("_")[0]), []).append((name, seen[name]))
                seen[name] += 1
    return [_Site(path, line, column, tuple(v)) for (line, column, _), v in sorted(found.items())]


def _is_wanted(operator: str) -> bool:
    """Whether an operator is of cosmic-ray itself, and no change that could only raise."""
    name, *between = operator.split("_")
    if name == "core/ReplaceBinaryOperator":
        return any({*between} <= kind for kind in _KINDS)
    return name.startswith("core/")


def _mutant(site: _Site, source: str, operator: str, occurrence: int) -> Mutant | None:
    """The mutant; `None` where it is no Python, or the same as the original to who runs it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    try:
        text = mutate_code(source, get_operator(operator)(), occurrence)
    except AttributeError:  # ExceptionReplacer knows plain names alone
        return None
    if text is None or not has_changed(source, text):
        return None
    old, new = source.splitlines(), text.splitlines()
    first, after = site.line - 1, "(removed)"
    if len(old) == len(new):
        first = next((k for k, (a, b) in enumerate(zip(old, new, strict=True)) if a != b), first)
        after = new[first].strip()
    return Mutant(site.path, site.line, site.column, operator, text, old[first].strip(), after)


def has_changed(before: str, after: str) -> bool:
    """Whether a text is Python, and does something else than another one."""
    try:
        return _evaluated(before) != _evaluated(after)
    except SyntaxError:
        return False


class _Evaluated(ast.NodeTransformer):
    """Takes out what is never evaluated."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def _evaluated(source: str) -> str:
    return ast.dump(_Evaluated().visit(ast.parse(source)))


def is_guard(before: str, after: str) -> bool:
    """Whether a changed line differs in a guard alone."""
    guard = r"\b(strict|frozen|eq)= *\w+|[*/], "
    return re.sub(guard, "", before) == re.sub(guard, "", after) or before.startswith("@dataclass")


def statement(source: str, line: int) -> tuple[range, bool]:
    """The lines of the statement that a line is in, and whether it runs when the file is imported.

    Of a statement with a body its head alone.
    """
    tree = ast.parse(source)
    best, inside = range(line, line + 1), False

    def visit(node: ast.AST, within: bool) -> None:
        nonlocal best, inside
        for child in ast.iter_child_nodes(node):
            end = getattr(child, "end_lineno", None)
            if end is None or not _first_line(child) <= line <= end:
                continue
            if isinstance(child, ast.stmt):
                best, inside = _head(child), within
            visit(child, within or (isinstance(child, ast.FunctionDef) and line >= child.body[0].lineno))

    visit(tree, False)
    return best, not inside


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(d.lineno for d in decorators)]))  # type: ignore[attr-defined]


def _head(node: ast.stmt) -> range:
    body = getattr(node, "body", None)
    end = (node.end_lineno or node.lineno) + 1
    return range(_first_line(node), max(body[0].lineno, node.lineno + 1) if body else end)


def texts(root: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Path from the root -> text, of all files that some patterns name."""
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    return {file.relative_to(root).as_posix(): file.read_text("utf-8") for file in files}
