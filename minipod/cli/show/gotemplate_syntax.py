"""Go templates as trees (layer 6, pure): what `-o go-template` is given, read as Go's text/template/parse reads it.

All of its language but {{define}}, {{template}} and {{block}}, which name templates and have no use in one argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from minipod.cli.values import Any
from minipod.errors import UsageError

_TRIM_LEFT = re.compile(r"\{\{-[ \t\r\n]")
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r'|(?P<string>"(?:\\.|[^"\\\n])*")'
    r"|(?P<raw>`[^`]*`)"
    r"|(?P<char>'(?:\\.[^']*|[^'\\\n])')"
    r"|(?P<number>[-+]?(?:0[xXoObB][0-9a-fA-F_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?)(?![\w.]))"
    r"|(?P<field>\.[A-Za-z_]\w*)"
    r"|(?P<dot>\.)"
    r"|(?P<variable>\$\w*)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<mark>:=|[|(),=])"
)


class TemplateError(UsageError):
    """What is wrong with a template, or with what it does, in Go's words."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Operand:
    """kind: dot, nil, constant, field, variable, function, pipe.

    `fields`: the chain behind it. `source`: as Go prints it.
    """

    kind: str
    at: int
    source: str
    value: Any = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A function or a value, and what it is applied to."""

    at: int
    operands: tuple[Operand, ...]

    @property
    def source(self) -> str:
        return " ".join(operand.source for operand in self.operands)


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each given the value of the one before. `names`: the variables that take the last value."""

    commands: tuple[Command, ...]
    names: tuple[str, ...] = ()
    declares: bool = True

    @property
    def source(self) -> str:
        start = f"{', '.join(self.names)} {':=' if self.declares else '='} " if self.names else ""
        return start + " | ".join(command.source for command in self.commands)


@dataclass(frozen=True, slots=True)
class Node:
    """kind: text, action, if, with, range, break, continue."""

    kind: str
    text: str = ""
    pipe: Pipe | None = None
    body: tuple[Node, ...] = ()
    otherwise: tuple[Node, ...] = ()


@dataclass(slots=True)
class _Open:
    """A block whose {{end}} has not come. `chained`: an {{else if}}, which ends with the block around it."""

    kind: str
    pipe: Pipe | None = None
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] | None = None
    chained: bool = False
    variables: int = 0

    def add(self, node: Node) -> None:
        (self.body if self.otherwise is None else self.otherwise).append(node)

    def closed(self) -> Node:
        return Node(self.kind, "", self.pipe, tuple(self.body), tuple(self.otherwise or ()))


