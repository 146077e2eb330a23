"""man/policyd.8 from the parsers, man/policyd.toml.5 from the table of keys, the script's page from its --help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import roff
from configuration import HEAD
from parsers import Command, commands, is_block, paragraphs, top

from policyd.config.keys import TABLES, Key, Table

_FILES = (
    ("/etc/policyd/policyd.toml", "The configuration; see policyd.toml(5)."),
    ("/etc/policyd/organizations.d/", "Where organizations are kept as files of their own, by custom."),
    ("/var/lib/policyd/", "What policyd keeps: transcripts, the last rows of a database."),
)


def policyd_8() -> str:
    """The commands."""
    return roff.page("policyd", 8, "System administration", _policyd_8())


def _policyd_8() -> Iterator[str]:
    program = top()
    yield roff.section("NAME")
    yield r"policyd \- inbound connectors for Postfix, as a policy service"
    yield roff.section("SYNOPSIS")
    for command in commands():
        if command.options:
            words = command.usage.removeprefix(f"policyd {command.name}").strip()
            yield f'.SY "policyd {roff.literal(command.name)}"\n{roff.literal(words)}\n.YS'
    yield '.SY "policyd"\n\\-\\-version\n.YS'
    yield roff.section("DESCRIPTION")
    yield roff.paragraph(program.description or "")
    yield roff.paragraph(
        "It answers the requests of Postfix's `check_policy_service`. A client must be identified, by its certificate "
        "or its address, as a connector of an organization; and the mail must belong to that organization: the domain "
        "of its sender, of its recipient, or of the certificate is one of the organization's accepted domains. "
        "Messages for people go to standard error, data to standard output."
    )
    yield roff.section("COMMANDS")
    for command in commands():
        yield from _command(command)
    yield roff.section('"EXIT STATUS"')
    (codes,) = (text for text in paragraphs(program.epilog or "") if text.startswith("Exit codes: "))
    for entry in " ".join(codes.split()).removeprefix("Exit codes: ").rstrip(".").split("; "):
        code, _, meaning = entry.partition(" ")
        yield roff.item(code, f"{meaning[:1].upper()}{meaning[1:]}.")
    yield roff.section("FILES")
    for name, text in _FILES:
        yield roff.item(name, text)
    yield roff.section('"SEE ALSO"')
    yield ".BR policyd.toml (5),\n.BR policyd\\-postfix\\-setup (8),"
    yield ".BR postconf (5),\n.BR access (5),\n.BR systemd.service (5)"


def _command(command: Command) -> Iterator[str]:
    yield roff.subsection(f"policyd {command.name}")
    yield roff.paragraph(command.description or f"{command.help[:1].upper()}{command.help[1:]}.")
    for option in command.options:
        text = option.text
        yield roff.item(option.shown, f"{text[:1].upper()}{text[1:]}.")
    for paragraph in command.epilog:
        if is_block(paragraph):
            title, *lines = paragraph.split("\n")
            yield roff.paragraph(title)
            yield roff.block(line[2:] for line in lines)
        else:
            yield roff.paragraph(paragraph)


def policyd_postfix_setup_8() -> str:
    """The script that changes main.cf."""
    return roff.page("policyd-postfix-setup", 8, "System administration", _policyd_postfix_setup_8())


def _policyd_postfix_setup_8() -> Iterator[str]:
    script = Path(__file__).parents[2] / "contrib" / "postfix" / "policyd-postfix-setup"
    head, rest = script.read_text("ascii").split("\nset -eu", 1)
    usage = re.search(r"<<'USAGE'\n(.*?)^USAGE$", rest, re.DOTALL | re.MULTILINE)
    assert usage is not None
    synopsis, stages, options, codes = usage[1].strip("\n").split("\n\n")
    first, *prose = head.replace("#!/bin/sh\n", "").replace("\n#", "\n").split("\n", 1)
    yield roff.section("NAME")
    yield first.removeprefix("# ").replace("-", r"\-").replace(": ", r" \- ", 1).rstrip(".")
    yield roff.section("SYNOPSIS")
    words = synopsis.removeprefix("Usage: policyd-postfix-setup ")
    yield f'.SY "policyd\\-postfix\\-setup"\n{roff.literal(words)}\n.YS'
    yield roff.section("DESCRIPTION")
    yield roff.paragraph(" ".join(" ".join(prose).split()))
    for title, rows in (("STAGES", stages), ("OPTIONS", options)):
        yield roff.section(title)
        for row in re.split(r"\n(?=  \S)", rows):
            term, text = re.split(r"  +", row.strip(), maxsplit=1)
            yield roff.item(term, " ".join(text.split()) + ".")
    yield roff.section('"EXIT STATUS"')
    for entry in codes.removeprefix("Exit codes: ").rstrip(".").split("; "):
        code, _, meaning = entry.partition(" ")
        yield roff.item(code, f"{meaning[:1].upper()}{meaning[1:]}.")
    yield roff.section('"SEE ALSO"')
    yield ".BR policyd (8),\n.BR postconf (1),\n.BR postconf (5)"


def policyd_toml_5() -> str:
    """The configuration."""
    return roff.page("policyd.toml", 5, "File formats", _policyd_toml_5())


def _policyd_toml_5() -> Iterator[str]:
    yield roff.section("NAME")
    yield r"policyd.toml \- configuration of policyd"
    yield roff.section("SYNOPSIS")
    yield ".I /etc/policyd/policyd.toml"
    yield roff.section("DESCRIPTION")
    for text in paragraphs(HEAD):
        yield roff.paragraph(text)
    for table in TABLES:
        yield from _table(table)
    yield roff.section("EXAMPLE")
    yield roff.block(
        [
            "[organizations.contoso]",
            'accepted_domains = ["contoso.com", "*.contoso.net"]',
            "",
            "[organizations.contoso.connectors.head-office]",
            'certificate_names = ["*.contoso.com"]',
            "",
            "[organizations.contoso.connectors.branch]",
            'addresses = ["203.0.113.0/28"]',
        ]
    )
    yield roff.section('"SEE ALSO"')
    yield ".BR policyd (8),\n.BR postconf (5)"


def _table(table: Table) -> Iterator[str]:
    yield roff.section(f'"{roff.literal(f"[{table.title}]" if table.title else "ABOVE THE FIRST TABLE")}"')
    yield roff.paragraph(table.meaning)
    for key in table.keys:
        yield _key(key)


def _key(key: Key) -> str:
    default = f"Default: `{key.default}`." if key.default else "No default."
    kind = f"{key.type[:1].upper()}{key.type[1:]}. {default}"
    return roff.item(key.name, key.meaning, kind) + "\n" + roff.inner_block(f"{key.name} = {key.example}")
