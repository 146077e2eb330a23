"""Collects what `policyd check --postfix` finds, each thing once, with its place in main.cf or master.cf (SPEC 7)."""

from __future__ import annotations

import os

from policyd.config.problems import Problem, Severity
from policyd.config.text import clean, quoted
from policyd.postfix.messages import Message, fill
from policyd.postfix.postconf import Listener, Postfix

MOST_OF_A_KIND = 25  # findings of one kind that are told one by one


class Findings:
    """What was found about one Postfix."""

    __slots__ = ("_counts", "_found", "postfix")

    def __init__(self, postfix: Postfix) -> None:
        self.postfix = postfix
        self._found: dict[Problem, None] = {}
        self._counts: dict[tuple[Severity, Message], int] = {}

    def add(
        self, severity: Severity, parameter: str, service: Listener | None, message: Message, /, **values: str
    ) -> None:
        """A finding about a parameter: where the service overrides it, else in main.cf."""
        if service is not None and parameter in service.overrides:
            file, line, subject = self.postfix.master_cf, service.line, f"service {quoted(service.name)}"
        else:
            file, line, subject = self.postfix.main_cf, self.postfix.lines.get(parameter, 0), ""
        self._add(file, line, severity, subject, message, values)

    def add_of_many(
        self, severity: Severity, parameter: str, service: Listener | None, message: Message, /, **values: str
    ) -> None:
        """As `add`, about what can be found thousands of times."""
        count = self._counts[severity, message] = self._counts.get((severity, message), 0) + 1
        if count <= MOST_OF_A_KIND:
            self.add(severity, parameter, service, message, **values)

    def add_remark(self, remark: str) -> None:
        """What postconf itself complains about: `FILE: TEXT: NAME=VALUE`, or `FILE, line NUMBER: TEXT`."""
        folder = self.postfix.folder.rstrip("/")
        file = next((name for name in ("main.cf", "master.cf") if remark.startswith(f"{folder}/{name}")), "main.cf")
        rest = remark.removeprefix(f"{folder}/{file}")
        place, _, text = rest.partition(": ") if rest.startswith((":", ", line ")) else ("", "", rest)
        number = place.removeprefix(", line ")
        line = int(number[:9]) if number.isascii() and number.isdigit() else 0
        values = {"remark": clean(text)}
        self._add(os.path.join(folder, file), line, "warning", "", Message.REMARK, values)

    def problems(self) -> list[Problem]:
        """All findings by file and line, with one more for those of which there were too many."""
        for (severity, message), count in self._counts.items():
            if count > MOST_OF_A_KIND:
                start = message.value.replace("{", "").replace("}", "")[:40]
                self.add(severity, "", None, Message.AND_MORE, count=str(count - MOST_OF_A_KIND), start=start)
        return sorted(self._found)

    def _add(
        self, file: str, line: int, severity: Severity, subject: str, message: Message, values: dict[str, str]
    ) -> None:
        printable = {name: value if value.isprintable() else clean(value) for name, value in values.items()}
        self._found[Problem(file, line, severity, subject, fill(message, printable), message.id)] = None
