"""What one command makes of a configuration, all make of it: `check`, `show`, `explain`, `serve` and the compiler.

Configurations are made, then damaged: their bytes, their structure, the files that they include, the certificates that
they name. Whatever it is, there is a verdict and never a traceback. What is accepted is served, and `show` gives a
configuration of the same meaning that `show` leaves as it is (SPEC 4, 7, 8).
"""

from __future__ import annotations

import copy
import dataclasses
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policyd.cli.common import Exit
from policyd.cli.main import parser
from policyd.config.settings import Configuration
from policyd.loading.load import load
from policyd.loading.updates import load_rules
from policyd.policy.attribution import decide
from policyd.policy.decision import action_text
from policyd.policy.model import StoredCertificate
from policyd.policy.networks import Network
from policyd.store.file import Store, rule_set
from tests.helpers.compiled import request_of
from tests.helpers.conversation import Peer
from tests.helpers.policyd_server import PolicydServer
from tests.laws.test_config import damaged
from tests.server.reload_story import PATIENCE, Manager
from tests.strategies import CERTIFICATE_FOLDER, configurations, requests, to_toml, wire

many = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
PARSER = parser()  # making it takes longer than most commands
ASKED = ["client_address=203.0.113.5", "sender=kate@contoso.com", "recipient=bob@example.org"]


def run(*arguments: str) -> tuple[int, bytes]:
    """Exit code and standard output of a command: as by `main`, but with one parser for all; errors come through."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    parsed = PARSER.parse_args(arguments)
    with redirect_stdout(out), redirect_stderr(err):
        code = int(parsed.run(parsed))
    told, complaint = (stream.buffer.getvalue() for stream in (out, err))  # type: ignore[attr-defined]
    assert b"Traceback" not in told + complaint, complaint.decode("utf-8", "replace")
    return code, told


def meaning(value: Any) -> Any:
    """A configuration without what changes nothing: the order of lists, and how a certificate's file was written."""
    if isinstance(value, Network | str):
        return str(value)
    if isinstance(value, StoredCertificate):
        return (value.certificate_fingerprints, value.names)
    if dataclasses.is_dataclass(value):
        return tuple((field.name, meaning(getattr(value, field.name))) for field in dataclasses.fields(value))
    if isinstance(value, tuple | frozenset):
        return frozenset(meaning(item) for item in value)
    return value


def verdict(path: Path) -> Configuration | None:
    """What `load` accepts, after all commands were asked whether they do, too."""
    configuration = load(str(path)).configuration
    refused = configuration is None
    assert (load_rules(str(path), Store()).configuration is None) is refused
    assert run("check", "-c", str(path))[0] == (Exit.CONFIG if refused else Exit.OK)
    explained, _ = run("explain", "-c", str(path), *ASKED)
    assert explained == Exit.CONFIG if refused else explained in (Exit.OK, Exit.REJECTED)
    code, shown = run("show", "-c", str(path))
    assert code == (Exit.CONFIG if refused else Exit.OK)
    if configuration is None:
        assert shown == b""
        before = signal.getsignal(signal.SIGHUP)
        assert run("serve", "-c", str(path)) == (Exit.CONFIG, b"")  # ends before it has a reactor
        signal.signal(signal.SIGHUP, before)
        return None
    folder = path.parent / "shown"
    folder.mkdir(exist_ok=True)
    again = folder / "again.toml"
    again.write_bytes(shown)
    found = load(str(again))
    assert found.configuration is not None, found.problems
    assert meaning(found.configuration) == meaning(configuration)
    assert run("show", "-c", str(again)) == (Exit.OK, shown)
    return configuration


# --- made -----------------------------------------------------------------------------------------------------------

SERVICES = st.fixed_dictionaries(
    {
        "service": st.fixed_dictionaries(
            {"mode": st.sampled_from(["enforce", "monitor"])},
            optional={
                "listen": st.sampled_from([["inet:localhost:10045"], ["inet:[::1]:1", "unix:/run/p"], ["systemd:p"]]),
                "unix_mode": st.sampled_from(["0660", "600"]),
                "workers": st.sampled_from([1, 2, "auto"]),
                "max_connections": st.integers(1, 1_000_000),
            },
        ),
    },
    optional={
        "log": st.fixed_dictionaries(
            {},
            optional={
                "decisions": st.sampled_from(["all", "rejects", "none"]),
                "addresses": st.sampled_from(["full", "domain"]),
                "file": st.sampled_from(["", "p.log", "/var/log/p.log"]),
            },
        ),
        "metrics": st.just({"listen": "inet:127.0.0.1:9645"}),
    },
)
made = st.builds(lambda config, service: {**service, **config}, configurations(most_organizations=4), SERVICES)


