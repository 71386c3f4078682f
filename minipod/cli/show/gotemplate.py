"""`-o go-template=…` (layer 6, pure): a template executed as Go's text/template does, over an object as JSON holds it.

A whole number of the object is an int64, one with a fraction a float64, as in kubectl.
"""

from __future__ import annotations

from collections.abc import Iterator

from minipod.cli.show.gotemplate_functions import FUNCTIONS, MISSING, CallError, Int64, is_true, quoted, text_of
from minipod.cli.show.gotemplate_syntax import Command, Node, Operand, Pipe, TemplateError, parse
from minipod.cli.values import Any
from minipod.errors import UsageError

LAZY = ("and", "or")
"""Functions that do not look at all of their values."""


class _Break(Exception):  # noqa: N818 - a jump and no error
    pass


class _Continue(Exception):  # noqa: N818 - as above
    pass


class Template:
    """A parsed template. Raises UsageError for one that cannot be parsed."""

    def __init__(self, text: str, allow_missing: bool = True) -> None:
        self._text = text
        self._allow_missing = allow_missing
        try:
            self._nodes = parse(text, {*FUNCTIONS, *LAZY})
        except TemplateError as error:
            raise UsageError(f"error parsing template {text}, {error}") from None
        except RecursionError:
            raise UsageError("error parsing template: nested too deeply") from None

    def render(self, data: Any) -> str:
        """The text. Raises UsageError where Go's would stop."""
        data = _typed(data)
        try:
            return _Run(self._text, self._allow_missing, data).nodes(self._nodes, data)
        except TemplateError as error:
            raise UsageError(f"error executing template {quoted(self._text)}: {error}") from None
        except RecursionError:
            raise UsageError(f"error executing template {quoted(self._text)}: nested too deeply") from None


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return Int64(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Run:
    """One execution: the variables that are there, the innermost last."""

    def __init__(self, text: str, allow_missing: bool, data: Any) -> None:
        self._text = text
        self._allow_missing = allow_missing
        self._variables: list[tuple[str, Any]] = [("$", data)]

    def nodes(self, nodes: tuple[Node, ...], dot: Any) -> str:
        output: list[str] = []
        for node in nodes:
            self._node(node, dot, output)
        return "".join(output)

    def _fault(self, at: int, source: str, message: str) -> TemplateError:
        line = self._text.count("\n", 0, at) + 1
        column = len(self._text[self._text.rfind("\n", 0, at) + 1 : at].encode())
        return TemplateError(f'template: output:{line}:{column}: executing "output" at <{source}>: {message}')

    def _node(self, node: Node, dot: Any, output: list[str]) -> None:
        if node.kind == "text":
            output.append(node.text)
        elif node.kind == "break":
            raise _Break
        elif node.kind == "continue":
            raise _Continue
        elif node.pipe is None:
            raise AssertionError(node.kind)
        elif node.kind == "action":
            value = self._pipe(node.pipe, dot)
            if not node.pipe.names:
                output.append(text_of(value) if value not in (None, MISSING) else "<no value>")
        else:
            height = len(self._variables)
            if node.kind == "range":
                self._range(node, node.pipe, dot, output)
            else:
                value = self._pipe(node.pipe, dot)
                chosen = node.body if is_true(value) else node.otherwise
                inner = value if node.kind == "with" and chosen is node.body else dot
                self._block(chosen, inner, output)
            del self._variables[height:]

    def _block(self, nodes: tuple[Node, ...], dot: Any, output: list[str]) -> None:
        """Variables of a block end with it."""
        height = len(self._variables)
        try:
            for node in nodes:
                self._node(node, dot, output)
        finally:
            del self._variables[height:]

    def _range(self, node: Node, pipe: Pipe, dot: Any, output: list[str]) -> None:
        value = self._pipe(Pipe(pipe.commands), dot)
        seen = False
        for key, item in self._items(value, pipe):
            seen = True
            height = len(self._variables)
            values = [item] if len(pipe.names) == 1 else [key, item]
            for name, each in zip(pipe.names, values, strict=False):
                self._set(name, each, pipe.declares)
            try:
                self._block(node.body, item, output)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                del self._variables[height:]
        if not seen:
            self._block(node.otherwise, dot, output)

    def _items(self, value: Any, pipe: Pipe) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, dict):
            return iter(sorted(value.items()))
        if isinstance(value, list):
            return iter(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        if value not in (None, MISSING):
            raise self._fault(
                pipe.commands[0].at, Pipe(pipe.commands).source, f"range can't iterate over {text_of(value)}"
            )
        return iter(())

    def _set(self, name: str, value: Any, declares: bool) -> None:
        if declares:
            self._variables.append((name, value))
            return
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return

    def _pipe(self, pipe: Pipe, dot: Any) -> Any:
        value: Any = None
        for number, command in enumerate(pipe.commands):
            value = self._command(command, dot, [value] if number else [])
        for name in pipe.names:
            self._set(name, value, pipe.declares)
        return value

    def _command(self, command: Command, dot: Any, final: list[Any]) -> Any:
        first, rest = command.operands[0], command.operands[1:]
        if first.kind == "function":
            return self._call(command, str(first.value), rest, dot, final)
        if rest or final:
            if first.kind == "field":
                raise self._fault(first.at, first.source, f"{first.fields[-1]} is not a method but has arguments")
            raise self._fault(first.at, first.source, f"can't give argument to non-function {first.source}")
        if first.kind == "nil":
            raise self._fault(command.at, "nil", "nil is not a command")
        return self._value(first, dot)

    def _call(self, command: Command, name: str, operands: tuple[Operand, ...], dot: Any, final: list[Any]) -> Any:
        if name in LAZY:
            return self._lazily(command, name, operands, dot, final)
        function = FUNCTIONS[name]
        values = [self._value(operand, dot) for operand in operands] + final
        if not function.least <= len(values) <= function.most:
            want = f"at least {function.least}" if function.most > 99 else str(function.least)
            raise self._fault(command.at, name, f"wrong number of args for {name}: want {want} got {len(values)}")
        try:
            return function.of(*values)
        except CallError as error:
            raise self._fault(command.at, command.source, f"error calling {name}: {error}") from None

    def _lazily(self, command: Command, name: str, operands: tuple[Operand, ...], dot: Any, final: list[Any]) -> Any:
        """The first value that decides; the others are not looked at."""
        if not operands and not final:
            raise self._fault(command.at, name, f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for operand in operands:
            value = self._value(operand, dot)
            if is_true(value) == (name == "or"):
                return value
        return final[0] if final else value

    def _value(self, operand: Operand, dot: Any) -> Any:
        match operand.kind:
            case "dot" | "field":
                value = dot
            case "nil":
                return None
            case "constant":
                return operand.value
            case "variable":
                value = next(value for name, value in reversed(self._variables) if name == operand.value)
            case "pipe":
                value = self._pipe(operand.value, dot)
            case _:  # a function among the operands
                value = self._call(Command(operand.at, (operand,)), str(operand.value), (), dot, [])
        for name in operand.fields:
            value = self._field(operand, value, name)
        return value

    def _field(self, operand: Operand, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            if name not in value and not self._allow_missing:
                raise self._fault(operand.at, operand.source, f'map has no entry for key "{name}"')
            return value.get(name, MISSING)
        if value is MISSING:
            if not self._allow_missing:
                raise self._fault(operand.at, operand.source, f'nil data; no entry for key "{name}"')
            return MISSING
        if value is None:
            raise self._fault(operand.at, operand.source, f"nil pointer evaluating interface {{}}.{name}")
        raise self._fault(operand.at, operand.source, f"can't evaluate field {name} in type interface {{}}")
