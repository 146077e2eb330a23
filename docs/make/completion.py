"""Shell completion: bash and zsh by shtab, fish (which shtab does not know) by a few lines of our own.

They complete commands, options, and the names of files; nothing is run for it.
"""

from __future__ import annotations

import argparse

import shtab
from parsers import commands, top

_FILES = {"FILE", "TRANSCRIPT", "LOG", "OLD", "TEXT|FILE"}
_FOLDERS = {"DIR"}


def bash() -> str:
    """For /usr/share/bash-completion/completions/policyd."""
    return _shtab("bash")


def zsh() -> str:
    """For a folder of zsh's fpath, as _policyd."""
    return _shtab("zsh")


def _shtab(shell: str) -> str:
    program = top()
    _name_files(program)
    return "\n".join(line.rstrip() for line in shtab.complete(program, shell).split("\n")).strip("\n") + "\n"


def _name_files(parser: argparse.ArgumentParser) -> None:
    """Says which options take files: argparse does not know it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _name_files(below)
        elif action.metavar in _FILES | _FOLDERS:
            action.complete = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]


def fish() -> str:
    """For a folder of completions of fish, as policyd.fish."""
    names = [command.name for command in commands()]
    first = " ".join(name for name in names if " " not in name)
    lines = [
        "# Made by `python docs/make`: change policyd/cli/, not this file.",
        "complete -c policyd -f",
        f'complete -c policyd -n "not __fish_seen_subcommand_from {first}" -l version -d "print the versions"',
    ]
    for command in commands():
        above, _, name = command.name.rpartition(" ")
        siblings = " ".join(other.rpartition(" ")[2] for other in names if other.rpartition(" ")[0] == above)
        seen = f"__fish_seen_subcommand_from {above}; and " if above else ""
        condition = f"{seen}not __fish_seen_subcommand_from {siblings}"
        lines.append(f'complete -c policyd -n "{condition}" -a {name} -d {_quoted(command.help)}')
        here = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.name.split())
        for option in command.options:
            value = option.value.removesuffix(" ...")
            taken = " -r -F" if value in _FILES | _FOLDERS else " -r" if value and value[0] != "[" else ""
            if option.flags:
                flags = "".join(f" -{'l' if flag[:2] == '--' else 's'} {flag.lstrip('-')}" for flag in option.flags)
                lines.append(f'complete -c policyd -n "{here}"{flags}{taken} -d {_quoted(option.text)}')
            elif value in _FILES:
                lines.append(f'complete -c policyd -n "{here}" -F')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.split(";")[0].replace("\\", "\\\\").replace("'", "\\'") + "'"
