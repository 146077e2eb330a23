"""A real Postfix whose policyd is killed, stopped, flooded and reloaded: mail is deferred, never lost, never relayed.

Every message carries a token. One that Postfix took (250 after DATA) must reach the next hop exactly once for each
accepted recipient; one of a stranger for somebody outside must never be taken.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.certificates import make_certificates
from tests.e2e.hub import BRANCH, STRANGER, Hub, Mail, recommended_wiring, relay_settings, write_configuration
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Reply, Sink
from tests.faults.peers import children, connect
from tests.helpers.certificates import CertificateFiles
from tests.helpers.programs import why_no_postfix
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

OUTSIDE = "x@other.example"
RELAYED = Mail("kate@contoso.com", (OUTSIDE,), address=BRANCH)
INCOMING = Mail("john@elsewhere.example", ("kate@contoso.com",), address=STRANGER)
STRANGERS = Mail("john@elsewhere.example", (OUTSIDE,), address=STRANGER)
FORGED = Mail("kate@contoso.com", (OUTSIDE,), address=STRANGER)
MAILS = (RELAYED, STRANGERS, INCOMING, FORGED)


@dataclass(slots=True)
class Attached:
    """Postfix, its policyd, and what the senders saw."""

    hub: Hub
    server: PolicydServer
    config: Path
    accepted: dict[str, Mail] = field(default_factory=dict)  # token -> what Postfix took
    replies: list[tuple[Mail, Reply]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid

    def send(self, mail: Mail, listener: str = "inet") -> Reply:
        """One message; the reply to its recipient. `accepted` keeps it where Postfix took it."""
        token = f"fault-{next(self.numbers):05d}"
        with self.hub.client(listener, mail) as client:
            client.mail(mail.sender)
            reply = client.rcpt(mail.recipients[0])
            if reply.accepted:
                taken = client.data(f"Subject: {token}\r\n\r\nbody\r\n".encode())
                if taken.accepted:
                    self.accepted[token] = mail
            client.quit()
        self.replies.append((mail, reply))
        return reply

    def check(self) -> None:
        """Nothing lost, nothing twice, nothing of strangers."""
        self.hub.postfix.wait_until_idle()
        for token, mail in self.accepted.items():
            got = [message.recipients for message in self.hub.sink.with_token(token)]
            assert got == [mail.recipients], f"{token} of {mail}: {got}"
        assert len(self.hub.sink.messages) == len(self.accepted), "the next hop got what nobody took"
        for mail, reply in self.replies:
            if mail in (STRANGERS, FORGED):
                assert reply.code in (451, 554), f"{mail}: {reply}"
            else:
                assert reply.code in (250, 451), f"{mail}: {reply}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, CertificateFiles]:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@dataclass(frozen=True, slots=True)
class Running:
    """Postfix with its next hop, and where it looks for policyd."""

    hub: Hub
    address: str


@pytest.fixture(scope="module")
def running(free_port: Callable[[], int], certificates: Mapping[str, CertificateFiles]) -> Iterator[Running]:
    """Listeners `inet`, and `hasty`, whose smtpd waits two seconds only for an answer of policyd."""
    if reason := why_no_postfix():
        pytest.skip(reason)
    address = f"inet:127.0.0.1:{free_port()}"
    wiring = {**recommended_wiring(address), "smtpd_tls_security_level": "none"}
    hasty = {name: value.replace("timeout=10s", "timeout=2s") for name, value in wiring.items()}
    with Sink(free_port()) as sink:
        settings = {**relay_settings(sink.port, certificates), "smtpd_policy_service_retry_delay": "1s"}
        for name in ("smtpd_tls_chain_files", "smtpd_tls_CAfile"):
            del settings[name]
        listeners = {"inet": Listener(free_port(), wiring), "hasty": Listener(free_port(), hasty)}
        with Postfix(listeners, settings) as postfix:
            yield Running(Hub(postfix, sink, certificates), address)


@pytest.fixture
def attached(
    running: Running,
    policyd_server: Callable[..., PolicydServer],
    certificates: Mapping[str, CertificateFiles],
    tmp_path: Path,
) -> Iterator[Attached]:
    """A policyd of its own for each test, where the Postfix of all looks for it."""
    running.hub.postfix.wait_until_idle()
    running.hub.sink.messages.clear()
    config = write_configuration(tmp_path / "policyd", [running.address], certificates)
    server = policyd_server(config)
    server.start()
    yield Attached(running.hub, server, config)
    server.kill()


@contextlib.contextmanager
def senders(attached: Attached, count: int = 3) -> Iterator[None]:
    """Messages of all kinds from several clients at once, as long as the block lasts; errors come out at its end."""
    stop, errors = threading.Event(), []

    def run(first: int) -> None:
        number = first
        while not stop.is_set():
            try:
                attached.send(MAILS[number % len(MAILS)])
            except (OSError, AssertionError) as error:
                errors.append(error)
            number += 1

    threads = [threading.Thread(target=run, args=(first,)) for first in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    assert not errors, errors[0]


def test_kill_at_random_points(attached: Attached) -> None:
    """kill -9 and a new start, again and again, while mail comes in."""
    chance = random.Random(1)
    with senders(attached):
        for _ in range(8):
            time.sleep(chance.random() * 0.6)
            attached.server.kill()
            time.sleep(chance.random() * 0.4)
            attached.server.start()
        before = len(attached.accepted)
        until(lambda: len(attached.accepted) >= before + 4, "mail comes through after all")
    attached.check()
    assert attached.accepted
    assert any(reply.code == 554 for _, reply in attached.replies)


def test_workers_killed_at_random_points(attached: Attached) -> None:
    """One of two after the other, while mail comes in: nobody is let in, and nobody's mail is lost."""
    text = attached.config.read_text("utf-8")
    attached.server.stop()
    attached.config.write_text(text.replace("[service]\n", "[service]\nworkers = 2\n"), "utf-8")
    attached.server.start()
    until(lambda: "listening on" in attached.server.log().rpartition("stopped")[2], "both serve")
    chance = random.Random(2)
    with senders(attached):
        for _ in range(6):
            time.sleep(chance.random() * 0.5)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(children(attached.pid)), signal.SIGKILL)
        before = len(attached.accepted)
        until(lambda: len(attached.accepted) >= before + 4, "mail comes through after all")
    attached.check()
    assert any(reply.code == 554 for _, reply in attached.replies)


