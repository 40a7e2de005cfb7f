"""Formulas from users, reckoned without letting them out of arithmetic.

simpleeval walks the syntax tree. What it would allow beyond arithmetic is taken away: attributes, texts, items,
assignments, lambdas. Every operation looks at its operands first, so that no number, and no time, grows out of bounds.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import simpleeval

from limner.errors import UnfitInput

LONGEST_FORMULA = 4096
MOST_BITS = 4096
"""Of a whole number in between; a float has 1,024 before it overflows."""

MOST_DIGITS = 64
"""Decimal places that a number may be rounded to, before the point or behind it."""

Number = int | float | bool

REFUSED = (
    simpleeval.InvalidExpression,
    SyntaxError,
    ArithmeticError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)


def reckoned(formula: str, values: Mapping[str, Number]) -> Number:
    """What a formula over these variables comes to; `values` in it is the list of them all. Raises UnfitInput."""
    if not formula.strip():
        raise UnfitInput("the formula is empty")
    if len(formula) > LONGEST_FORMULA:
        raise UnfitInput(f"the formula has {len(formula)} characters; at most {LONGEST_FORMULA} are taken")
    try:
        result = _Reckoner(values).eval(" ".join(formula.split()), _parsed(formula))
        finite = isinstance(result, Number) and math.isfinite(result)
    except REFUSED as error:
        raise UnfitInput(f"the formula {formula!r:.200} cannot be reckoned: {_reason(error)}") from error
    if not finite:
        raise UnfitInput(f"the formula {formula!r:.200} gives {result!r:.100}, which is no finite number")
    number: Number = result
    return number


def _parsed(formula: str) -> ast.expr:
    tree = ast.parse(" ".join(formula.split()), mode="eval")
    return tree.body


class _Reckoner(simpleeval.SimpleEval):  # type: ignore[misc]  # the library has no types
    def __init__(self, values: Mapping[str, Number]) -> None:
        numbers = list(values.values())
        super().__init__(operators=OPERATORS, functions=FUNCTIONS, names={**values, "values": numbers})
        allowed = (ast.Name, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.keyword)
        known: dict[type, Callable[..., Any]] = vars(self)["nodes"]
        self.nodes = {kind: known[kind] for kind in allowed} | {ast.Constant: _constant}


def _constant(node: ast.Constant) -> Number:
    return _number(node.value)


def _number(value: Any) -> Number:
    if not isinstance(value, Number):
        raise TypeError(f"{value!r:.50} is no real number")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise OverflowError(f"a number has more than {MOST_BITS} bits")
    return value


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*operands: Any) -> Any:
        return _number(function(*map(_number, operands)))

    return checked


def _power(base: Number, exponent: Number) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        _room(base.bit_length() * exponent)
    return base**exponent


def _shift_left(value: Any, by: Any) -> Any:
    _room(value.bit_length() + by if isinstance(value, int) and isinstance(by, int) else 0)
    return value << by


def _round(value: Number, ndigits: Any = None) -> Any:
    if ndigits is None:
        return round(_number(value))
    if not isinstance(ndigits, int) or abs(ndigits) > MOST_DIGITS:
        raise ValueError(f"numbers are rounded to a whole number of places, at most {MOST_DIGITS}")
    return round(_number(value), ndigits)


def _room(bits: int) -> None:
    if bits > MOST_BITS:
        raise OverflowError(f"a number would have more than {MOST_BITS} bits")


def _over_all(function: Callable[..., Any]) -> Callable[..., Any]:
    """sum, min, max: of several numbers, or of the list `values`."""

    def checked(*operands: Any) -> Any:
        numbers = operands[0] if len(operands) == 1 and isinstance(operands[0], list) else operands
        return _number(function([_number(each) for each in numbers]))

    return checked


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: _power, ast.LShift: _shift_left,
    ast.RShift: operator.rshift, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.Invert: operator.invert, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "pow": _power, "sqrt": math.sqrt, "ceil": math.ceil, "floor": math.floor, "log": math.log,
    "log2": math.log2, "log10": math.log10, "sin": math.sin, "cos": math.cos, "tan": math.tan, "int": int,
    "float": float,
}  # fmt: skip

OPERATORS = {kind: _on_numbers(function) for kind, function in _OPERATORS.items()}
FUNCTIONS = {name: _on_numbers(function) for name, function in _FUNCTIONS.items()} | {
    "sum": _over_all(sum),
    "min": _over_all(min),
    "max": _over_all(max),
    "round": _round,
}


def _reason(error: BaseException) -> str:
    if isinstance(error, simpleeval.FunctionNotDefined):
        return f"{error.func_name!r:.50} is none of its functions: {', '.join(sorted(FUNCTIONS))}"
    if isinstance(error, simpleeval.NameNotDefined):
        return f"{error.name!r:.50} is none of the connected values"
    if isinstance(error, simpleeval.FeatureNotAvailable):
        return "only arithmetic, comparisons and its functions are allowed in it"
    if isinstance(error, RecursionError | MemoryError):
        return "its brackets are nested too deeply"
    return str(error) or type(error).__name__
