"""contrib/: logcheck rules against real log lines, the Grafana dashboard against the real metrics endpoint.

contrib/postfix/ has a file of its own, test_contrib_postfix.py.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from policyd.policy.decision import Decision, Reason
from policyd.protocol.request import parse_attributes
from policyd.protocol.wire import encode_request
from policyd.records.decision_line import decision_line
from tests.places import PROJECT

if TYPE_CHECKING:
    from tests.helpers.policyd_server import PolicydServer

CONTRIB = PROJECT / "contrib"

GRANTED = {Reason.CERTIFICATE_DOMAIN, Reason.SENDER_DOMAIN, Reason.RECIPIENT_DOMAIN, Reason.INCOMING}
REFUSED = set(Reason) - GRANTED - {Reason.NOT_ASKED}

CONFIGURATION = """\
[service]
listen = ["inet:127.0.0.1:{port}"]
[metrics]
listen = "inet:127.0.0.1:{metrics}"
[organizations.contoso]
accepted_domains = ["contoso.com"]
[organizations.contoso.connectors.appliance]
certificate_files = ["{certificate}"]
"""


@pytest.fixture(scope="module")
def busy(
    tmp_path_factory: pytest.TempPathFactory,
    policyd_server: Callable[..., PolicydServer],
    free_port: Callable[[], int],
) -> tuple[str, list[str]]:
    """What a server that answered, reloaded, failed to and met a broken peer shows: its metrics, its log lines."""
    config = tmp_path_factory.mktemp("contrib") / "policyd.toml"
    port, metrics = free_port(), free_port()
    certificate = PROJECT / "tests/certs/cn-only.pem"
    good = CONFIGURATION.format(port=port, metrics=metrics, certificate=certificate)
    config.write_text(good, "utf-8")
    with policyd_server(config) as server:
        assert talk(port, question(recipient="kate@contoso.com")) == b"action=OK\n\n"
        assert talk(port, question(recipient="bob@example.org")).startswith(b"action=REJECT")
        assert talk(port, question(recipient="", protocol_state="DATA")) == b"action=DUNNO\n\n"
        assert talk(port, b"nonsense\n\n") == b""
        config.write_text(good.replace("contoso.com", "contoso.org"), "utf-8")
        reload(server, "reloaded;")
        config.write_text("nonsense", "utf-8")
        reload(server, "not reloaded:")
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as page:
            exposition = page.read().decode("utf-8")
    return exposition, [re.sub(r"^<\d>", "", line) for line in server.log().splitlines()]


def question(**attributes: str) -> bytes:
    return encode_request(list({"protocol_state": "RCPT", "sender": "eve@example.com", **attributes}.items()))


def talk(port: int, data: bytes) -> bytes:
    """The answer to what was sent; nothing where the server closed."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        return connection.recv(4096)


def reload(server: PolicydServer, until: str) -> None:
    before = len(server.log())
    server.reload()
    assert until in server.wait_for_log(lambda text: until in text, since=before)


# ------------------------------------------------------------------------------------------------- logcheck