@many
@given(config=made)
def test_what_is_made_by_the_rules_is_accepted_by_all(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_text(to_toml(config), "utf-8")
    assert verdict(path) is not None, load(str(path)).problems


# --- damaged --------------------------------------------------------------------------------------------------------


@many
@given(content=damaged())
@example(content=b"")
@example(content=b'include = ["policyd.toml"]')
def test_damaged_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_bytes(content)
    verdict(path)


ODD = st.one_of(
    st.sampled_from(
        ["", "*", "*.com", ".", "a..b", "contoso.com", "*.contoso.com", "\x00", "é", "xn--0", "::/0", "-", "OK"]
    ),
    st.sampled_from(
        ["203.0.113.9", "10.0.0.0/8", "1.2.3.4-1.2.3.1", "0/0", "AB:CD", "certs/none.pem", "/", "inet:0:0"]
    ),
    st.text(max_size=6),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just([]),
    st.just({}),
)
ODD_KEYS = st.sampled_from(
    [
        *"include service log metrics policy organizations connectors partners addresses enabled workers".split(),
        *("", "a.b", "A B", "ü", "accepted_domain", "x" * 65),
    ]
)


@st.composite
def meddled(draw: st.DrawFn) -> dict[str, Any]:
    """A valid configuration in which one to three values were changed, taken out, put in, or put elsewhere."""
    config: dict[str, Any] = copy.deepcopy(draw(made))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_containers(config))
        place = draw(st.sampled_from(places))
        other = copy.deepcopy(draw(st.sampled_from(places)))
        value = draw(st.one_of(ODD, st.just(other)))
        if isinstance(place, list):
            if draw(st.booleans()):
                place.append(value if not isinstance(value, dict) else "table")
            elif place:
                place.pop()
        else:
            key = draw(st.one_of(ODD_KEYS, st.sampled_from(sorted(place)) if place else ODD_KEYS))
            if draw(st.integers(0, 3)) == 0:
                place.pop(key, None)
            else:
                place[key] = value
    return config


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _containers(item)


