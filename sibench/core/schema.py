"""Strict JSON: dataclasses say what is allowed, `parse` checks a value against them, `json_schema` publishes them."""

import dataclasses
import functools
import re
import types
import typing
from typing import Annotated, Any, Literal, NamedTuple, Union

MAX_NUMBER = 2**53
"""The largest integer that every JSON reader represents exactly."""


class Pattern(NamedTuple):
    """A regular expression that a string must match, and the same in words."""

    regex: str
    words: str

    def allows(self, value: str) -> bool:
        return re.fullmatch(self.regex, value) is not None


class AtLeast(NamedTuple):
    """The smallest number that is allowed."""

    value: int

    def allows(self, value: float) -> bool:
        return value >= self.value


Hash = Annotated[str, Pattern("[0-9a-f]{64}", "a sha256: 64 hexadecimal digits")]
Count = Annotated[int, AtLeast(0)]
INVISIBLE = r"\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
Line = Annotated[str, Pattern(f"[^{INVISIBLE}]{{1,80}}", "1 to 80 visible characters")]
Prose = Annotated[str, Pattern(f"[^{INVISIBLE}]{{0,600}}", "up to 600 visible characters")]
Url = Annotated[str, Pattern(r"https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/?#=&%+:@-]{0,300})?", "an https:// address")]
DataId = Annotated[str, Pattern("[a-z0-9]+(-image)?/[a-z0-9-]{1,40}-v[0-9]{1,4}", "a dataset's id")]
Scalar = Prose | int | float | bool | None
Settings = dict[Line, Scalar | tuple[Scalar, ...]]

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def parse(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Return a JSON value as `kind`, and append what is wrong with it to `problems`, each after its place, `where`.

    `kind` is a dataclass, or a type made of dataclasses, tuple, dict, |, Literal, Annotated and scalars.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        if not _is(args[0], value) or not args[1].allows(value):
            problems.append(_problem(where, value, kind))
        return value
    if origin in (Union, types.UnionType):
        return _parse_union(kind, value, where, problems)
    if dataclasses.is_dataclass(kind) and type(value) is dict:
        return _parse_dataclass(kind, value, where, problems)
    if origin is tuple and type(value) is list:
        if args[0] in (int, float) and all(_is(args[0], item) for item in value):
            return tuple(map(args[0], value))  # the same as the next line, but fast
        return tuple(parse(args[0], item, f"{where}[{index}]", problems) for index, item in enumerate(value))
    if origin is dict and type(value) is dict:
        for name in value:
            parse(args[0], name, f"{where}: its name", problems)
        return {name: parse(args[1], item, f"{where}.{shown(name)[1:-1]}", problems) for name, item in value.items()}
    if origin is Literal and any(value == choice and type(value) is type(choice) for choice in args):
        return value
    if origin is None and not dataclasses.is_dataclass(kind) and _is(kind, value):
        return kind(value) if kind is float else value
    problems.append(_problem(where, value, kind))
    return None


def _parse_dataclass(kind: Any, value: dict[str, Any], where: str, problems: list[str]) -> Any:
    hints = _hints(kind)
    dot = f"{where}." if where else ""
    before, unknown = len(problems), sorted(value.keys() - hints.keys())
    problems += [f"{dot}{shown(name)[1:-1]}: unknown field; allowed: {', '.join(hints)}" for name in unknown]
    problems += [f"{dot}{name}: missing; needed: {_allowed(hints[name])}" for name in hints if name not in value]
    parsed = {name: parse(hints[name], value[name], dot + name, problems) for name in hints if name in value}
    return kind(**parsed) if len(problems) == before else None


def _parse_union(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    for option in typing.get_args(kind):
        option_problems: list[str] = []
        parsed = parse(option, value, where, option_problems)
        if not option_problems:
            return parsed
        if dataclasses.is_dataclass(option) and type(value) is dict:
            problems += option_problems
            return None
    problems.append(_problem(where, value, kind))
    return None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of a scalar type: `True` is no number, 1 is a float, 1.0 is no int."""
    if type(value) is int and kind in (int, float):
        return abs(value) <= MAX_NUMBER
    return type(value) is kind


def _problem(where: str, value: Any, kind: Any) -> str:
    return f"{where or 'the file'}: {shown(value)}; allowed: {_allowed(kind)}"


def shown(value: Any) -> str:
    """Return a value for a message: short, on one line, and without control characters."""
    text = ascii(value) if not isinstance(value, list | dict) else f"a {type(value).__name__} of {len(value)}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        rule = args[1]
        return rule.words if isinstance(rule, Pattern) else f"{_allowed(args[0])} from {rule.value} on"
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(option) for option in args)
    if origin is Literal:
        return ", ".join(map(repr, args))
    return "a list" if origin is tuple else WORDS.get(kind, "an object")


def json_schema(kind: Any) -> dict[str, Any]:
    """Return what `parse` accepts, as JSON Schema (2020-12)."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        rule = args[1]
        limit = {"minimum": rule.value} if isinstance(rule, AtLeast) else {"pattern": f"^(?:{rule.regex})$"}
        return json_schema(args[0]) | limit
    if origin in (Union, types.UnionType):
        return {"anyOf": [json_schema(option) for option in args]}
    if origin is tuple:
        return {"type": "array", "items": json_schema(args[0])}
    if origin is dict:
        return {"type": "object", "propertyNames": json_schema(args[0]), "additionalProperties": json_schema(args[1])}
    if origin is Literal:
        return {"enum": list(args)}
    if dataclasses.is_dataclass(kind):
        fields = {name: json_schema(hint) for name, hint in _hints(kind).items()}
        return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": JSON_TYPES[kind]}


def at_most(problems: list[str], number: int = 20) -> str:
    """Return the first problems as lines of a message, and how many more there are."""
    more = [f"... and {len(problems) - number} more"] if len(problems) > number else []
    return "\n  ".join(problems[:number] + more)
