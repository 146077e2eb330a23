"""One mail hub for all end-to-end tests: certificates, next hop, policyd (enforcing and watching), Postfix."""

from __future__ import annotations

import os
import pwd
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.certificates import DIGESTS, make_certificates
from tests.e2e.hub import Hub, recommended_wiring, relay_settings, write_configuration
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

QUEUE_SOCKET = "unix:policyd/policyd.sock"  # relative to the queue, as a chrooted smtpd must have it


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder that the user postfix can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def certificates(scratch: Path) -> Mapping[str, CertificateFiles]:
    return make_certificates(scratch / "certificates")


@pytest.fixture(scope="session")
def sink(free_port: Callable[[], int]) -> Iterator[Sink]:
    with Sink(free_port()) as sink:
        yield sink


@pytest.fixture(scope="session")
def services(free_port: Callable[[], int]) -> Mapping[str, str]:
    """Addresses of policy services in Postfix notation; nobody ever listens on `dead`."""
    return {name: f"inet:127.0.0.1:{free_port()}" for name in ("enforcing", "watching", "dead")}


@pytest.fixture(scope="session")
def other_service() -> Iterator[str]:
    """The address of another policy service, which says OK to everything."""

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if line == b"\n":
                    self.wfile.write(b"action=OK\n\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"inet:127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="session")
def postfix(
    free_port: Callable[[], int], services: Mapping[str, str], sink: Sink, certificates: Mapping[str, CertificateFiles]
) -> Iterator[Postfix]:
    """The hub's Postfix, not started yet: its queue folder is there for policyd's socket."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    listeners = {
        "inet": Listener(free_port(), recommended_wiring(services["enforcing"])),
        "unix": Listener(free_port(), recommended_wiring(QUEUE_SOCKET)),
        "unix-chroot": Listener(free_port(), recommended_wiring(QUEUE_SOCKET), chroot=True),
        "monitor": Listener(free_port(), recommended_wiring(services["watching"])),
        **{
            f"digest-{digest}": Listener(
                free_port(), {**recommended_wiring(services["enforcing"]), "smtpd_tls_fingerprint_digest": digest}
            )
            for digest in DIGESTS
        },
    }
    postfix = Postfix(listeners, relay_settings(sink.port, certificates))
    yield postfix
    postfix.close()


@pytest.fixture(scope="session")
def policyd(
    policyd_server: Callable[..., PolicydServer],
    postfix: Postfix,
    services: Mapping[str, str],
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[PolicydServer]:
    """policyd with mode = "enforce", on inet and on a socket in a folder of its own in the queue."""
    socket_folder = postfix.queue / "policyd"
    socket_folder.mkdir()
    os.chown(socket_folder, 0, pwd.getpwnam("postfix").pw_gid)
    socket_folder.chmod(0o2750)  # setgid: the socket gets the group postfix
    listen = [services["enforcing"], f"unix:{socket_folder}/policyd.sock"]
    with policyd_server(write_configuration(scratch / "enforce", listen, certificates)) as server:
        yield server


@pytest.fixture(scope="session")
def watching_policyd(
    policyd_server: Callable[..., PolicydServer],
    services: Mapping[str, str],
    certificates: Mapping[str, CertificateFiles],
    scratch: Path,
) -> Iterator[PolicydServer]:
    """policyd with the same organizations and mode = "monitor"."""
    config = write_configuration(scratch / "monitor", [services["watching"]], certificates, mode="monitor")
    with policyd_server(config) as server:
        yield server


@pytest.fixture(scope="session")
def hub(
    postfix: Postfix, policyd: PolicydServer, sink: Sink, certificates: Mapping[str, CertificateFiles]
) -> Iterator[Hub]:
    """The running hub; listeners inet, unix, unix-chroot, monitor, and digest-NAME for each fingerprint digest."""
    with postfix as running:
        yield Hub(running, sink, certificates)
