"""The changes: each one spot of a module's syntax tree, made the way a slip of a programmer would make it.

Annotations, docstrings and messages of exceptions are left alone: nobody can notice those.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module: its source, and what was changed where."""

    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All of a module, in the order of their lines."""
    tree = ast.parse(source)
    spots = _spots(tree)
    for number, node in enumerate(spots):
        for choice in range(len(_changes(node))):
            changed = copy.deepcopy(tree)
            spot = _spots(changed)[number]
            before = ast.unparse(spot)
            new = _changes(spot)[choice]
            _replace(changed, spot, new)
            after = ast.unparse(new)
            yield Mutant(getattr(node, "lineno", 0), f"{_short(before)}  ->  {_short(after)}", ast.unparse(changed))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:87] + "..."


def _spots(tree: ast.Module) -> list[ast.AST]:
    """The nodes that may be changed, in a fixed order."""
    found: list[ast.AST] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Raise) or _is_type_checking(node):
            found.append(node)
            return
        found.append(node)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "bases", "decorator_list"):
                continue
            children = value if isinstance(value, list) else [value]
            for place, child in enumerate(children):
                docstring = field == "body" and place == 0 and isinstance(child, ast.Expr)
                if isinstance(child, ast.AST) and not (docstring and isinstance(child.value, ast.Constant)):
                    visit(child)

    visit(tree)
    return sorted(found, key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _changes(node: ast.AST) -> list[ast.AST]:
    """What the node could become."""
    match node:
        case ast.Compare(ops=[operator]):
            return [_with(node, ops=[other()]) for other in _COMPARISONS[type(operator)]]
        case ast.BoolOp(op=ast.And()):
            return [_with(node, op=ast.Or()), *_without_each(node)]
        case ast.BoolOp(op=ast.Or()):
            return [_with(node, op=ast.And()), *_without_each(node)]
        case ast.UnaryOp(op=ast.Not()):
            return [node.operand]
        case ast.UnaryOp(op=ast.USub()):
            return [node.operand]
        case ast.BinOp(op=operator) if type(operator) in _OPERATIONS:
            return [_with(node, op=_OPERATIONS[type(operator)]())]
        case ast.Constant(value=bool()):
            return [ast.Constant(not node.value)]
        case ast.Constant(value=int()):
            return [ast.Constant(node.value + 1)]
        case ast.Constant(value=str()) if node.value:
            return [ast.Constant("")]
        case ast.If() | ast.IfExp():
            return [_with(node, test=ast.Constant(True)), _with(node, test=ast.Constant(False))]
        case ast.Return(value=value) if value is not None and not _is_none(value):
            return [_with(node, value=ast.Constant(None))]
        case ast.Expr(value=ast.Call()):
            return [ast.Pass()]
        case ast.AugAssign():
            return [ast.Pass()]
        case ast.Continue():
            return [ast.Break()]
        case ast.Break():
            return [ast.Continue()]
        case ast.Raise():
            return [ast.Pass()]
    return []


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return ast.fix_missing_locations(new)


def _without_each(node: ast.BoolOp) -> list[ast.AST]:
    return [
        _with(node, values=[value for place, value in enumerate(node.values) if place != gone])
        for gone in range(len(node.values))
        if len(node.values) > 2
    ]


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if value is old:
                setattr(node, field, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                value[next(place for place, item in enumerate(value) if item is old)] = new
                return
