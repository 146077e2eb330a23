"""What the tests of reloads under load share: rule sets that any mix would betray, peers that never stop asking, and
the service manager's end of sd_notify.

Written from SPEC 3.4, 5, 6 and 8. The answers in EXPECTED are worked out by hand, not by policyd.
"""

from __future__ import annotations

import ctypes
import os
import queue
import random
import re
import select
import shutil
import socket
import threading
from pathlib import Path
from typing import Final

from tests.helpers.conversation import Peer, question
from tests.strategies import CERTIFICATE_FOLDER, FILE_DIGESTS

PATIENCE = 60.0  # seconds for anything that must come: a loaded machine is slow
MANY = 10_000  # organizations of the rule set "big"
PEM = "cn-only.pem"

# --- the rule sets --------------------------------------------------------------------------------------------------
#
# "red" and "blue" give the same addresses and domains to other organizations: whoever matched the connectors of the one
# against the domains of the other would answer 0 and 1 as neither does (1 would even be OK).

RED = """
[organizations.north]
accepted_domains = ["north.example"]
connectors.office.addresses = ["203.0.113.7"]
connectors.appliance.certificate_files = ["../appliance.pem"]

[organizations.south]
accepted_domains = ["south.example"]
"""
BLUE = """
[organizations.north]
accepted_domains = ["south.example"]
connectors.gate.addresses = ["203.0.113.8"]

[organizations.south]
accepted_domains = ["north.example"]
connectors.office.addresses = ["203.0.113.7"]

[organizations.west]
accepted_domains = ["west.example"]
"""
GREEN = '[organizations.last]\naccepted_domains = ["west.example"]\n'


def big() -> str:
    """RED, and 10,000 organizations more."""
    return RED + "".join(
        f'[organizations.o{n}]\naccepted_domains = ["o{n}.example"]\n'
        f'connectors.office.addresses = ["10.{n // 250}.{n % 250}.1"]\n'
        for n in range(MANY)
    )


ELSEWHERE: Final = "x@elsewhere.example"
PROBES = (
    {"client_address": "203.0.113.7", "sender": "a@north.example", "recipient": ELSEWHERE},
    {"client_address": "203.0.113.7", "sender": "a@south.example", "recipient": ELSEWHERE},
    {"client_address": "203.0.113.8", "sender": "a@south.example", "recipient": ELSEWHERE},
    {
        "client_address": "198.51.100.9",
        "ccert_pubkey_fingerprint": FILE_DIGESTS[PEM]["sha256"][1].upper(),
        "sender": "a@north.example",
        "recipient": ELSEWHERE,
    },
    {"client_address": "198.51.100.9", "sender": "", "recipient": "x@west.example"},
    {"client_address": "10.30.77.1", "sender": "a@o7577.example", "recipient": ELSEWHERE},
)
Answer = tuple[str, str, str, str]  # action, reason, organization, connector
NOBODY: Answer = ("REJECT", "no-connector", "", "")
_RED: tuple[Answer, ...] = (
    ("OK", "sender-domain", "north", "office"),
    ("REJECT", "not-your-domain", "north", "office"),
    NOBODY,
    ("OK", "sender-domain", "north", "appliance"),
    NOBODY,
    NOBODY,
)
EXPECTED: dict[str, tuple[Answer, ...]] = {
    "red": _RED,
    "blue": (
        ("OK", "sender-domain", "south", "office"),
        ("REJECT", "not-your-domain", "south", "office"),
        ("OK", "sender-domain", "north", "gate"),
        ("REJECT", "certificate-untrusted", "", ""),
        ("OK", "incoming", "west", ""),
        NOBODY,
    ),
    "big": (*_RED[:5], ("OK", "sender-domain", "o7577", "office")),
    "green": (
        NOBODY,
        NOBODY,
        NOBODY,
        ("REJECT", "certificate-untrusted", "", ""),
        ("OK", "incoming", "last", ""),
        NOBODY,
    ),
}
COUNTS = {
    "red": "2 organizations, 2 connectors",
    "blue": "3 organizations, 2 connectors",
    "big": f"{MANY + 2} organizations, {MANY + 2} connectors",
    "green": "1 organization, 0 connectors",
}
# What must not come into force, and what STATUS= says of it.
BAD = {
    "broken TOML": "1 error in the configuration",
    "broken include": "1 error in the configuration",
    "include gone": "1 error in the configuration",
    "pipe among the includes": "1 error in the configuration",  # reading it would never end
    "certificate gone": "1 error in the configuration",
    "unknown keys": "2 errors in the configuration",
    "no organization": "the new configuration has no organization at all",
}


