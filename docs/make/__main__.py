"""Writes every page that is made from the program itself, or with --check says which of them have not been.

    python docs/make            after a change of keys, options, reasons, metrics or log lines
    python docs/make --check    exits with 1 and the names of the pages that differ; a test runs it

The pages are checked in: they are read on a forge, and built into packages, without running this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import commands
import completion
import configuration
import decision
import findings
import log
import manual
import metrics
import reasons
import schema
import specification

PROJECT = Path(__file__).resolve().parents[2]
PAGES: dict[str, Callable[[], str]] = {
    "docs/decision.svg": decision.picture,
    "docs/specification.md": specification.page,
    "docs/reference/configuration.md": configuration.page,
    "docs/reference/commands.md": commands.page,
    "docs/reference/reasons.md": reasons.page,
    "docs/reference/findings.md": findings.page,
    "docs/reference/metrics.md": metrics.page,
    "docs/reference/log.md": log.page,
    "man/policyd.8": manual.policyd_8,
    "man/policyd.toml.5": manual.policyd_toml_5,
    "man/policyd-postfix-setup.8": manual.policyd_postfix_setup_8,
    "contrib/policyd.schema.json": schema.page,
    "contrib/completion/policyd": completion.bash,
    "contrib/completion/_policyd": completion.zsh,
    "contrib/completion/policyd.fish": completion.fish,
}


def main(arguments: list[str]) -> int:
    """Writes or checks."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 64
    differ = [name for name, make in PAGES.items() if _text(PROJECT / name) != make()]
    for name in differ:
        print(name)
        if not arguments:
            path = PROJECT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAGES[name](), "utf-8")
    return 1 if arguments and differ else 0


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
