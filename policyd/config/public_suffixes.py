"""Public suffixes: names below which anybody registers domains, so that they are nobody's own (SPEC 4).

Debian's list where it is there, since the system keeps that one new, else the one of `publicsuffixlist`. Of that
library only the file is used: its objects take ten times as long to make. Read when a configuration is, never in the
request path.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from policyd.policy.names import Pattern, unicode_form

SYSTEM_LIST = Path("/usr/share/publicsuffix/public_suffix_list.dat")
_RULE = re.compile(r"^[^/\s]\S*", re.MULTILINE)  # a line up to its first blank, and no comment (publicsuffix.org/list)


@cache
def _rules() -> frozenset[str]:
    """Those of both sections of the list, as they stand there: `co.uk`, `*.ck`, `!www.ck`, names as U-labels."""
    with suppress(OSError):
        return frozenset(_RULE.findall(SYSTEM_LIST.read_text("utf-8", "replace")))
    from publicsuffixlist import PSLFILE

    return frozenset(_RULE.findall(Path(PSLFILE).read_text("utf-8")))


def is_public_suffix(pattern: Pattern) -> bool:
    """Whether a name, with or without `*.`, is one; a single label that is in no rule is none."""
    rules, name = _rules(), unicode_form(pattern.name)
    if name in rules:
        return True
    _, dot, above = name.partition(".")
    if f"*.{name}" in rules and (pattern.wildcard or not dot):
        return True
    return f"*.{above}" in rules and f"!{name}" not in rules
