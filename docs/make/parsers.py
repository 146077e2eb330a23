"""The commands and their options, as the program's own parser has them. What argparse knows, in plain values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from policyd.cli.main import parser


@dataclass(frozen=True, slots=True)
class Option:
    """One option or argument: `-c FILE, --config FILE`, and what it is for."""

    flags: tuple[str, ...]  # none for an argument
    value: str  # `FILE`, `[DIR]`, `name=value ...`; empty for a switch
    text: str
    required: bool
    repeated: bool

    @property
    def shown(self) -> str:
        """As it is listed."""
        return ", ".join(f"{flag} {self.value}".strip() for flag in self.flags) or self.value

    @property
    def usage(self) -> str:
        """As it stands in a synopsis, by its shortest flag."""
        if not self.flags:
            return f"[{self.value}]" if not self.required else self.value
        text = f"{self.flags[0]} {self.value}".strip()
        if self.repeated:
            return f"[{text}]..."
        return text if self.required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or a source of `import`."""

    name: str  # `check`, `import exchange`
    help: str  # in one line
    description: str
    options: tuple[Option, ...]
    epilog: tuple[str, ...]  # paragraphs as written: prose, or an indented block under a line that ends in a colon

    @property
    def usage(self) -> str:
        """The synopsis."""
        return " ".join(["policyd", self.name, *(option.usage for option in self.options)])


def top() -> argparse.ArgumentParser:
    """The parser of `policyd` itself."""
    return parser()


def commands() -> Iterator[Command]:
    """All of them, in the order of --help; one that has sources comes before them, without options of its own."""
    yield from _below(top(), "")


def _below(parser: argparse.ArgumentParser, prefix: str) -> Iterator[Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                yield Command(
                    f"{prefix}{name}",
                    helps[name],
                    " ".join((below.description or "").split()),
                    tuple(_options(below)),
                    paragraphs(below.epilog or ""),
                )
                yield from _below(below, f"{prefix}{name} ")


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction | argparse._VersionAction):
            continue
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
        if action.nargs in ("*", "+"):
            value = f"{value} ..."
        elif action.nargs == "?":
            value = f"[{value}]"
        required = action.required if action.option_strings else action.nargs != "*"
        repeated = isinstance(action, argparse._AppendAction)
        text = formatter._expand_help(action)
        yield Option(tuple(action.option_strings), value, text, required, repeated)


def paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of an epilog, each with its own line ends."""
    return tuple(part for part in text.strip("\n").split("\n\n") if part.strip())


def is_block(paragraph: str) -> bool:
    """Whether it is a line that ends in a colon, and indented lines under it."""
    first, *lines = paragraph.split("\n")
    return first.endswith(":") and bool(lines) and all(line.startswith("  ") for line in lines)
