"""Check plain values from a config against the signature that will receive them.

The signature is the one place that states which knobs exist, their types and defaults.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from segattn.base.errors import UserError


def check_choice(what: str, name: object, choices: Collection[str]) -> None:
    """Raise UserError that lists `choices` unless `name` is one of them."""
    if name not in choices:
        near = _nearest(str(name), choices)
        raise UserError(f"unknown {what} {name!r}; choose one of {sorted(choices)}{near}")


def _nearest(name: str, choices: Collection[str]) -> str:
    near = get_close_matches(name, choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_arguments(
    what: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    given: Collection[str] = (),
) -> None:
    """Check names and types of `arguments` against the keyword parameters of `function`.

    Args:
        what: What is configured, for the message, e.g. "head 'fla'".
        function: Callable with annotated parameters; int, float, bool, str, Literal, list and
            unions of them are checked.
        arguments: Values by name.
        given: Parameters that the caller supplies itself; not open to the config.

    Raises:
        UserError: An unknown name (lists the choices), a missing one, or a value of a wrong type.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in given and parameter.kind is not parameter.VAR_KEYWORD
    }
    for name in arguments:
        if name not in parameters:
            choices, near = sorted(parameters) or "none", _nearest(name, parameters)
            raise UserError(f"{what} has no knob {name!r}; its knobs: {choices}{near}")
    for name, parameter in parameters.items():
        if name in arguments:
            check_type(what, name, arguments[name], parameter.annotation)
        elif parameter.default is parameter.empty:
            raise UserError(f"{what} needs {name!r}, which is not set")


def check_type(what: str, name: str, value: Any, annotation: Any) -> None:
    """Raise UserError unless `value` is of the annotated type; see `check_arguments`."""
    if not _fits(value, annotation):
        raise UserError(f"{what}: {name} must be {_name(annotation)}, got {value!r}")


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return f"one of {list(get_args(annotation))}"
    if get_origin(annotation) in (UnionType, Union):
        return " or ".join(map(_name, get_args(annotation)))
    return "null" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def _fits(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return value in get_args(annotation)
    if origin in (UnionType, Union):
        return any(_fits(value, choice) for choice in get_args(annotation))
    if annotation in (None, NoneType):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or annotation)