def left_by_logcheck(lines: Sequence[str], tmp_path: Path) -> list[str]:
    """What logcheck would report: it strips comments from the rules, then `grep -E --text -v -f`."""
    if shutil.which("grep") is None:
        pytest.skip("grep is not installed")
    rules = tmp_path / "rules"
    text = (CONTRIB / "logcheck/policyd.ignore").read_text("ascii").splitlines()
    rules.write_text("".join(f"{line}\n" for line in text if line.strip() and not line.startswith("#")), "ascii")
    done = subprocess.run(
        ["grep", "-E", "--text", "-v", "-f", str(rules)],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


PREFIXES = ("Nov 23 09:01:02 hub policyd[4711]: ", "2026-11-23T09:01:02.123456+01:00 hub.example.net policyd[4711]: ")


def decision_lines() -> list[str]:
    """A line for every reason, plain, odd and in monitor mode."""
    lines = []
    for sender in ("kate@contoso.com", "", 'a "b" \\ <c>@contoso.com', "böse\x1b[2J@contoso.com"):
        request = parse_attributes(
            f"request=smtpd_access_policy\nprotocol_state=RCPT\nsender={sender}\nrecipient=x@example.org\n"
            "client_address=2001:db8::1\nccert_issuer=Connector+20CA\ninstance=1f3.65\nencryption_protocol=TLSv1.3\n"
        )
        decisions = [Decision("OK", reason, "contoso", "head-office") for reason in sorted(GRANTED)]
        decisions += [
            Decision("DEFER" if reason is Reason.SUSPENDED else "REJECT", reason) for reason in sorted(REFUSED)
        ]
        lines += [decision_line(request, decision, 7) for decision in decisions]
        lines += [decision_line(request, decision, 7, monitor=True) for decision in decisions]
        lines.append(decision_line(request._replace(queue_id="4Xyz12AbCd"), decisions[0], 12))
    return lines


@pytest.mark.parametrize("prefix", PREFIXES, ids=["traditional", "iso"])
def test_logcheck_ignores_every_decision(prefix: str, tmp_path: Path) -> None:
    assert left_by_logcheck([prefix + line for line in decision_lines()], tmp_path) == []


def test_logcheck_shows_problems_of_a_running_server(busy: tuple[str, list[str]], tmp_path: Path) -> None:
    _, lines = busy
    left = left_by_logcheck([PREFIXES[0] + line for line in lines], tmp_path)
    assert len(left) < len(lines)
    told = [line.removeprefix(PREFIXES[0]) for line in left]
    problems = ("protocol error", "not reloaded", "not valid TOML", "expire", "warning:")
    assert [line for line in told if not any(problem in line for problem in problems)] == []
    for wanted in ("protocol error", "not reloaded", "not valid TOML"):
        assert any(wanted in line for line in told), f"{wanted!r} is hidden: {told}"


@pytest.mark.parametrize(
    "line",
    [
        "policyd: cannot listen on inet:127.0.0.1:10045: Address already in use",
        "policyd: not started: the configuration has errors",
        "policyd: internal error, answered with DEFER: Request()",
        "Traceback (most recent call last):",
        "NOQUEUE: action=DEFER reason=internal-error organization= connector= generation=7",
        "NOQUEUE: action=OK reason=incoming organization=x generation=7 and more",
        "policyd: listening on nothing",
    ],
)
def test_logcheck_hides_nothing_else(line: str, tmp_path: Path) -> None:
    assert left_by_logcheck([PREFIXES[0] + line], tmp_path) == [PREFIXES[0] + line]


# ------------------------------------------------------------------------------------------------- grafana

_SAMPLE = re.compile(r"^(policyd_\w+)(?:\{(.*)\})? \S+$", re.MULTILINE)
_OF_THE_TARGET = {"job", "instance"}  # labels that Prometheus adds


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONTRIB / "grafana/policyd.json").read_text("utf-8"))
    return found


def queries() -> list[tuple[str, str]]:
    """(panel's title, PromQL) of the whole dashboard."""
    return [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def exposed(exposition: str) -> dict[str, set[str]]:
    """The names of its samples, each with the names of its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in _SAMPLE.findall(exposition):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_every_query_asks_for_what_is_exposed(busy: tuple[str, list[str]]) -> None:
    samples = exposed(busy[0])
    for title, query in queries():
        names = set(re.findall(r"policyd_\w+", query))
        assert names <= samples.keys(), (title, names - samples.keys())
        labels = {label for name in names for label in samples[name]} | _OF_THE_TARGET
        matched = {
            label for inside in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)[=!]~?\"", inside)
        }
        grouped = {label for inside in re.findall(r"by \(([^)]*)\)", query) for label in re.findall(r"\w+", inside)}
        assert matched | grouped <= labels, (title, query)
        assert matched >= _OF_THE_TARGET, f"{title}: does not follow the choice of hub"


def test_everything_exposed_is_shown(busy: tuple[str, list[str]]) -> None:
    shown = {name for _, query in queries() for name in re.findall(r"policyd_\w+", query)}
    assert exposed(busy[0]).keys() - shown == set()


def test_every_refusal_is_in_one_panel() -> None:
    """Strangers or customers: the two panels share all reasons of REJECT."""
    panels: dict[Reason, list[str]] = {reason: [] for reason in REFUSED}
    for title, query in queries():
        if title.startswith("Refused:"):
            (pattern,) = re.findall(r'reason=~"([^"]*)"', query)
            for reason in Reason:
                if re.fullmatch(pattern, reason.value):  # Prometheus anchors too
                    panels[reason].append(title)
            for alternative in pattern.split("|"):
                assert any(re.fullmatch(alternative, reason.value) for reason in REFUSED), f"{alternative} is no reason"
    assert {reason: titles for reason, titles in panels.items() if len(titles) != 1} == {}


def test_queries_are_balanced() -> None:
    for title, query in queries():
        bare = re.sub(r'"[^"]*"', "", query)
        for opening, closing in ("()", "[]", "{}"):
            assert bare.count(opening) == bare.count(closing), (title, query)
        assert re.findall(r"\b(?:rate|increase)\((?![^()]*\[(?:\$__rate_interval|\d+[hm])\]\))", bare) == [], title


def test_layout() -> None:
    """Numbers are unique, panels do not overlap and fit the 24 columns, each says what it shows."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(column, line) for column in range(x, x + width) for line in range(y, y + height)}
        assert not cells & taken, panel["title"]
        assert x + width <= 24, panel["title"]
        taken |= cells
        assert panel["title"]
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(panels))) - {"__rate_interval"}
    assert used == variables