class Files:
    """A configuration of a main file, one included file and a certificate, in a folder of its own."""

    def __init__(self, folder: Path, address: str, service: str = "") -> None:
        self.main = folder / "policyd.toml"
        self.rules = folder / "rules" / "all.toml"
        self._pipe = folder / "rules" / "pipe.toml"
        self._certificate = folder / "appliance.pem"
        self._text = f'include = ["rules/*.toml"]\n[service]\nlisten = ["{address}"]\n{service}\n'
        self._big = big()
        self.rules.parent.mkdir()
        self.write("red")

    def write(self, state: str) -> None:
        """Puts all files into one of the states of EXPECTED or BAD."""
        rules = {"blue": BLUE, "big": self._big, "green": GREEN, "no organization": "# none\n"}.get(state, RED)
        if state == "broken include":
            rules = RED[: RED.index('example"]')]
        elif state == "unknown keys":
            rules = RED.replace("accepted_domains", "accepted_domain")
        _replace(self.main, self._text.replace("]", "", 1) if state == "broken TOML" else self._text)
        _replace(self.rules, rules)
        self._pipe.unlink(missing_ok=True)
        if state == "pipe among the includes":
            os.mkfifo(self._pipe)
        if state == "include gone":
            self.rules.unlink()
        if state == "certificate gone":
            self._certificate.unlink(missing_ok=True)
        elif not self._certificate.exists():
            shutil.copyfile(CERTIFICATE_FOLDER / PEM, self._certificate)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    os.replace(new, path)


class Reading:
    """Tells when somebody has opened a file for reading and closed it again (inotify(7))."""

    _CLOSE_NOWRITE = 0x10

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init()
        assert libc.inotify_add_watch(self._descriptor, os.fsencode(path), self._CLOSE_NOWRITE) > 0

    def wait(self) -> None:
        """Returns when it has been read; fails when it is not in time."""
        readable, _, _ = select.select([self._descriptor], [], [], PATIENCE)
        os.close(self._descriptor)
        assert readable, "nobody read it"


# --- who asks -------------------------------------------------------------------------------------------------------


class Asker(threading.Thread):
    """One connection that asks all PROBES again and again, a batch at once, until it is told to stop.

    Instances are `N.BATCH.COPY.PROBE`; the bytes of a batch are cut at random places. `answers` are the actions in the
    order of their arrival, `asked` the instances in the order of asking.
    """

    def __init__(self, number: int, address: str) -> None:
        super().__init__(daemon=True)
        self.asked: list[str] = []
        self.answers: list[str] = []
        self.batches = 0
        self.failure = ""
        self.stayed_open = False
        self._number = number
        self._address = address
        self._enough = threading.Event()

    def run(self) -> None:
        """Asks; anything that breaks the conversation is kept as `failure`."""
        cut = random.Random(self._number)
        try:
            with Peer(self._address) as peer:
                peer.socket.settimeout(PATIENCE)
                while not self._enough.wait(0.02):  # some thousand requests a second in all: the log stays small
                    instances = [
                        f"{self._number}.{self.batches}.{copy}.{n}" for copy in range(2) for n in range(len(PROBES))
                    ]
                    batch = b"".join(question(**PROBES[n % len(PROBES)], instance=i) for n, i in enumerate(instances))
                    self.asked += instances
                    peer.send(batch, piece=cut.choice([0, 0, 4096, 1500, cut.randint(100, 900)]))
                    self.answers += peer.replies(len(instances))
                    self.batches += 1
                self.stayed_open = peer.is_open()
        except (OSError, AssertionError, ValueError) as error:
            self.failure = repr(error)

    def finish(self) -> None:
        """Asks no more; returns when the last batch is answered."""
        self._enough.set()
        self.join(PATIENCE)


# --- what systemd is told -------------------------------------------------------------------------------------------


class Manager:
    """The service manager: takes every notification as it comes."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._told: queue.Queue[dict[str, str]] = queue.Queue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(65536):
            self._told.put(dict(line.split("=", 1) for line in data.decode().split("\n")))

    def next(self) -> dict[str, str]:
        """The next notification but for WATCHDOG=1, which comes when it likes."""
        while "WATCHDOG" in (said := self._told.get(timeout=PATIENCE)):
            continue
        return said

    def is_quiet(self) -> bool:
        """Whether nothing has come since."""
        return self._told.empty()

    def outcome(self) -> str:
        """The STATUS= with which the next reload ends."""
        assert self.next().get("RELOADING") == "1"
        return self.status()

    def status(self) -> str:
        """STATUS= of the next notification, which says READY=1."""
        said = self.next()
        assert said.get("READY") == "1", said
        return said["STATUS"]

    def until_the_end(self) -> list[dict[str, str]]:
        """All that comes up to STOPPING=1."""
        found = [self.next()]
        while "STOPPING" not in found[-1]:
            found.append(self.next())
        return found

    def close(self) -> None:
        """Ends the listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._socket.close()


# --- what was logged ------------------------------------------------------------------------------------------------

_DECISION = re.compile(
    r"<[46]>NOQUEUE: action=(\w+) reason=([\w-]+) organization=(\w*) connector=(\w*) "
    r".* instance=([\d.]+) generation=(\d+)"
)


def logged(log: str) -> dict[str, tuple[Answer, int]]:
    """Instance of an Asker: what was decided, and by which generation. No request may be logged twice."""
    found: dict[str, tuple[Answer, int]] = {}
    for line in log.splitlines():
        match = _DECISION.fullmatch(line)
        if match:
            action, reason, organization, connector, instance, generation = match.groups()
            assert instance not in found, f"logged twice: {line}"
            found[instance] = ((action, reason, organization, connector), int(generation))
    return found
