"""man/policyd.8 from the parsers, man/policyd.toml.5 from the table of keys, policyd-postfix-setup.8 from its usage."""

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


_SETUP = Path(__file__).resolve().parents[2] / "contrib/postfix/policyd-postfix-setup"
_TERM = re.compile(r"^  (\S(?:\S| (?! ))*)(?: {2,}(.*))?$")  # of the usage: a word, two blanks and its meaning


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
    yield ".BR policyd.toml (5),\n.BR policyd\\-postfix\\-setup (8),\n.BR postconf (5),\n.BR access (5),"
    yield ".BR systemd.service (5)"


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


def policyd_postfix_setup_8() -> str:
    """The script that wires Postfix."""
    return roff.page("policyd-postfix-setup", 8, "System administration", _policyd_postfix_setup_8())


def _policyd_postfix_setup_8() -> Iterator[str]:
    script = _SETUP.read_text("utf-8")
    usage = script.partition("<<'USAGE'\n")[2].partition("\nUSAGE\n")[0]
    head, stages, options, *prose, codes = usage.split("\n\n")
    comment = script.partition("\n# policyd-postfix-setup: ")[2].partition("\nset -eu")[0].replace("\n#", "\n")
    purpose, *description = comment.split("\n\n")
    yield roff.section("NAME")
    yield rf"policyd\-postfix\-setup \- {purpose.rstrip('.')}"
    yield roff.section("SYNOPSIS")
    words = head.removeprefix("Usage: policyd-postfix-setup ")
    yield f'.SY "{roff.literal("policyd-postfix-setup")}"\n{roff.literal(words)}\n.YS'
    yield roff.section("DESCRIPTION")
    for text in (*description, *prose):
        yield roff.paragraph(text)
    for title, items in (("STAGES", stages), ("OPTIONS", options)):
        yield roff.section(title)
        yield from _items(items)
    yield roff.section('"EXIT STATUS"')
    for entry in " ".join(codes.split()).removeprefix("Exit codes: ").rstrip(".").split("; "):
        code, _, meaning = entry.partition(" ")
        yield roff.item(code, f"{meaning[:1].upper()}{meaning[1:]}.")
    yield roff.section("EXAMPLES")
    yield roff.paragraph("What would change, then the change, and the way back:")
    command = "policyd-postfix-setup --ca /etc/postfix/connector-cas.pem"
    yield roff.block([f"{command} enforce", f"{command} --apply enforce", "policyd-postfix-setup --apply off"])
    yield roff.section("FILES")
    yield roff.item("main.cf", "Replaced in one step, with `--apply` only.")
    yield roff.item("main.cf.before-STAGE.DATE-TIME", "The one before.")
    yield roff.item("policyd-postfix-setup.saved", "What main.cf was before the first stage, for `off`.")
    yield roff.section('"SEE ALSO"')
    yield ".BR policyd (8),\n.BR policyd.toml (5),\n.BR postconf (1),\n.BR postconf (5)"


def _items(text: str) -> Iterator[str]:
    """The terms of a block of the usage, each with its meaning, which goes on in the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if match := _TERM.match(line):
            found.append((match[1], [match[2] or ""]))
        else:
            found[-1][1].append(line)
    for term, lines in found:
        yield roff.item(term, f"{' '.join(lines).strip()}.")