def test_dead_policyd_defers(attached: Attached) -> None:
    attached.server.kill()
    for mail in MAILS:
        assert attached.send(mail).code == 451
    attached.server.start()
    assert [attached.send(mail).code for mail in MAILS] == [250, 554, 250, 554]
    attached.check()


def test_stopped_in_the_middle_of_a_reload_storm(attached: Attached) -> None:
    """SIGHUP every few milliseconds with good and bad files: every answer is by whole rules."""
    good = attached.config.read_text("utf-8")
    with senders(attached, 2):
        for number in range(150):
            attached.config.write_text(good if number % 2 else good + "[broken\n", "utf-8")
            attached.server.reload()
            time.sleep(0.01)
    assert all(reply.code != 451 for _, reply in attached.replies), "a reload cost mail its answer"
    attached.check()


def test_restart_of_a_running_hub_costs_nobody_his_mail(attached: Attached) -> None:
    """SIGTERM and start: Postfix's second try finds the new one; nothing is refused for good."""
    with senders(attached, 2):
        for _ in range(4):
            time.sleep(0.3)
            attached.server.stop()
            attached.server.start()
    attached.check()
    assert attached.accepted


def test_policyd_that_hangs(attached: Attached) -> None:
    """SIGSTOP: it accepts connections and never answers. Postfix defers after its timeout; nothing is relayed."""
    attached.send(RELAYED)
    attached.server.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        for mail in (STRANGERS, RELAYED):
            assert attached.send(mail, "hasty").code == 451
    finally:
        attached.server.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    assert attached.send(RELAYED).code == 250
    assert attached.send(STRANGERS).code == 554
    attached.check()


