"""What is chosen for one run: values of parameters, and other data in the place of the manifest's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from afenv.documents.steps import Parameter, Value, fits_type
from afenv.documents.suggest import did_you_mean
from afenv.errors import AfenvError, Problem
from afenv.steps.graph import StepGraph

Values = Mapping[str, Mapping[str, Value]]
_BOOLEANS = {"true": True, "false": False}


def typed_value(text: str, kind: str) -> Value | None:
    """The value of a parameter's type that a text stands for; None if it stands for none."""
    if kind == "string":
        return text
    if kind == "boolean":
        return _BOOLEANS.get(text.lower())
    try:
        value = int(text) if kind == "integer" or text.strip("+-").isdecimal() else float(text)
    except ValueError:
        return None
    finite = isinstance(value, int) or abs(value) != float("inf")
    return value if finite and value == value and fits_type(value, kind) else None


def choose_parameters(graph: StepGraph, names: Iterable[str], given: Sequence[str]) -> Values:
    """The values of the parameters of the steps ``names``, by step and name.

    ``given`` are texts ``NAME=VALUE``, for every step that has the parameter, or ``STEP.NAME=VALUE``; the
    latter wins. E750, all problems at once, for what does not exist in the analysis or is not of the type;
    E751 for parameters that have neither a value nor a default.
    """
    problems: list[Problem] = []
    general: dict[str, str] = {}
    own: dict[tuple[str, str], str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        step, dot, parameter = name.partition(".")
        if not equals:
            problems.append(_problem(f"{text!r} is not NAME=VALUE"))
        elif dot and step not in graph.steps:
            problems.append(_problem(f"there is no step {step!r}{_hint(step, graph.steps)}"))
        elif dot and parameter not in graph.steps[step].parameters:
            known = graph.steps[step].parameters
            problems.append(
                _problem(f"the step {step} has no parameter {parameter!r}{_hint(parameter, known)}")
            )
        elif dot:
            own[step, parameter] = value
        else:
            all_known = [one for entry in graph.steps.values() for one in entry.parameters]
            if name not in all_known:
                problems.append(_problem(f"no step has a parameter {name!r}{_hint(name, all_known)}"))
            general[name] = value
    found: dict[str, dict[str, Value]] = {}
    for name in names:
        found[name] = {}
        for key, declared in graph.steps[name].parameters.items():
            chosen = own.get((name, key), general.get(key))
            settled = _value(name, key, declared, chosen, problems)
            if settled is not None:
                found[name][key] = settled
    if problems:
        raise AfenvError.many(problems)
    return found


def _value(
    step: str, key: str, parameter: Parameter, chosen: str | None, problems: list[Problem]
) -> Value | None:
    if chosen is None:
        if parameter.default is None:
            message = f"the parameter {key!r} of the step {step} has no default and was not given a value"
            remedy = f"Give one: --param {step}.{key}=VALUE ({parameter.type})."
            problems.append(Problem("E751", message, "--param", None, remedy))
        return parameter.default
    value = typed_value(chosen, parameter.type)
    if value is None:
        message = f"{chosen!r} is not of the type {parameter.type}, which {step}.{key} has"
        problems.append(_problem(message))
    return value


def choose_data(names: Sequence[str], given: Sequence[str], folder: Path) -> dict[str, str]:
    """The URIs that replace those of data, by name, from texts ``NAME=URI``.

    A path, relative to ``folder``, may stand for a ``file:`` URI. E750 for data that does not exist in the
    analysis; E001 for a path that does not.
    """
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for text in given:
        name, equals, uri = text.partition("=")
        if not equals or not uri:
            problems.append(_problem(f"{text!r} is not NAME=URI", "--set"))
        elif name not in names:
            problems.append(_problem(f"there is no data {name!r}{_hint(name, names)}", "--set"))
        elif ":" in uri.partition("/")[0]:
            found[name] = uri
        else:
            path = (folder / Path(uri).expanduser()).absolute()
            if not path.exists():
                problems.append(Problem("E001", "there is no such file", str(path)))
            found[name] = f"file:{quote(str(path))}{'/' if path.is_dir() else ''}"
    if problems:
        raise AfenvError.many(problems)
    return found


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    there_is = f"there is: {', '.join(names)}" if names else "there is none"
    return did_you_mean(name, names) or f"; {there_is}"


def _problem(message: str, place: str = "--param") -> Problem:
    return Problem("E750", message, place)
