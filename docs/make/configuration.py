"""docs/reference/configuration.md: every key, from policyd/config/keys.py."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.config.keys import TABLES, Key, Table

_TITLE = """\
# policyd.toml

<!-- Made by `python docs/make`: change policyd/config/keys.py, not this file. -->

Errors, warnings and what keys mean together: [section 4](../specification.md#4-configuration) of the specification.
"""
HEAD = """\
policyd reads `/etc/policyd/policyd.toml`, or the file that `-c` names, and the files that it includes. They are TOML
in UTF-8. `policyd check` reports every mistake in all of them at once, each with its line; the server takes no
configuration with a mistake, at start or on reload. An unknown key is a mistake. `policyd show` prints what the files
say together, `contrib/policyd.toml` is an example with every key. Editors that know
JSON Schema complete and check keys by `contrib/policyd.schema.json`, named in a first line `#:schema ` and its path.

Relative file names start from the folder of the file that names them. Domains may be written in any letter case, with
or without a final dot, as A-labels or in their own script. IPv4-mapped IPv6 addresses are IPv4 addresses.

Whoever writes these files is trusted with the verification of domains: a control panel must not let a customer write
`accepted_domains` itself.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_TITLE, HEAD, *(_section(table) for table in TABLES)])


def _section(table: Table) -> str:
    title = f"[{table.title}]" if table.title else "Above the first table"
    return "\n".join([f"## {title}\n", f"{table.meaning}\n", *(line for key in table.keys for line in _entry(key))])


def _entry(key: Key) -> Iterator[str]:
    default = f"Default: `{key.default}`." if key.default else "No default."
    yield f"### {key.name}\n"
    yield f"{key.meaning}\n"
    yield f"Type: {key.type}. {default}\n"
    yield f"```toml\n{key.name} = {key.example}\n```\n"