@many
@given(config=meddled())
def test_damaged_structure(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "policyd.toml"
    path.write_bytes(to_toml(config).encode("utf-8", "replace"))
    verdict(path)


# --- files around it ------------------------------------------------------------------------------------------------

MAIN = b'include = ["organizations.d/*.toml"]\n[policy]\nincoming = "REJECT"\n'
INCLUDED = b"""[organizations.contoso]
accepted_domains = ["contoso.com"]
[organizations.contoso.connectors.appliance]
certificate_files = ["../certs/appliance.pem"]
"""
PEM = (CERTIFICATE_FOLDER / "two-deep.pem").read_bytes()
NAMES = ("policyd.toml", "organizations.d/a.toml", "certs/appliance.pem")
BITS = [b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----", b"-----BEGIN X509 CRL-----", b"\n", b"\r", b"="]
BITS += [b"A", b"/", b"-", b"\x00", b"\xff", b'"', b"[", b"]", b"#", b"\xef\xbb\xbf", b"MIIB", b"\x30\x82"]


@st.composite
def cut_up(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some were replaced, taken out, put in, or given twice."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 7, 60, len(content)]))
        piece = content[at : at + 50] if draw(st.integers(0, 5)) == 0 else draw(st.sampled_from([b"", *BITS]))
        content = content[:at] + piece + content[at + length :]
    return content


def written(folder: Path, contents: tuple[bytes, bytes, bytes]) -> Path:
    """The three files in a folder; the name of the first."""
    for name, content in zip(NAMES, contents, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / NAMES[0]


@many
@given(contents=st.tuples(cut_up(MAIN), cut_up(INCLUDED), cut_up(PEM)))
def test_damaged_includes_and_certificates(contents: tuple[bytes, bytes, bytes], tmp_path: Path) -> None:
    verdict(written(tmp_path, contents))


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize("kind", ["missing", "a folder", "a link to itself", "a link to nothing", "a pipe", "empty"])
def test_what_is_no_file(kind: str, which: str, tmp_path: Path) -> None:
    if which == NAMES[0] and kind == "a pipe":
        return  # as of `check -c <(...)`: it waits for what comes
    path = written(tmp_path, (MAIN, INCLUDED, PEM))
    assert verdict(path) is not None
    odd = tmp_path / which
    odd.unlink()
    if kind == "a folder":
        odd.mkdir()
    elif kind.startswith("a link"):
        odd.symlink_to(odd.name if kind == "a link to itself" else "nothing")
    elif kind == "a pipe":
        os.mkfifo(odd)
    elif kind == "empty":
        odd.touch()
    accepted = verdict(path)
    assert (accepted is not None) is (kind == "empty" and which != NAMES[2])


@many
@given(content=cut_up(PEM))
@example(content=b"")
def test_any_bytes_as_a_certificate(content: bytes, tmp_path: Path) -> None:
    """`certificate` reads what a configuration may name, and its TOML is accepted with the same certificate."""
    pem, path = tmp_path / "any.pem", tmp_path / "policyd.toml"
    pem.write_bytes(content)
    path.write_text(
        '[organizations.a]\naccepted_domains = ["a.example"]\nconnectors.c.certificate_files = ["any.pem"]\n'
    )
    configuration = verdict(path)
    code, described = run("certificate", str(pem))
    assert code == (Exit.DATA if configuration is None else Exit.OK)
    run("certificate", str(pem), "--json")
    code, toml = run("certificate", str(pem), "--connector", "c", "--organization", "a")
    assert (code == Exit.OK) is (configuration is not None)
    if configuration is not None:
        path.write_bytes(b'[organizations.a]\naccepted_domains = ["a.example"]\n' + toml)
        pinned = verdict(path)
        assert pinned is not None
        (mine,), (theirs,) = (found.rules.organizations[0].connectors for found in (pinned, configuration))
        assert set(mine.public_key_fingerprints) <= theirs.stored_certificates[0].public_key_fingerprints
        assert mine.public_key_fingerprints
        assert described


# --- a server -------------------------------------------------------------------------------------------------------


class Served:
    """A running server whose configuration file is replaced again and again."""

    def __init__(self, server: PolicydServer, manager: Manager, text: str) -> None:
        self.peer = Peer(server.addresses[0])
        self.peer.socket.settimeout(PATIENCE)
        self.has_organizations = "[organizations" in text
        self._server = server
        self._manager = manager

    def reload(self, content: bytes) -> str:
        """STATUS= after a reload with this configuration."""
        self._server.config.write_bytes(content)
        self._server.reload()
        return self._manager.outcome()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    manager = Manager(folder / "notify")
    text = f'[service]\nlisten = ["inet:127.0.0.1:{free_port()}"]\n'
    path = folder / "policyd.toml"
    path.write_text(text)
    server = policyd_server(path)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", manager.address)
        server.start()
    manager.status()
    found = Served(server, manager, text)
    yield found
    found.peer.socket.close()
    server.stop()
    manager.close()
    assert "Traceback" not in server.log()


with_requests = st.one_of(
    made.flatmap(
        lambda config: st.tuples(
            st.just(to_toml(config).encode("utf-8")), st.lists(requests(config), min_size=1, max_size=5)
        )
    ),
    st.tuples(
        st.one_of(damaged(), meddled().map(lambda config: to_toml(config).encode("utf-8", "replace"))),
        st.just([{"client_address": "203.0.113.5", "sender": "kate@contoso.com", "recipient": "bob@contoso.com"}]),
    ),
)


@many
@given(case=with_requests)
def test_a_server_takes_what_load_accepts_and_answers_by_it(
    case: tuple[bytes, list[dict[str, str]]], served: Served
) -> None:
    content, asked = case
    status = served.reload(content)
    configuration = load(str(served._server.config)).configuration
    emptied = configuration is not None and served.has_organizations and not configuration.rules.organizations
    assert status.startswith("reload failed (") is (configuration is None or emptied), status
    if configuration is None or emptied:
        return
    served.has_organizations = configuration.rules.organizations != ()
    rules = rule_set(configuration.rules)
    for attributes in asked:
        values = {"request": "smtpd_access_policy", "protocol_state": "RCPT", **attributes}
        request = request_of(values)
        monitor = configuration.service.mode == "monitor"
        expected = "DUNNO" if monitor else action_text(decide(rules, request), request.sender, request.instance)
        assert served.peer.ask(wire(values)) == expected
