"""What `postconf` says of a Postfix: effective parameters, smtpd services with their overrides (SPEC 7).

Runs postconf and postmap, reads the line numbers of main.cf and master.cf, and changes nothing. Knows nothing of what
is right or wrong: that is `wiring`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from policyd.postfix.text import PostconfError, PostconfMissingError, read_text

TIMEOUT = 60  # seconds for one run of postconf or postmap: a table may be a database that does not answer
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # where Postfix's programs are, also for users without them in PATH

_PARAMETER = re.compile(r"([A-Za-z0-9_]+)[ \t]*=")
_SERVICE = re.compile(r"([^#\s]\S*)[ \t]+(\S+)[ \t]")
_COLUMNS = 8  # of master.cf: name type private unprivileged chroot wakeup maxproc command
_OWN_NAME = re.compile(r"^\w+: (?:(?:warning|fatal|error): )?")


@dataclass(frozen=True, slots=True)
class Listener:
    """One service of master.cf that takes mail."""

    name: str  # as `submission/inet`
    chroot: bool
    overrides: Mapping[str, str]  # its -o settings, expanded
    line: int = 0  # of master.cf; 0: not known
    program: str = "smtpd"


@dataclass(frozen=True, slots=True)
class Postfix:
    """An instance of Postfix as postconf sees it."""

    folder: str
    parameters: Mapping[str, str]  # effective, with defaults, `$name` expanded
    services: tuple[Listener, ...]  # those of smtpd
    remarks: tuple[str, ...] = ()  # what postconf itself complained about
    lines: Mapping[str, int] = field(default_factory=dict)  # parameter -> its line in main.cf
    listeners: tuple[Listener, ...] = ()  # those of postscreen and qmqpd

    @property
    def version(self) -> tuple[int, ...]:
        """The version of Postfix, as (3, 7); that of today where postconf does not say it."""
        numbers = re.match(r"(\d+)\.(\d+)", self.parameters.get("mail_version", ""))
        return tuple(map(int, numbers.groups())) if numbers is not None else (3, 11)

    @property
    def main_cf(self) -> str:
        """The name of main.cf."""
        return os.path.join(self.folder, "main.cf")

    @property
    def master_cf(self) -> str:
        """The name of master.cf."""
        return os.path.join(self.folder, "master.cf")

    def value(self, name: str, service: Listener | None = None) -> str:
        """The value of a parameter, for one smtpd service; empty when Postfix does not know it."""
        if service is not None and name in service.overrides:
            return service.overrides[name]
        return self.parameters.get(name, "")

    def lookup(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """What a table (`type:name`) says of those of the keys that it has, asked as Postfix would.

        Raises PostconfError.
        """
        if not keys:
            return {}
        command = ["postmap", "-q", "-", "--", _direct(table)]
        output, _ = _run(command, self.folder, "\n".join(keys) + "\n", not_found=1)
        return dict(_pairs(output))

    def entries(self, table: str) -> list[tuple[str, str]]:
        """All keys and values of a table. Raises PostconfError, also where it is of a kind that cannot be listed."""
        output, _ = _run(["postmap", "-s", "--", _direct(table)], self.folder)
        return list(_pairs(output))


def _direct(table: str) -> str:
    """A table without proxymap(8), which answers a running Postfix only."""
    return table.removeprefix("proxy:")


def _pairs(output: str) -> Iterable[tuple[str, str]]:
    for line in output.split("\n"):
        key, tab, value = line.partition("\t")
        if tab:
            yield key, value.strip()


def default_folder() -> str:
    """The folder of main.cf of the Postfix that is installed here. Raises PostconfError."""
    output, _ = _run(["postconf", "-h", "config_directory"])
    return output.strip()


def read_postfix(folder: str) -> Postfix:
    """The Postfix whose main.cf and master.cf are in `folder`. Raises PostconfError."""
    if not os.path.isdir(folder):
        raise PostconfError("no such folder; name the one that holds main.cf")
    parameters, remarks = _run(["postconf", "-x"], folder)
    services, more = _run(["postconf", "-M"], folder)
    overrides, _ = _run(["postconf", "-P", "-x"], folder)
    return parse_postfix(folder, parameters, services, overrides, (*remarks, *more))


def parse_postfix(
    folder: str, parameters: str, services: str, overrides: str = "", remarks: Iterable[str] = ()
) -> Postfix:
    """A Postfix from what `postconf -x`, `-M` and `-P -x` printed."""
    values, own = parse_parameters(parameters), parse_parameters(overrides)
    lines = _lines_of(os.path.join(folder, "master.cf"), _SERVICE)
    listeners = []
    for line in services.splitlines():
        columns = line.split()
        program = os.path.basename(columns[_COLUMNS - 1]) if len(columns) >= _COLUMNS else ""
        if program not in ("smtpd", "postscreen", "qmqpd"):
            continue
        name = f"{columns[0]}/{columns[1]}"
        settings = {key.removeprefix(f"{name}/"): text for key, text in own.items() if key.startswith(f"{name}/")}
        chroot = columns[4] == "y" or (columns[4] == "-" and values.get("compatibility_level") == "0")
        listeners.append(Listener(name, chroot, settings, lines.get(name, 0), program))
    names = _lines_of(os.path.join(folder, "main.cf"), _PARAMETER)
    smtpds = tuple(listener for listener in listeners if listener.program == "smtpd")
    others = tuple(listener for listener in listeners if listener.program != "smtpd")
    return Postfix(folder, values, smtpds, tuple(dict.fromkeys(remarks)), names, others)


def parse_parameters(output: str) -> dict[str, str]:
    """`name = value` lines as a mapping."""
    pairs = (line.partition(" =") for line in output.split("\n"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _lines_of(path: str, start: re.Pattern[str]) -> dict[str, int]:
    """Where the statements of a file begin; the last one of a name counts, as for Postfix."""
    try:
        text = read_text(path)
    except PostconfError:
        return {}  # postconf has read it, or the caller has recorded output: the numbers are a courtesy
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        statement = start.match(line)
        if statement is not None:
            lines["/".join(statement.groups())] = number
    return lines


def _run(command: list[str], folder: str = "", text: str = "", not_found: int = 0) -> tuple[str, list[str]]:
    """Standard output, and the complaints. `not_found`: an exit status that is no failure when nothing is said.

    The folder goes into the environment: with `-c`, postconf of Postfix 3.10 takes $config_directory for /etc/postfix.
    """
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")
    if program is None:
        raise PostconfMissingError(f"{command[0]} is not installed here; run this where Postfix is")
    try:
        run = subprocess.run(
            command,
            executable=program,
            input=text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "LC_ALL": "C"} | ({"MAIL_CONFIG": folder} if folder else {}),
        )
    except subprocess.TimeoutExpired:
        raise PostconfError(f"{command[0]} did not answer within {TIMEOUT} s") from None
    except (OSError, ValueError) as error:
        raise PostconfError(f"{command[0]} could not be run: {error}") from None
    complaints = [_OWN_NAME.sub("", line) for line in run.stderr.decode("utf-8", "replace").splitlines()]
    if run.returncode and not (run.returncode == not_found and not complaints):
        raise PostconfError(complaints[-1] if complaints else f"{command[0]} ended with status {run.returncode}")
    return run.stdout.decode("utf-8", "replace"), complaints
