"""docs/reference/commands.md: each command with its options, exit codes and examples, from the parsers."""

from __future__ import annotations

from collections.abc import Iterator

from parsers import Command, commands, is_block, paragraphs, top

_HEAD = """\
# Commands

<!-- Made by `python docs/make`: change policyd/cli/, not this file. -->

Messages for people go to standard error, data to standard output. `--json` prints the data as JSON. `policyd
--version` names the versions of policyd, Python and Twisted, and the format of the rules, a number that changes when
a configuration that was accepted before is accepted no more or means something else. `policyd COMMAND --help` prints
what stands here; what a command is for is in [section 7](../specification.md#7-commands) of the specification.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, _exit_codes(), *(line for command in commands() for line in _section(command))])


def _exit_codes() -> str:
    (text,) = (part for part in paragraphs(top().epilog or "") if part.startswith("Exit codes: "))
    codes = " ".join(text.split()).removeprefix("Exit codes: ").rstrip(".").split("; ")
    rows = [f"| {code} | {meaning} |" for code, _, meaning in (entry.partition(" ") for entry in codes)]
    return "\n".join(["## Exit codes\n", "| code | means |", "|---|---|", *rows, ""])


def _section(command: Command) -> Iterator[str]:
    yield f"{'##' if ' ' not in command.name else '###'} policyd {command.name}\n"
    yield f"{command.description or command.help[:1].upper() + command.help[1:] + '.'}\n"
    if command.options:
        yield f"```text\n{wrapped(command.usage)}\n```\n"
        yield from ("| option | does |", "|---|---|")
        yield from (f"| `{_cell(option.shown)}` | {_cell(option.text)} |" for option in command.options)
        yield ""
    for paragraph in command.epilog:
        if is_block(paragraph):
            title, _, lines = paragraph.partition("\n")
            yield f"{title}\n"
            yield "```text\n" + "\n".join(line[2:] for line in lines.split("\n")) + "\n```\n"
        else:
            yield f"{paragraph}\n"


def _cell(text: str) -> str:
    """What stands in a cell of a table: no bar may end it."""
    return text.replace("|", "\\|")


def wrapped(usage: str, width: int = 100) -> str:
    """A synopsis on several lines, cut between options."""
    lines, indent = [""], " " * 8
    for word in usage.replace(" [", "\0[").replace(" --", "\0--").replace(" -c", "\0-c").split("\0"):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(indent + word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip() if lines[-1].strip() else word
    return "\n".join(lines)
