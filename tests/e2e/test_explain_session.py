"""docs/explain.md, followed to the letter: from a refusal in a real Postfix's log to a connector that works.

The document's paths and commands are given stand-ins: a folder for /etc/policyd and the logs, `policyd` with that
configuration, `systemctl` that sends SIGHUP and waits for the reload, `swaks` as far as the document uses it, which
speaks to the test's Postfix as if from 198.51.100.25. Needs root and Postfix.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.e2e.hub import recommended_wiring, relay_settings
from tests.e2e.postfix import Listener, Postfix
from tests.e2e.smtp import Sink, SmtpClient
from tests.helpers.certificates import CONTOSO_KEY, CertificateFiles, make
from tests.helpers.programs import why_no_postfix
from tests.helpers.waiting import until
from tests.places import PROJECT
from tests.system.documents import matches, read_blocks

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

DOCUMENT = PROJECT / "docs" / "explain.md"
CLIENT = "198.51.100.25"


def play_swaks(words: list[str]) -> None:
    """A session up to RCPT, with the replies as swaks prints them when the session is encrypted."""
    parser = argparse.ArgumentParser()
    for option in ("--from", "--to", "--tls-cert", "--tls-key", "--quit-after"):
        parser.add_argument(option)
    parser.add_argument("--tls", action="store_true")
    given = vars(parser.parse_args(words))
    shown = None
    if given["tls_cert"]:
        pem, key = Path(given["tls_cert"]), Path(given["tls_key"])
        shown = SimpleNamespace(pem=pem, key=key)
    with SmtpClient(int(os.environ["PORT"])) as client:
        client.ehlo()
        assert client.starttls(shown).accepted  # type: ignore[arg-type]
        assert client.xclient(CLIENT).accepted
        for reply in (client.mail(given["from"].strip("<>")), client.rcpt(given["to"])):
            print(f"<~{' ' if reply.accepted else '*'} {reply.text}")
        client.quit()


SETTINGS = """\
include = ["organizations.d/*.toml"]

[service]
listen = ["{listen}"]

[log]
file = "{log}"
"""
CONTOSO = """\
[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.head-office]
certificate_names = ["mail.contoso.com"]
"""
COMMANDS = {
    "policyd": """\
case "$1" in
explain|check|replay|report) command=$1; shift; set -- "$command" -c "$ETC/policyd/policyd.toml" "$@" ;;
esac
exec "$PYTHON" -m policyd "$@"
""",
    "systemctl": """\
[ "$*" = "reload policyd" ] || exit 64
before=$(grep -c "reloaded;" "$LOG")
kill -HUP "$POLICYD"
for try in $(seq 3000); do
    [ "$(grep -c "reloaded;" "$LOG")" -gt "$before" ] && exit 0
    sleep 0.02
done
exit 1
""",
    "swaks": 'exec "$PYTHON" -m tests.e2e.test_explain_session "$@"\n',
}


def new_server_certificate(folder: Path) -> None:
    """mail.pem and mail.key: self-signed, so that Postfix does not verify it; the document shows its fingerprint."""
    make("mail.contoso.com", dns_names=("mail.contoso.com",), key=CONTOSO_KEY).write(folder, "mail")


class Session:
    """A hub of its own, and what the document's commands find on it."""

    def __init__(self, folder: Path, server: PolicydServer, postfix: Postfix, port: int) -> None:
        self.folder = folder
        self.log = folder / "log" / "policyd.log"
        self._postfix = postfix
        self._paths = {
            "/etc/policyd": f"{folder}/etc/policyd",
            "/var/log/policyd": f"{folder}/log",
            "/var/log/mail.log": str(postfix.log_file),
        }
        assert server.process is not None
        self._environment = os.environ | {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PYTHON": sys.executable,
            "ETC": f"{folder}/etc",
            "LOG": str(self.log),
            "POLICYD": str(server.process.pid),
            "PORT": str(port),
            "CLIENT": CLIENT,
            "LC_ALL": "C.UTF-8",
        }

    def run(self, script: str) -> str:
        """What the script prints; the logs have caught up with it when it returns."""
        for path, ours in self._paths.items():
            script = script.replace(path, ours)
        decisions, done = self._decisions(), 0
        run = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.folder / "work",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, f"{script}\n{run.stdout}"
        if "swaks" in script:
            done = len(re.findall(r"^swaks", script, re.MULTILINE))
            self._until(lambda: self._decisions() >= decisions + done)
            refused = self.log.read_text("ascii").rstrip().rpartition("\n")[2]
            if "action=REJECT" in refused:
                instance = refused.split("instance=")[1].split(" ")[0]
                self._until(lambda: f"(ref {instance})" in self._postfix.log())
        printed = run.stdout
        for path, ours in self._paths.items():
            printed = printed.replace(ours, path)
        return printed

    def _decisions(self) -> int:
        return self.log.read_text("ascii").count(": action=")

    def _until(self, done: Callable[[], bool]) -> None:
        until(done, lambda: self.log.read_text("ascii") + self._postfix.log())


@pytest.fixture(scope="module")
def session(
    free_port: Callable[[], int],
    policyd_server: Callable[..., PolicydServer],
    certificates: Mapping[str, CertificateFiles],
    sink: Sink,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Session]:
    if reason := why_no_postfix():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("session")
    for name in ("bin", "work", "log", "etc/policyd/organizations.d"):
        (folder / name).mkdir(parents=True)
    for name, script in COMMANDS.items():
        command = folder / "bin" / name
        command.write_text(f"#!/bin/sh\n{script}")
        command.chmod(0o755)
    new_server_certificate(folder / "work")
    listen = f"inet:127.0.0.1:{free_port()}"
    config = folder / "etc/policyd/policyd.toml"
    config.write_text(SETTINGS.format(listen=listen, log=folder / "log" / "policyd.log"))
    (config.parent / "organizations.d" / "contoso.toml").write_text(CONTOSO)
    port = free_port()
    listeners = {"smtp": Listener(port, recommended_wiring(listen))}
    settings = {**relay_settings(sink.port, certificates), "relay_domains": "contoso.com"}
    with policyd_server(config) as server, Postfix(listeners, settings) as postfix:
        yield Session(folder, server, postfix, port)


def test_the_session(session: Session) -> None:
    blocks = read_blocks(DOCUMENT)
    assert len(blocks) >= 10
    for block in blocks:
        printed = session.run(block.script)
        assert matches(block.expected, printed) or not block.expected, (
            f"{block.name}\n{block.script}\n--- printed\n{printed}\n--- the document\n{block.expected}"
        )


def test_the_document_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCUMENT.read_text("utf-8")):
        assert (DOCUMENT.parent / target).exists(), target


def test_the_document_names_every_kind_of_proposal() -> None:
    text = DOCUMENT.read_text("utf-8")
    for kind in ("configuration", "sender", "postfix"):
        assert f"`{kind}`" in text


if __name__ == "__main__":
    play_swaks(sys.argv[1:])
