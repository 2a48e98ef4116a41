"""The config that mmengine dumps into a run's folder, read without running it.

Such a file is Python, and mmengine's own reader executes it: the folder of a run that somebody else
sent could do anything. What a dump really holds are assignments of constants, lists, tuples and
dicts; they are read from the syntax tree, and all else is refused.
"""

import ast
from pathlib import Path
from typing import Any

from results.record.files import regular_file

MAX_BYTES = 16 << 20
MAX_DEPTH = 50  # of brackets in each other


def read_dumped(path: Path) -> dict[str, Any]:
    """The values of a dumped config by name.

    Raises:
        ValueError: the file is no dump; names it and the line at fault.
    """
    if regular_file(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB; expected a dumped config")
    try:
        statements = ast.parse(path.read_bytes()).body
        return dict(_assignment(statement) for statement in statements)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{path} is no config that a run has dumped ({error}); such a file assigns constants, "
            "lists, tuples and dicts, and nothing else in it is run"
        ) from error


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, _value(value)
    raise ValueError(f"line {statement.lineno} is no assignment to a name")


def _value(node: ast.expr, depth: int = 0) -> Any:
    """As ``ast.literal_eval``, and ``dict(name=value)``, which mmengine writes."""
    if depth > MAX_DEPTH:
        raise ValueError(f"line {node.lineno} has more than {MAX_DEPTH} brackets in each other")
    deeper = depth + 1
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items):
            return [_value(item, deeper) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, deeper) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_value(key, deeper): _value(value, deeper) for key, value in pairs if key}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=pairs):
            return {_name(pair): _value(pair.value, deeper) for pair in pairs}
    raise ValueError(f"line {node.lineno} holds more than constants in lists, tuples and dicts")


def _name(pair: ast.keyword) -> str:
    if pair.arg is None:
        raise ValueError(f"line {pair.lineno} takes a dict apart")
    return pair.arg