def test_crowded_policyd(attached: Attached) -> None:
    """Somebody on the machine takes all its connections: mail is deferred until he goes, and not relayed."""
    text = attached.config.read_text("utf-8")
    attached.server.stop()
    attached.config.write_text(text.replace("[service]\n", "[service]\nmax_connections = 20\n"), "utf-8")
    attached.server.start()
    port = int(attached.server.addresses[0].rpartition(":")[2])
    crowd = []
    for _ in range(3):  # a probe that is going away may hold a place the first time
        crowd += [connect(port) for _ in range(30)]
        time.sleep(0.1)
    assert attached.send(RELAYED).code == 451
    assert attached.send(STRANGERS).code == 451
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + 60
    while attached.send(RELAYED).code != 250:
        assert time.monotonic() < deadline
    assert attached.send(STRANGERS).code == 554
    attached.check()


def test_domain_that_policyd_accepts_and_postfix_does_not_know(attached: Attached) -> None:
    """The documented hole: an OK sends its mail to default_transport, past relay_recipient_maps. With
    `incoming = "DUNNO"` Postfix's own tables refuse it."""
    organizations = attached.config.parent / "organizations.d"
    (organizations / "more.toml").write_text(
        '[organizations.more]\naccepted_domains = ["unknown-to-postfix.example"]\n', "utf-8"
    )
    attached.server.reload()
    attached.server.wait_for_log(lambda log: "reloaded; generation 2" in log)
    mail = Mail("john@elsewhere.example", ("nobody@unknown-to-postfix.example",), address=STRANGER)
    assert attached.send(mail).code == 250, "what the documentation warns of"
    text = attached.config.read_text("utf-8")
    attached.config.write_text(text.replace('incoming = "OK"', 'incoming = "DUNNO"'), "utf-8")
    attached.server.reload()
    attached.server.wait_for_log(lambda log: "reloaded; generation 3" in log)
    assert attached.send(mail).code == 554
    assert attached.send(INCOMING).code == 250
    assert attached.send(STRANGERS).code == 554


CLAIMS = (
    ('accepted_domains = ["sales.contoso.net"]', "below"),
    ('accepted_domains = ["contoso.com"]', "accepted"),
    ('accepted_domains = ["*.contoso.com"]', "accepted"),
    ('accepted_domains = ["xn--bcher-kva.example"]', "accepted"),
    ('accepted_domains = ["ｃontoso.com"]', "accepted"),
    ('accepted_domains = ["CONTOSO.com."]', "accepted"),
    ('accepted_domains = ["com"]', "below"),
    ('[organizations.evil.connectors.a]\ncertificate_names = ["mail.contoso.com"]', "contoso"),
    ('[organizations.evil.connectors.a]\ncertificate_names = ["*.x.contoso.net"]', "contoso"),
    ('[organizations.evil.connectors.a]\naddresses = ["203.0.113.0/24"]', "203.0.113"),
    ('[organizations.evil.connectors.a]\naddresses = ["::ffff:203.0.113.5"]', "203.0.113.5"),
    ('[organizations.evil.connectors.a]\naddresses = ["203.0.113.5-203.0.113.6"]', "203.0.113.5"),
    ('[organizations.evil.connectors.a]\naddresses = ["198.18.0.1"]', "198.18.0.0/15"),
    ('[organizations.evil.connectors.a]\naddresses = ["0.0.0.0/0"]', "0.0.0.0/0"),
    ('[organizations.evil.connectors.a]\naddresses = ["2002::/16"]', "2002::/16"),
)


def test_tenant_claims_what_is_anothers(attached: Attached) -> None:
    """Refused at the reload, with the place; the mail of the others goes on by the old rules."""
    path = attached.config.parent / "organizations.d" / "zz-evil.toml"
    for claim, told in CLAIMS:
        path.write_text(f"[organizations.evil]\n{claim}\n", "utf-8")
        since = len(attached.server.log())
        attached.server.reload()
        log = attached.server.wait_for_log(lambda log: "not reloaded" in log, since=since)
        assert "not reloaded" in log, f"{claim}: {log}"
        assert any("zz-evil.toml" in line and told in line for line in log.splitlines()), f"{claim}: {log}"
        assert attached.send(RELAYED).code == 250
        assert attached.send(STRANGERS).code == 554
    attached.check()
