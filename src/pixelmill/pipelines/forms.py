"""Between the written forms of a pipeline (text, JSON) and its values (operations, output).

The grammar of the text is in ``text.py``; here its words get their meaning from the parameter models. What is a default
is left out in writing.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from pixelmill.errors import InvalidParameter, PipelineError, PipelineSyntaxError
from pixelmill.images.encoders import ENDS
from pixelmill.images.image import Image
from pixelmill.images.metadata import STRIPPED, MetadataOptions
from pixelmill.operations.arguments import build, is_list, parameters, unknown
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import Font
from pixelmill.operations.table import operation_named
from pixelmill.pipelines import text as grammar
from pixelmill.pipelines.expansion import Collected, Expansion, Parts, check_count, expanded
from pixelmill.pipelines.output import Output, end_named, output_named
from pixelmill.pipelines.presets import BUILT_IN, Presets
from pixelmill.pipelines.source_step import WHOLE_SOURCE, SourceStep
from pixelmill.pipelines.text import TextArgument, TextStep

MAX_JSON = 65_536
"""Characters of a JSON form."""

_PLACES = {
    "frame": "is the first step",
    "metadata": "stands at the end, beside format",
    "format": "is the last step",
}

M = TypeVar("M", bound=BaseModel)

# -- text ---------------------------------------------------------------------------------------------------------


def read_text(text: str, presets: Presets = BUILT_IN) -> Parts:
    """What a text form holds; raises :class:`PipelineError` with step, position and what is possible."""
    return _expanded_text(text, presets, ()).parts


def _expanded_text(text: str, presets: Presets, within: tuple[str, ...]) -> Expansion:
    """The same, with what it says; ``within`` are the presets that the text is part of, the outermost first."""
    steps = grammar.read(text)
    source, first = WHOLE_SOURCE, 0
    if steps and steps[0].name == "frame":
        source, first = _model_of_text(steps[0], SourceStep, 1), 1
        if source == WHOLE_SOURCE:
            raise InvalidParameter(
                "Step 1 (character 1): which frame? frame:0 is the first.", operation="frame", parameter="frame", step=1
            )
    output, last = _output_of_text(steps, first)
    says = frozenset(step.name for step in steps[last:])
    check_count(last - first)
    collected = Collected(source)
    for number, step in enumerate(steps[first:last], first + 1):
        if step.name == "preset":
            _add_preset_of_text(collected, step, number, presets, within)
        else:
            collected.operations.append(_operation_of_text(step, number))
    return collected.all(output, says)


def read_format(text: str) -> Output:
    """A format with its options as they stand behind ``format:``, such as ``jpeg,quality=80``."""
    steps = grammar.read(f"format:{text}")
    if len(steps) != 1:
        raise PipelineSyntaxError("A format is one name with its options, such as jpeg,quality=80.")
    return _format_of_step(steps[0])


def write_text(operations: Iterable[Operation], output: Output, source: SourceStep = WHOLE_SOURCE) -> str:
    """The text form: the inverse of :func:`read_text`."""
    steps = [TextStep("frame", _text_arguments(source, "frame", 1))] if source != WHOLE_SOURCE else []
    steps += [TextStep(item.name, _text_arguments(item, item.name, item.positional)) for item in operations]
    if output.metadata != STRIPPED:
        steps.append(TextStep("metadata", _text_arguments(output.metadata, "metadata", 1)))
    if output.format is not None:
        options = () if output.options is None else _text_arguments(output.options, "format", 0)
        steps.append(TextStep("format", (TextArgument((output.format,)), *options)))
    return grammar.write(steps)


def _output_of_text(steps: Sequence[TextStep], first: int) -> tuple[Output, int]:
    """What the last steps say of the output, in any order; and where those steps begin."""
    output, last, seen = Output(), len(steps), set[str]()
    while last > first and (step := steps[last - 1]).name in ("metadata", "format") and step.name not in seen:
        seen.add(step.name)
        if step.name == "format":
            output = replace(_format_of_text(step, last), metadata=output.metadata)
        else:
            output = replace(output, metadata=_model_of_text(step, MetadataOptions, last))
        last -= 1
    return output, last


def _model_of_text(step: TextStep, model: type[M], number: int) -> M:
    try:
        return build(model, _bound(step.arguments, model, step.name), step.name, strict=False)
    except PipelineError as error:
        _locate(error, number, step.position)


def _add_preset_of_text(
    collected: Collected, step: TextStep, number: int, presets: Presets, within: tuple[str, ...]
) -> None:
    try:
        collected.add(expansion(_preset_name(step), presets, within))
    except PipelineError as error:
        _locate(error, number, step.position)


def _preset_name(step: TextStep) -> str:
    if len(step.arguments) == 1:
        argument = step.arguments[0]
        if argument.name in (None, "preset") and len(argument.elements) == 1:
            return argument.elements[0]
    raise InvalidParameter(
        "preset takes one argument, the name of the preset: preset:thumbnail.", operation="preset", parameter="preset"
    )


def _operation_of_text(step: TextStep, number: int) -> Operation:
    try:
        if step.name in _PLACES:
            raise PipelineSyntaxError(f"{step.name} {_PLACES[step.name]}, and there is one at most.")
        model = operation_named(step.name)
    except PipelineError as error:
        _locate(error, number, step.position)
    return _model_of_text(step, model, number)


def _format_of_text(step: TextStep, number: int) -> Output:
    try:
        return _format_of_step(step)
    except PipelineError as error:
        _locate(error, number, step.position)


def _format_of_step(step: TextStep) -> Output:
    if not step.arguments or step.arguments[0].name not in (None, "format"):
        raise InvalidParameter(
            f"format: the first argument is the name of the format, one of {', '.join(ENDS)}.",
            operation="format",
            parameter="format",
            allowed=", ".join(ENDS),
        )
    first, *others = step.arguments
    fmt = end_named(":".join(first.elements))
    return output_named(fmt, _bound(others, ENDS[fmt], f"format:{fmt}"), strict=False)


def _bound(arguments: Sequence[TextArgument], model: type[BaseModel], owner: str) -> dict[str, Any]:
    """Parameter names and raw values; arguments by position come first."""
    taken: dict[str, Any] = {}
    for index, argument in enumerate(arguments):
        if argument.name is None and index and arguments[index - 1].name is not None:
            raise PipelineSyntaxError(f"{owner}: an argument without a name stands behind one with a name.")
        name = argument.name or positional_name(model, index, owner)
        if name not in model.model_fields:
            raise unknown(model, name, owner)
        add_argument(taken, name, _value_of(argument, is_list(model, name), owner, name), owner)
    return taken


def _value_of(argument: TextArgument, is_list: bool, owner: str, name: str) -> Any:
    if is_list:
        return list(argument.elements)
    if len(argument.elements) > 1:
        joined = "~3A".join(argument.elements)
        raise PipelineSyntaxError(f"{owner}: {name} is no list; a colon in a value is written ~3A: {joined[:200]}.")
    return argument.elements[0]


def _text_arguments(model: BaseModel, owner: str, positional: int) -> tuple[TextArgument, ...]:
    """Arguments without defaults; the first ``positional`` by position as long as none is left out."""
    arguments: list[TextArgument] = []
    given = _given(model, owner)
    for index, name in enumerate(parameters(type(model))):
        if name not in given:
            continue
        value = given[name]
        elements = tuple(_word(item) for item in (value if isinstance(value, list | tuple) else (value,)))
        in_place = index < positional and index == len(arguments) and elements != ("",)
        arguments.append(TextArgument(elements, None if in_place else name))
    return tuple(arguments)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).replace("+", "") if isinstance(value, float) else str(value)


# -- JSON ---------------------------------------------------------------------------------------------------------


def read_json(text: str, presets: Presets = BUILT_IN) -> Parts:
    """Operations and output of a JSON form; raises :class:`PipelineError`."""
    if len(text) > MAX_JSON:
        raise PipelineSyntaxError(f"The pipeline's JSON has {len(text):,} characters; at most {MAX_JSON:,} are read.")
    try:
        record = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PipelineSyntaxError(
            f"The pipeline is no valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            position=error.pos,
        ) from error
    except (ValueError, RecursionError) as error:
        raise PipelineSyntaxError(f"The pipeline is no valid JSON: {error}.") from error
    return read_dict(record, presets)


def read_dict(record: Any, presets: Presets = BUILT_IN) -> Parts:
    """Operations and output of plain values, as JSON has them."""
    record = _object(record, "The pipeline")
    _only_known(record, ("source", "operations", "output"), "The pipeline")
    steps = record.get("operations", [])
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes):
        raise PipelineSyntaxError('"operations" must be a list.')
    check_count(len(steps))
    source = build(SourceStep, _object(record.get("source", {}), '"source"'), "source", strict=True)
    collected = Collected(source)
    for number, step in enumerate(steps, 1):
        if isinstance(step, Mapping) and step.get("name") == "preset":
            _add_preset_of_dict(collected, step, number, presets)
        else:
            collected.operations.append(_operation_of_dict(step, number))
    output = record.get("output")
    ends = _output_of_dict(output)
    return collected.all(ends, frozenset(output or ())).parts


def write_dict(operations: Iterable[Operation], output: Output, source: SourceStep = WHOLE_SOURCE) -> dict[str, Any]:
    """Plain values: the inverse of :func:`read_dict`. Numbers without a fraction are whole numbers."""
    record: dict[str, Any] = {}
    if source != WHOLE_SOURCE:
        record["source"] = _given(source, "source")
    record["operations"] = [{"name": item.name, **_given(item, item.name)} for item in operations]
    ends: dict[str, Any] = {}
    if output.format is not None:
        options = {} if output.options is None else _given(output.options, "format")
        ends = {"format": output.format, **options}
    if output.metadata != STRIPPED:
        ends["metadata"] = _given(output.metadata, "metadata")
    if ends:
        record["output"] = ends
    return record


def _add_preset_of_dict(collected: Collected, step: Any, number: int, presets: Presets) -> None:
    try:
        _only_known(_object(step, "A preset"), ("name", "preset"), "A preset")
        name = step.get("preset")
        if not isinstance(name, str):
            raise PipelineSyntaxError('A preset is written {"name": "preset", "preset": "thumbnail"}.')
        collected.add(expansion(name, presets))
    except PipelineError as error:
        _locate(error, number, None)


def _operation_of_dict(step: Any, number: int) -> Operation:
    try:
        step = _object(step, "An operation")
        name = step.get("name")
        if not isinstance(name, str):
            raise PipelineSyntaxError('An operation needs its "name".')
        return build(operation_named(name), {key: step[key] for key in step if key != "name"}, name, strict=True)
    except PipelineError as error:
        _locate(error, number, None)


def _output_of_dict(output: Any) -> Output:
    if output is None:
        return Output()
    output = _object(output, '"output"')
    name = output.get("format")
    options = {key: output[key] for key in output if key not in ("format", "metadata")}
    metadata = build(MetadataOptions, _object(output.get("metadata", {}), '"metadata"'), "metadata", strict=True)
    if name is None:
        if options:
            raise InvalidParameter(
                f"output: {', '.join(options)} needs a format to belong to; give one of {', '.join(ENDS)}.",
                operation="format",
                parameter="format",
                allowed=", ".join(ENDS),
            )
        return Output(metadata=metadata)
    if not isinstance(name, str):
        raise PipelineSyntaxError('"format" must be the name of a format, as text.')
    return output_named(name, options, strict=True, metadata=metadata)


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise PipelineSyntaxError(f'{what} must be an object, such as {{"operations": [{{"name": "grayscale"}}]}}.')
    return value


def _only_known(record: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in record:
        if key not in known:
            nearest = difflib.get_close_matches(key[:80], known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise PipelineSyntaxError(f"{what} has no key {key[:80]!r}.{hint} It has: {', '.join(known)}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return record


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


# -- presets ------------------------------------------------------------------------------------------------------


def expansion(name: str, presets: Presets, within: tuple[str, ...] = ()) -> Expansion:
    """What a preset means; raises :class:`PipelineError`, also for one that is wrong or holds itself."""
    return expanded(name, presets, within, _expanded_text)


# -- both ---------------------------------------------------------------------------------------------------------


def positional_name(model: type[BaseModel], index: int, owner: str) -> str:
    """The parameter at that position."""
    names = parameters(model)
    if index < len(names):
        return names[index]
    what = f"at most {len(names)}: {', '.join(names)}" if names else "no arguments"
    raise InvalidParameter(f"{owner}: there are too many arguments; it takes {what}.", operation=owner, parameter="")


def add_argument(taken: dict[str, Any], name: str, value: Any, owner: str) -> None:
    """Set an argument; one that is set already is an error."""
    if name in taken:
        raise InvalidParameter(f"{owner}: {name} is given twice.", operation=owner, parameter=name)
    taken[name] = value


def _given(model: BaseModel, owner: str) -> dict[str, Any]:
    """Parameters that are no defaults, as plain values."""
    given: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, Image | Font):
            what = "pixels" if isinstance(value, Image) else "a font"
            raise InvalidParameter(
                f"{owner}: {name} holds {what}, which no written form of a pipeline can hold. Give a path or a URI.",
                operation=owner,
                parameter=name,
            )
        if field.is_required() or value != field.default:
            given[name] = _plain(value)
    return given


def _plain(value: Any) -> Any:
    """A float without a fraction as an int: 2.0 and 2 are one number, and get one form and one hash."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _locate(error: PipelineError, number: int, position: int | None) -> NoReturn:
    """Raise the error anew, with the number of the step and where it starts in the text."""
    place = f"Step {number}" if position is None else f"Step {number} (character {position + 1})"
    context = {**error.context, "step": number} | ({} if position is None else {"position": position})
    raise type(error)(f"{place}: {error.detail}", **context) from error
