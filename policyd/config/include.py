"""Which files an include pattern means (SPEC 4): as a shell would expand it, but nothing goes unsaid.

The standard library's glob skips folders that it may not read; here that is an error, since the organizations in
them would silently be gone.
"""

from __future__ import annotations

import os
import re
from fnmatch import translate

from policyd.config.messages import Message
from policyd.config.problems import Report, Source
from policyd.config.text import clean, did_you_mean, quoted

_MAGIC = re.compile(r"[*?[]")


def included_files(main: Source, patterns: tuple[str, ...], report: Report) -> list[str]:
    """The files that the patterns of `main` match, each once, in the order of patterns and names."""
    files: dict[str, None] = {}
    for index, pattern in enumerate(patterns):
        path = ("include", index)
        if "\0" in pattern or not pattern:
            report.error(path, Message.INCLUDE_NO_MATCH, pattern=quoted(pattern), hint="")
            continue
        before = report.errors
        matches = _expand(os.path.join(main.folder, pattern), path, pattern, report)
        if not matches and report.errors == before:
            hint = _hint(main.folder, pattern)
            if _may_be_empty(main.folder, pattern):
                report.warning(path, Message.INCLUDE_NO_MATCH_YET, pattern=quoted(pattern), hint=hint)
            else:
                report.error(path, Message.INCLUDE_NO_MATCH, pattern=quoted(pattern), hint=hint)
        for match in matches:
            if _is_same(match, main.file):
                report.error(path, Message.INCLUDE_ITSELF, pattern=quoted(pattern))
            else:
                files[match] = None
    return list(files)


def _expand(pattern: str, path: tuple[str | int, ...], written: str, report: Report) -> list[str]:
    """The existing paths that `pattern` matches, in the order of their names."""
    paths = ["/"] if pattern.startswith("/") else [""]
    for part in filter(None, pattern.split("/")):
        if not _MAGIC.search(part):
            paths = [os.path.join(folder, part) for folder in paths]
            paths = [name for name in paths if _exists(name, path, written, report)]
            continue
        matches = re.compile(translate(part)).match
        deeper = []
        for folder in paths:
            names = _names_in(folder, path, written, report)
            deeper += [
                os.path.join(folder, name)
                for name in sorted(names)
                if matches(name) and (part.startswith(".") or not name.startswith("."))
            ]
        paths = [name for name in deeper if _exists(name, path, written, report)]
    return paths


def _exists(name: str, path: tuple[str | int, ...], written: str, report: Report) -> bool:
    try:
        os.lstat(name)
        return True
    except OSError as error:
        if isinstance(error, PermissionError):
            _unreadable(os.path.dirname(name), error, path, written, report)
        return False


def _names_in(folder: str, path: tuple[str | int, ...], written: str, report: Report) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            _unreadable(folder, error, path, written, report)
        return []


def _unreadable(folder: str, error: OSError, path: tuple[str | int, ...], written: str, report: Report) -> None:
    reason = clean(error.strerror or str(error))
    report.error(path, Message.INCLUDE_FOLDER, pattern=quoted(written), folder=quoted(folder or "."), reason=reason)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _may_be_empty(folder: str, pattern: str) -> bool:
    """Whether a hub could begin so: an asterisk in a folder that is there. A file that is named must be there."""
    above, name = os.path.split(os.path.join(folder, pattern))
    while _MAGIC.search(above):
        above, name = os.path.split(above)
    return _MAGIC.search(name) is not None and os.path.isdir(above or ".")


def _hint(folder: str, pattern: str) -> str:
    above = os.path.dirname(os.path.join(folder, pattern))
    if above and not _MAGIC.search(above) and not os.path.isdir(above):
        siblings = os.path.dirname(above) or "."
        try:
            with os.scandir(siblings) as entries:
                near = did_you_mean(os.path.basename(above), [entry.name for entry in entries if entry.is_dir()])
        except OSError:
            near = ""
        return f" (there is no folder {quoted(above)}{near})"
    return f" (relative patterns start from {quoted(folder or '.')})"