def parse(text: str, functions: Collection[str]) -> tuple[Node, ...]:
    """The template as nodes. `functions`: the names that it may call. Raises TemplateError."""
    return _Parser(text, functions).nodes()


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._text = text
        self._functions = functions
        self._line = 1
        self._variables = ["$"]
        self._blocks = [_Open("root")]

    def nodes(self) -> tuple[Node, ...]:
        at, trims = 0, False
        while True:
            begin = self._text.find("{{", at)
            text = self._text[at:] if begin < 0 else self._text[at:begin]
            if trims:
                text = text.lstrip(" \t\r\n")
            if begin >= 0 and _TRIM_LEFT.match(self._text, begin):
                text = text.rstrip(" \t\r\n")
            if text:
                self._blocks[-1].add(Node("text", text))
            if begin < 0:
                break
            at, trims = self._action(begin)
        if len(self._blocks) > 1:
            self._line = self._text.count("\n") + 1
            raise self._fault("unexpected EOF")
        return tuple(self._blocks[0].body)

    def _fault(self, message: str) -> TemplateError:
        return TemplateError(f"template: output:{self._line}: {message}")

    def _action(self, begin: int) -> tuple[int, bool]:
        """Reads what is between two pairs of braces: where it ends, and whether space behind it is dropped."""
        self._line = self._text.count("\n", 0, begin) + 1
        at = begin + (3 if _TRIM_LEFT.match(self._text, begin) else 2)
        comment = re.compile(r"[ \t\r\n]*/\*(.*?)\*/([ \t\r\n]+-)?\}\}", re.DOTALL).match(self._text, at)
        if comment:
            return comment.end(), bool(comment[2])
        tokens: list[Token] = []
        while True:
            if self._text.startswith("}}", at):
                end, trims = at + 2, False
                break
            if tokens and tokens[-1].kind == "space" and self._text.startswith("-}}", at):
                end, trims = at + 3, True
                break
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._unreadable(at)
            tokens.append(Token(str(found.lastgroup), found[0], at))
            at = found.end()
        self._do([token for token in tokens if token.kind != "space"])
        return end, trims

    def _unreadable(self, at: int) -> TemplateError:
        rest = self._text[at : at + 1]
        if rest in ("", "{"):
            return self._fault("unclosed action")
        if rest in ('"', "`"):
            return self._fault("unterminated quoted string" if rest == '"' else "unterminated raw quoted string")
        if rest in "-+.0123456789":
            word = re.compile(r"[-+\w.]+").match(self._text, at)
            return self._fault(f'bad number syntax: "{word[0] if word else rest}"')
        return self._fault(
            f"unexpected {rest!r} in operand" if rest.isprintable() else "unrecognized character in action"
        )

    def _do(self, tokens: list[Token]) -> None:
        word = tokens[0].text if tokens and tokens[0].kind == "word" else ""
        if word in ("if", "with", "range"):
            self._open(word, tokens[1:], chained=False)
        elif word == "else":
            self._else(tokens[1:])
        elif word == "end":
            self._end()
        elif word in ("break", "continue"):
            if not any(block.kind == "range" for block in self._blocks):
                raise self._fault(f"{{{{{word}}}}} outside {{{{range}}}}")
            self._blocks[-1].add(Node(word))
        elif word in ("define", "template", "block"):
            raise self._fault(f"{{{{{word}}}}} is not supported here: write the template in one piece")
        else:
            self._blocks[-1].add(Node("action", pipe=self._pipe(tokens, "command")))

    def _open(self, kind: str, tokens: list[Token], chained: bool) -> None:
        variables = len(self._variables)
        pipe = self._pipe(tokens, kind)
        self._blocks.append(_Open(kind, pipe, chained=chained, variables=variables))

    def _else(self, tokens: list[Token]) -> None:
        block = self._blocks[-1]
        if block.kind == "root" or block.otherwise is not None:
            raise self._fault("unexpected {{else}}")
        block.otherwise = []
        if tokens:
            if tokens[0].text != block.kind or block.kind == "range":
                raise self._fault(f"unexpected <{tokens[0].text}> in {block.kind}")
            self._open(block.kind, tokens[1:], chained=True)

    def _end(self) -> None:
        while True:
            block = self._blocks.pop()
            if block.kind == "root":
                raise self._fault("unexpected {{end}}")
            del self._variables[block.variables :]
            self._blocks[-1].add(block.closed())
            if not block.chained:
                return

    def _pipe(self, tokens: list[Token], context: str) -> Pipe:
        names, declares, tokens = self._declared(tokens, context)
        pipe, rest = self._commands(tokens, context)
        if rest:
            raise self._fault(f"unexpected {_shown(rest[0])} in {context}")
        if declares:
            self._variables += names
        return Pipe(pipe, tuple(names), declares)

    def _declared(self, tokens: list[Token], context: str) -> tuple[list[str], bool, list[Token]]:
        """`$x :=`, `$i, $x :=` and `$x =` at the beginning."""
        kinds = [token.kind if token.kind != "mark" else token.text for token in tokens[:4]]
        if kinds[:2] in (["variable", ":="], ["variable", "="]):
            return self._targets(tokens[:1], kinds[1] == ":="), kinds[1] == ":=", tokens[2:]
        if context == "range" and kinds[:3] == ["variable", ",", "variable"] and kinds[3:] in ([":="], ["="]):
            both = [tokens[0], tokens[2]]
            return self._targets(both, kinds[3] == ":="), kinds[3] == ":=", tokens[4:]
        return [], False, tokens

    def _targets(self, tokens: list[Token], declares: bool) -> list[str]:
        if not declares:
            for token in tokens:
                self._known(token.text)
        return [token.text for token in tokens]

    def _known(self, name: str) -> None:
        if name not in self._variables:
            raise self._fault(f'undefined variable "{name}"')

    def _commands(self, tokens: list[Token], context: str) -> tuple[tuple[Command, ...], list[Token]]:
        """Commands between bars, up to the end or a closing parenthesis."""
        commands: list[Command] = []
        while True:
            operands, tokens = self._operands(tokens)
            if not operands:
                raise self._fault(f"missing value for {context}")
            if commands and operands[0].kind in ("dot", "nil", "constant"):
                raise self._fault(f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(Command(operands[0].at, tuple(operands)))
            if not tokens or tokens[0].text != "|":
                return tuple(commands), tokens
            tokens = tokens[1:]

    def _operands(self, tokens: list[Token]) -> tuple[list[Operand], list[Token]]:
        operands: list[Operand] = []
        while tokens and tokens[0].text not in ("|", ")"):
            operand, tokens = self._operand(tokens)
            operands.append(operand)
        return operands, tokens

    def _operand(self, tokens: list[Token]) -> tuple[Operand, list[Token]]:
        token, rest = tokens[0], tokens[1:]
        fields: list[str] = []
        first, at = token, token.at
        if token.text == "(" and token.kind == "mark":
            commands, rest = self._commands(rest, "parenthesized pipeline")
            if not rest:
                raise self._fault("unclosed left paren")
            end = rest[0]
            rest = rest[1:]
            pipe = Pipe(commands)
            operand = Operand("pipe", token.at, f"({pipe.source})", pipe)
        else:
            operand, end = self._term(token), token
            if operand.kind == "field":
                fields.append(token.text[1:])
        chained = False
        while rest and rest[0].kind == "field" and rest[0].at == end.at + len(end.text):
            if not chained:
                at, chained = rest[0].at, True  # Go gives the whole chain the place of its second part
            end, rest = rest[0], rest[1:]
            fields.append(end.text[1:])
        if chained and operand.kind in ("nil", "constant", "dot"):
            raise self._fault(f"unexpected . after term {first.text!r}")
        source = operand.source + "".join(f".{name}" for name in fields[operand.kind == "field" :])
        place = at if chained and operand.kind in ("field", "variable") else operand.at
        return Operand(operand.kind, place, source, operand.value, tuple(fields)), rest

    def _term(self, token: Token) -> Operand:
        make: dict[str, Callable[[], Operand]] = {
            "field": lambda: Operand("field", token.at, token.text),
            "dot": lambda: Operand("dot", token.at, "."),
            "string": lambda: Operand("constant", token.at, token.text, _unquoted(token.text)),
            "raw": lambda: Operand("constant", token.at, token.text, token.text[1:-1]),
            "char": lambda: Operand("constant", token.at, token.text, ord(_unquoted(f'"{token.text[1:-1]}"'))),
            "number": lambda: Operand("constant", token.at, token.text, _number(token.text)),
            "variable": lambda: Operand("variable", token.at, token.text, token.text),
        }
        if token.kind in make:
            if token.kind == "variable":
                self._known(token.text)
            return make[token.kind]()
        if token.text in ("true", "false"):
            return Operand("constant", token.at, token.text, token.text == "true")
        if token.text == "nil":
            return Operand("nil", token.at, "nil")
        if token.kind == "word":
            if token.text not in self._functions:
                raise self._fault(f'function "{token.text}" not defined')
            return Operand("function", token.at, token.text, token.text)
        raise self._fault(f"unexpected {_shown(token)} in operand")


def _shown(token: Token) -> str:
    return f'"{token.text}"' if token.kind == "mark" else f"<{token.text}>"


def _number(text: str) -> int | float:
    text = text.replace("_", "")
    if not re.match(r"[-+]?0[xXoObB]", text) and re.search(r"[.eE]", text):
        return float(text)
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    return sign * int(digits, 8 if re.fullmatch(r"0[0-7]+", digits) else 0 if digits.strip("0") else 10)


def _unquoted(text: str) -> str:
    """A string of Go's."""
    escapes = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}

    def plain(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "xuU":
            return chr(int(code[1:], 16))
        return chr(int(code, 8)) if code[0].isdigit() else escapes.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", plain, text[1:-1])
