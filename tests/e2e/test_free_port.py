"""While policyd is down, somebody else on its machine waits for Postfix's questions, and says OK to them.

The wirings are those that README and contrib/postfix tell. A user without rights, `nobody`, tries to listen where
Postfix asks: on the port, or on the socket in its queue, whose folder is as tmpfiles.d makes it.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.e2e.documented import asking_port, documented_settings
from tests.e2e.hub import STRANGER, Hub, Mail, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix
from tests.places import PROJECT

README = PROJECT / "README.md"
FRAGMENTS = PROJECT / "contrib/postfix"
SHIPPED = {
    "README": README,
    **{name: FRAGMENTS / f"main.cf.{name}" for name in ("enforce", "enforce-relay-list", "monitor", "warn")},
}
TCP = FRAGMENTS / "main.cf.enforce-inet"
MAIL = Mail("john@elsewhere.example", ("x@other.example",), address=STRANGER)

# Tells whether it listens, then says OK to whatever it is asked.
IMPOSTOR = """
import os, socket, sys
kind, where = sys.argv[1].split(":", 1)
try:
    if kind == "unix":
        try:
            os.unlink(where)
        except FileNotFoundError:
            pass
        server = socket.socket(socket.AF_UNIX)
        server.bind(where)
        os.chmod(where, 0o777)
        server.listen()
    else:
        host, _, port = where.rpartition(":")
        server = socket.create_server((host, int(port)))
except OSError as error:
    print(error, flush=True)
    sys.exit()
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    asked = b""
    while not asked.endswith(b"\\n\\n"):
        piece = connection.recv(65536)
        if not piece:
            sys.exit("the client went away")
        asked += piece
    connection.sendall(b"action=OK\\n\\n")
    connection.close()
"""


@contextmanager
def impostor(address: str) -> Iterator[str]:
    """A process of `nobody` that tries to listen there; what it said of that."""
    user = pwd.getpwnam("nobody")
    command = [sys.executable, "-c", IMPOSTOR, address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/"
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def orphaned(
    free_port: Callable[[], int], sink: Sink, certificates: Mapping[str, CertificateFiles]
) -> Iterator[tuple[Hub, Mapping[str, str]]]:
    """A hub whose policyd is down, with a listener for each document, and where each of them asks."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    listeners: dict[str, Listener] = {}
    addresses: dict[str, str] = {}
    for name, file in (*SHIPPED.items(), ("TCP", TCP)):
        settings = asking_port(documented_settings(file), free_port())
        settings = {key: value for key, value in settings.items() if key.endswith("_restrictions")}
        (addresses[name],) = set(re.findall(r"(?:inet|unix):[^\s,]+", " ".join(settings.values())))
        listeners[name] = Listener(free_port(), settings)
    postfix = Postfix(listeners, relay_settings(sink.port, certificates))
    folder = postfix.queue / "policyd"  # as systemd/tmpfiles.d has it, but for the user
    folder.mkdir()
    os.chown(folder, 0, pwd.getpwnam("postfix").pw_gid)
    folder.chmod(0o2750)
    with postfix:
        yield Hub(postfix, sink, certificates), addresses


def where(address: str, hub: Hub) -> str:
    """The address as seen from outside of Postfix's queue."""
    return address.replace("unix:", f"unix:{hub.postfix.queue}/")


@pytest.mark.parametrize("name", SHIPPED)
def test_nobody_answers_in_its_place(name: str, orphaned: tuple[Hub, Mapping[str, str]]) -> None:
    hub, addresses = orphaned
    with impostor(where(addresses[name], hub)) as said:
        delivery = hub.deliver(name, MAIL)
        assert not delivery.relayed, f"{addresses[name]}: {said}\n{delivery.transcript}"
        assert delivery.reply.startswith(("451 4.3.5", "554 5.7.1")), delivery.transcript
        assert "Permission denied" in said


def test_a_port_is_anybodys(orphaned: tuple[Hub, Mapping[str, str]]) -> None:
    """What docs/security.md says of `inet:`, and that this test would see it."""
    hub, addresses = orphaned
    with impostor(addresses["TCP"]) as said:
        assert said == "listening"
        delivery = hub.deliver("TCP", MAIL)
        assert len(delivery.relayed) == 1, delivery.transcript
