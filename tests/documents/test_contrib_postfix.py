"""contrib/postfix/: the fragments of main.cf and master.cf, and the script that writes them.

Everything happens in copies of Postfix's configuration with a queue of their own. Whether an smtpd can live with a
configuration is asked of smtpd: stand-alone (`smtpd -S`) it reads its restriction lists, greets, and ends.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.places import PROJECT

FOLDER = PROJECT / "contrib/postfix"
SCRIPT = FOLDER / "policyd-postfix-setup"
FRAGMENTS = sorted(path.name for path in FOLDER.glob("main.cf.*"))

RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
SERVICE = "unix:policyd/policyd.sock"
POLICY = (
    f"check_policy_service {{ {SERVICE}, timeout=10s, {{ default_action = 451 4.3.5 Connector policy unavailable }} }}"
)
WATCH = f"check_policy_service {{ {SERVICE}, timeout=10s, default_action=DUNNO }}"
DEBIAN = "permit_mynetworks permit_sasl_authenticated defer_unauth_destination"

BASE = """\
compatibility_level = 3.6
myhostname = hub.example.net
mydestination = hub.example.net
mynetworks = 127.0.0.0/8 [::1]/128
relay_domains = contoso.com
local_recipient_maps =
alias_maps =
"""
MASTER = """\
smtp      inet  n       -       y       -       -       smtpd
cleanup   unix  n       -       y       -       0       cleanup
"""


def why_not() -> str:
    if os.geteuid() != 0:
        return "postfix check needs root"
    if shutil.which("postfix") is None:
        return "Postfix is not installed"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@dataclass(frozen=True, slots=True)
class Configuration:
    """A Postfix configuration in a folder of its own."""

    folder: Path

    def write(self, main: str, master: str = "") -> None:
        """main.cf and master.cf anew: the base, then these lines."""
        own = f"queue_directory = {self.folder}/queue\ndata_directory = {self.folder}/data\n"
        (self.folder / "main.cf").write_text(f"{BASE}{own}{main}\n", "utf-8")
        (self.folder / "master.cf").write_text(f"{MASTER}{master}", "utf-8")
        self.age()

    def age(self) -> None:
        """Postfix waits for a second before it believes a file that was just written."""
        for name in ("main.cf", "master.cf"):
            os.utime(self.folder / name, (1e9, 1e9))

    def value(self, name: str) -> str:
        done = subprocess.run(
            ["postconf", "-c", str(self.folder), "-hx", name], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def lists(self) -> tuple[str, str]:
        return self.value(RELAY), self.value(RECIPIENT)

    def own(self) -> str:
        """All that main.cf sets."""
        command = ["postconf", "-c", str(self.folder), "-n"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def smtpd_starts(self) -> bool:
        environment = {**os.environ, "MAIL_CONFIG": str(self.folder)}
        smtpd = Path(self.value("daemon_directory")) / "smtpd"
        done = subprocess.run(
            [smtpd, "-S"], input="QUIT\r\n", env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return re.fullmatch(r"220 .*\n221 .*\n", done.stdout) is not None

    def postfix_check(self) -> int:
        command = ["postfix", "-c", str(self.folder), "check"]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}


Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def postfix(tmp_path: Path) -> Configuration:
    folder = tmp_path / "postfix"
    for name in ("", "queue", "data"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    for path in (*Path("/etc/postfix").glob("dynamicmaps.cf*"),):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    configuration = Configuration(folder)
    configuration.write(f"{RELAY} = {DEBIAN}")
    return configuration


POLICYD_TOML = """\
[service]
listen = ["unix:FOLDER/queue/policyd/policyd.sock", "inet:127.0.0.1:10045"]

[organizations.hub]
accepted_domains = ["hub.example.net"]

[organizations.contoso]
accepted_domains = ["contoso.com"]

[organizations.contoso.connectors.office]
addresses = ["203.0.113.5"]
"""


@pytest.fixture
def setup(postfix: Configuration, tmp_path: Path) -> Setup:
    """The script, on that configuration, with policyd as the judge, and not asking for its mode unless told so."""
    config, policyd = tmp_path / "policyd.toml", tmp_path / "bin/policyd"
    config.write_text(POLICYD_TOML.replace("FOLDER", str(postfix.folder)), "utf-8")
    policyd.parent.mkdir()
    policyd.write_text(f'#!/bin/sh\nexec {sys.executable} -m policyd "$@"\n', "utf-8")
    policyd.chmod(0o755)

    def run(*arguments: str, query: bool = False) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPT), "--config", str(postfix.folder), "--policyd", str(policyd)]
        command += ["--policyd-config", str(config), *([] if query else ["--no-query"]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        postfix.age()
        return done

    return run


def elements(text: str) -> list[str]:
    """A restriction list's elements; commas and blanks separate, braces hold together."""
    found = re.findall(r"(?:\{(?:[^{}]|\{[^{}]*\})*\}|[^\s,{}])+", text)
    joined: list[str] = []
    for word in found:
        if joined and re.search(r"(^| )(check_\w+|reject_rbl_client|warn_if_reject)$", joined[-1]):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return [re.sub(r"\s+", " ", element) for element in joined]


# ------------------------------------------------------------------------------------------------- fragments


def fragment(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


@pytest.mark.parametrize("name", FRAGMENTS)
def test_smtpd_lives_with_the_fragment(name: str, postfix: Configuration) -> None:
    postfix.write(f"{RELAY} = {DEBIAN}" if RELAY not in fragment(name) else "")
    with (postfix.folder / "main.cf").open("a", encoding="utf-8") as main:
        main.write(fragment(name).replace("/etc/postfix/", f"{postfix.folder}/"))
    shutil.copy(FOLDER / "header_checks", postfix.folder)
    postfix.age()
    assert postfix.smtpd_starts()
    unused = subprocess.run(["postconf", "-c", str(postfix.folder), "-n"], capture_output=True, text=True, check=True)
    assert unused.stderr == ""


def test_fragments_are_known() -> None:
    """A new fragment is looked at by the test above; a lost one would be missed."""
    stages = {"enforce", "enforce-inet", "enforce-relay-list", "monitor", "warn", "tls", "stamp"}
    assert {name.removeprefix("main.cf.") for name in FRAGMENTS} == stages


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("main.cf.enforce", ["enforce"]),
        ("main.cf.enforce-inet", ["--service", "inet:127.0.0.1:10045", "enforce"]),
        ("main.cf.enforce-relay-list", ["--list", "relay", "enforce"]),
        ("main.cf.monitor", ["monitor"]),
        ("main.cf.warn", ["warn"]),
    ],
)
def test_fragment_is_what_the_script_writes(
    name: str, arguments: Sequence[str], postfix: Configuration, setup: Setup
) -> None:
    postfix.write(
        f"{RELAY} = permit_mynetworks permit_sasl_authenticated permit_tls_clientcerts reject_unauth_destination"
    )
    done = setup("--apply", *arguments)
    assert done.returncode == 0, done.stderr
    by_script = [elements(text) for text in postfix.lists()]
    postfix.write(fragment(name))
    assert by_script == [elements(text) for text in postfix.lists()]


def test_services_of_master_cf(postfix: Configuration, setup: Setup) -> None:
    """Postfix understands them, the script finds no relay in them, and each -o is a parameter that exists."""
    postfix.write(f"{RELAY} = {DEBIAN}", fragment("master.cf.services"))
    services = subprocess.run(
        ["postconf", "-c", str(postfix.folder), "-P"], capture_output=True, text=True, timeout=60, check=True
    )
    assert services.stderr == ""
    names = {line.split("/")[0] for line in services.stdout.splitlines()}
    assert names == {"submission", "2525", "127.0.0.1:10026"}
    done = setup("enforce")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/usr/lib/postfix/postfix-pcre.so").exists(), reason="postfix-pcre is not installed")
@pytest.mark.parametrize(
    ("header", "becomes"),
    [
        (
            "X-Internal-CHANGEME-Attribution: organization=a; connector=b",
            "REPLACE X-Org-Attribution: organization=a; connector=b",
        ),
        ("x-internal-changeme-attribution: a", "REPLACE X-Org-Attribution: a"),
        ("X-Org-Attribution: forged", "IGNORE"),
        ("x-org-ATTRIBUTION : forged", "IGNORE"),
        ("X-Org-Attribution:\n folded", "IGNORE"),
        ("Subject: X-Org-Attribution: text", ""),
        ("X-Org-Attribution-Other: kept", ""),
    ],
)
def test_header_checks(header: str, becomes: str) -> None:
    done = subprocess.run(
        ["postmap", "-q", header, f"pcre:{FOLDER / 'header_checks'}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (becomes, "")


def test_one_secret_name() -> None:
    """The placeholder of the secret is the same in the table and in the text that tells how to replace it."""
    assert fragment("header_checks").count("CHANGEME") == 1
    assert 'attribution_header = "X-Internal-CHANGEME-Attribution"' in fragment("main.cf.stamp")


# ------------------------------------------------------------------------------------------------- the script: results


@dataclass(frozen=True, slots=True)
class Result:
    """main.cf's lines (and master.cf's), the arguments, and the two lists that come out."""

    main: str
    arguments: str
    relay: str
    recipient: str
    master: str = ""


OLD_PERMITS = "permit_mynetworks permit_sasl_authenticated permit_tls_clientcerts"
OLD = f"{RELAY} = {OLD_PERMITS} reject_unauth_destination"
RESULTS = {
    "Debian's, enforced": Result(
        f"{RELAY} = {DEBIAN}",
        "enforce",
        "",
        f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination",
    ),
    "Postfix's default, which is not in main.cf": Result(
        "", "enforce", "", f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination"
    ),
    "old permits go": Result(
        OLD, "enforce", "", f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination"
    ),
    "W3": Result(
        f"{RELAY} = {DEBIAN}\n{RECIPIENT} = check_client_access static:OK reject_rbl_client zen.example",
        "--list relay enforce",
        f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination",
        "check_client_access static:OK, reject_rbl_client zen.example",
    ),
    "nobody is permitted who was not": Result(
        f"{RELAY} = permit_sasl_authenticated reject_unauth_destination",
        "enforce",
        "",
        f"permit_sasl_authenticated {POLICY} reject_unauth_destination",
    ),
    "a permit in one of two lists permitted nothing": Result(
        f"{RELAY} = permit_mynetworks reject_unauth_destination\n{RECIPIENT} = reject_unauth_destination",
        "enforce",
        "",
        f"{POLICY} reject_unauth_destination",
    ),
    "refusals stay, in their place before policyd": Result(
        f"{RELAY} = permit_mynetworks reject_unauth_destination\n"
        f"{RECIPIENT} = reject_non_fqdn_recipient, permit_mynetworks, reject_unauth_destination, "
        "reject_rbl_client zen.example",
        "enforce",
        "",
        f"reject_non_fqdn_recipient permit_mynetworks reject_rbl_client zen.example {POLICY} reject_unauth_destination",
    ),
    "greylisting behind the refusal stays there": Result(
        f"{RELAY} = {DEBIAN}\n{RECIPIENT} = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination, "
        "reject_rbl_client zen.example, check_policy_service inet:127.0.0.1:10023, reject_unknown_sender_domain",
        "enforce",
        "",
        f"permit_mynetworks permit_sasl_authenticated reject_rbl_client zen.example {POLICY} reject_unauth_destination "
        "check_policy_service inet:127.0.0.1:10023 reject_unknown_sender_domain",
    ),
    "only the relay list refuses, and the other one has tables and greylisting": Result(
        f"{RELAY} = {DEBIAN}\n{RECIPIENT} = reject_non_fqdn_recipient, check_client_access static:OK, "
        "check_policy_service inet:127.0.0.1:10023",
        "enforce",
        "",
        f"reject_non_fqdn_recipient permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination "
        "check_client_access static:OK check_policy_service inet:127.0.0.1:10023",
    ),
    "greylisting behind the relay list's refusal": Result(
        f"{RELAY} = {DEBIAN} check_policy_service inet:127.0.0.1:10023",
        "--list relay enforce",
        f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination "
        "check_policy_service inet:127.0.0.1:10023",
        "",
    ),
    "a table by the name of the folder": Result(
        f"{RELAY} = {DEBIAN}\n{RECIPIENT} = check_sender_access texthash:$config_directory/senders",
        "enforce",
        "",
        f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination "
        "check_sender_access texthash:FOLDER/senders",
    ),
    "warn, where both lists refuse": Result(
        f"{RELAY} = permit_mynetworks reject_unauth_destination\n"
        f"{RECIPIENT} = permit_mynetworks reject_unauth_destination check_policy_service inet:127.0.0.1:10023",
        "warn",
        f"warn_if_reject {POLICY} permit_mynetworks reject_unauth_destination",
        f"warn_if_reject {POLICY} permit_mynetworks reject_unauth_destination "
        "check_policy_service inet:127.0.0.1:10023",
    ),
    "the list by a name": Result(
        f"my_list = permit_mynetworks, reject_unauth_destination\n{RELAY} = $my_list",
        "enforce",
        "",
        f"permit_mynetworks {POLICY} reject_unauth_destination",
    ),
    "permit_auth_destination, reject": Result(
        f"{RELAY} = permit_mynetworks permit_auth_destination reject",
        "enforce",
        "",
        f"permit_mynetworks {POLICY} reject_unauth_destination",
    ),
    "wired by hand before": Result(
        f"{RELAY} = permit_mynetworks check_policy_service {SERVICE} reject_unauth_destination",
        "enforce",
        "",
        f"permit_mynetworks {POLICY} reject_unauth_destination",
    ),
    "monitor": Result(
        OLD,
        "monitor",
        f"{WATCH} permit_mynetworks permit_sasl_authenticated permit_tls_clientcerts reject_unauth_destination",
        "",
    ),
    "monitor, where the other list refuses": Result(
        f"{RELAY} =\n{RECIPIENT} = permit_mynetworks reject_unauth_destination",
        "monitor",
        "",
        f"{WATCH} permit_mynetworks reject_unauth_destination",
    ),
    "warn": Result(
        OLD,
        "warn",
        f"warn_if_reject {POLICY} {OLD_PERMITS} reject_unauth_destination",
        "",
    ),
    "submission has lists of its own": Result(
        f"{RELAY} = {DEBIAN}",
        "enforce",
        "",
        f"permit_mynetworks permit_sasl_authenticated {POLICY} reject_unauth_destination",
        "submission inet n - y - - smtpd\n  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n",
    ),
}


@pytest.mark.parametrize("case", RESULTS.values(), ids=RESULTS.keys())
def test_result(case: Result, postfix: Configuration, setup: Setup) -> None:
    postfix.write(case.main, case.master)
    (postfix.folder / "senders").write_text("contoso.com OK\n", "utf-8")
    done = setup("--apply", *case.arguments.split())
    assert done.returncode == 0, done.stderr
    expected = [text.replace("FOLDER", str(postfix.folder)) for text in (case.relay, case.recipient)]
    assert [elements(text) for text in postfix.lists()] == [elements(text) for text in expected]
    assert postfix.smtpd_starts()


def test_data_restrictions_wait_for_nobody(postfix: Configuration, setup: Setup) -> None:
    """policyd's header holds up mail only where policyd decides; what else stands in the list stays."""
    data = "smtpd_data_restrictions"
    asking = f"check_policy_service {{ {SERVICE}, timeout=10s }}"
    postfix.write(f"{RELAY} = {DEBIAN}\n{data} = reject_unauth_pipelining, {asking}")
    for stage, element in (("monitor", WATCH), ("enforce", asking), ("warn", WATCH), ("enforce", asking)):
        assert setup("--apply", stage).returncode == 0
        assert postfix.value(data) == f"reject_unauth_pipelining, {element}", stage
    assert setup("--apply", "off").returncode == 0
    assert postfix.value(data) == "reject_unauth_pipelining"


@pytest.mark.parametrize("judge", ["", "exit 127", "exit 70", "echo '{}'; exit 78", "echo nonsense >&2; exit 64"])
def test_without_a_judge_nothing_is_done(judge: str, postfix: Configuration, setup: Setup, tmp_path: Path) -> None:
    """Whatever keeps it from telling what is wrong: it is not there, it fails, or what it says cannot be read."""
    stub = tmp_path / "stub"
    if judge:
        stub.write_text(f"#!/bin/sh\n{judge}\n", "utf-8")
        stub.chmod(0o755)
    before = postfix.files()
    done = setup("--policyd", str(stub), "--apply", "enforce")
    assert (done.returncode, postfix.files() == before) == (1, True), done.stdout


@dataclass(frozen=True, slots=True)
class Refused:
    """main.cf's lines (and master.cf's), the arguments, and what the script says is wrong."""

    main: str
    arguments: str
    problem: str
    master: str = ""


IN_RECIPIENT = f"{RELAY} =\n{RECIPIENT} ="
PORT_25 = (
    "smtp inet n - n - - smtpd\n"
    " -o smtpd_recipient_restrictions=permit_mynetworks,reject\n"
    " -o smtpd_relay_restrictions=permit_mynetworks,reject\n"
)
PORT_2525 = "2525 inet n - n - - smtpd\n -o smtpd_recipient_restrictions=reject_rbl_client,x\n"
REFUSED = {
    "any certificate before policyd": Refused(
        f"{RELAY} = permit_mx_backup reject_unauth_destination", "enforce", "[backup-before]"
    ),
    "an access table that permits": Refused(
        f"{RELAY} = check_client_access static:OK reject_unauth_destination", "enforce", "[table-permits]"
    ),
    "an access table that is not there": Refused(
        f"{RELAY} = check_client_access hash:/etc/x reject_unauth_destination", "enforce", "[table-missing]"
    ),
    "greylisting": Refused(
        f"{IN_RECIPIENT} check_policy_service inet:127.0.0.1:10023 reject_unauth_destination", "enforce", "can say OK"
    ),
    "a service with a similar name": Refused(
        f"{IN_RECIPIENT} check_policy_service {SERVICE}9 reject_unauth_destination", "enforce", "can say OK"
    ),
    "mail from strangers is not wanted": Refused(
        f"{RELAY} = permit_mynetworks reject", "enforce", "is not wanted there"
    ),
    "everybody in mynetworks": Refused(
        f"{RELAY} = {DEBIAN}\nmynetworks = 127.0.0.0/8, 0.0.0.0/0", "enforce", "[mynetworks-everybody]"
    ),
    "everybody in mynetworks, IPv6": Refused(
        f"{RELAY} = {DEBIAN}\nmynetworks = [::]/0", "monitor", "[mynetworks-everybody]"
    ),
    "a connector refused early": Refused(
        f"{RELAY} = {DEBIAN}\nsmtpd_client_restrictions = check_client_access inline:{{ 203.0.113.5=REJECT }}",
        "warn",
        "[connector-refused]",
    ),
    "no list refuses": Refused(f"{IN_RECIPIENT} permit_mynetworks", "monitor", "refuses relaying as it stands"),
    "no list refuses but in words": Refused(
        f"{IN_RECIPIENT} warn_if_reject reject_unauth_destination", "warn", "refuses relaying as it stands"
    ),
    "another smtpd relied on the relay list": Refused(f"{RELAY} = {DEBIAN}", "enforce", "[smtpd-dies]", PORT_2525),
    "port 25 has lists of its own": Refused(f"{RELAY} = {DEBIAN}", "enforce", "[not-asked]", PORT_25),
    "braces elsewhere": Refused(
        f"{RELAY} = {DEBIAN}\n"
        f"smtpd_data_restrictions = check_policy_service {{ {SERVICE}, default_action = 451 4.3.5 later }}",
        "enforce",
        "[braces]",
    ),
    "a brace that is never closed": Refused(
        f"{RELAY} = {DEBIAN}\nsmtpd_data_restrictions = check_policy_service {{ {SERVICE}, timeout=3s",
        "enforce",
        "[braces]",
    ),
    "smtpd does not start": Refused(
        f"{RELAY} = {DEBIAN}\nsmtpd_end_of_data_restrictions = check_policy_service {{ inet:[::1]:1, timeout=x }}",
        "monitor",
        "smtpd does not start",
    ),
    "a CA file that is not there": Refused(f"{RELAY} = {DEBIAN}", "--ca /no/such/file enforce", "no such file"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused(case: Refused, postfix: Configuration, setup: Setup) -> None:
    postfix.write(case.main, case.master)
    if case.master.startswith("smtp "):  # in place of the base's
        (postfix.folder / "master.cf").write_text(case.master)
        postfix.age()
    before = postfix.files()
    done = setup("--apply", *case.arguments.split())
    assert done.returncode == 1, done.stdout
    assert case.problem in done.stderr
    assert "nothing was changed" in done.stderr
    assert postfix.files() == before


def test_postfix_check_does_not_see_braces(postfix: Configuration) -> None:
    """Why the script looks itself: without the inner braces smtpd dies, and postfix check is content."""
    naked = POLICY.replace("{ default", "default").replace("able } }", "able }")
    postfix.write(f"{IN_RECIPIENT} {naked} reject_unauth_destination")
    assert postfix.postfix_check() == 0
    assert not postfix.smtpd_starts()


# ------------------------------------------------------------------------------------------------- the script: manners


def test_dry_run_changes_nothing(postfix: Configuration, setup: Setup) -> None:
    before = postfix.files()
    done = setup("enforce")
    assert done.returncode == 0
    assert f"postconf -e '{RELAY} ='" in done.stdout
    assert "nothing was changed" in done.stdout
    assert postfix.files() == before


def test_dry_run_shows_what_apply_does(postfix: Configuration, setup: Setup) -> None:
    """The commands that are shown, run by a shell, give the same main.cf."""
    commands = [line for line in setup("enforce").stdout.splitlines() if line.startswith("postconf ")]
    original = (postfix.folder / "main.cf").read_text("utf-8")
    assert setup("--apply", "enforce").returncode == 0
    applied = postfix.own()
    (postfix.folder / "main.cf").write_text(original, "utf-8")
    for command in commands:
        subprocess.run(["sh", "-c", command], env={**os.environ, "MAIL_CONFIG": str(postfix.folder)}, check=True)
    postfix.age()
    assert postfix.own() == applied


def test_idempotent(postfix: Configuration, setup: Setup) -> None:
    for stage in ("monitor", "warn", "enforce"):
        assert setup("--apply", stage).returncode == 0
        before = postfix.files()
        again = setup("--apply", stage)
        assert (again.returncode, f"nothing to change for {stage}" in again.stdout) == (0, True), again.stderr
        assert postfix.files() == before


def test_there_and_back(postfix: Configuration, setup: Setup) -> None:
    """Each stage from each other gives the same lists; `off` gives main.cf as it was; every step leaves a backup."""
    postfix.write(OLD)
    before = postfix.own()
    stages: dict[str, str] = {}
    for number, stage in enumerate(["monitor", "warn", "enforce", "monitor", "enforce", "warn", "monitor"], 1):
        done = setup("--apply", stage)
        assert done.returncode == 0, done.stderr
        assert stages.setdefault(stage, postfix.own()) == postfix.own(), stage
        assert f"stage: {stage}\n" in setup("status").stdout
        assert len(list(postfix.folder.glob("main.cf.before-*"))) >= min(number, len(stages))
    assert setup("--apply", "off").returncode == 0
    assert postfix.own() == before
    assert "stage: off\n" in setup("status").stdout
    assert not (postfix.folder / "policyd-postfix-setup.saved").exists()


def test_backup_is_the_file_before(postfix: Configuration, setup: Setup) -> None:
    before = (postfix.folder / "main.cf").read_bytes()
    (postfix.folder / "main.cf").chmod(0o640)
    assert setup("--apply", "enforce").returncode == 0
    (backup,) = postfix.folder.glob("main.cf.before-enforce.*")
    assert backup.read_bytes() == before
    assert (postfix.folder / "main.cf").stat().st_mode & 0o777 == 0o640
    assert list(postfix.folder.glob("*.new")) == []


def test_hand_edits_are_not_lost(postfix: Configuration, setup: Setup) -> None:
    assert setup("--apply", "monitor").returncode == 0
    edited = f"permit_mynetworks {WATCH} reject_unauth_destination"
    subprocess.run(["postconf", "-c", str(postfix.folder), "-e", f"{RELAY} = {edited}"], check=True)
    postfix.age()
    done = setup("--apply", "enforce")
    assert (done.returncode, "edited since" in done.stderr) == (1, True)
    assert postfix.value(RELAY) == edited
    assert setup("--apply", "--discard-edits", "enforce").returncode == 0


def test_other_edits_survive_off(postfix: Configuration, setup: Setup) -> None:
    """What the script set and somebody changed afterwards is theirs."""
    assert setup("--apply", "enforce").returncode == 0
    subprocess.run(["postconf", "-c", str(postfix.folder), "-e", "smtpd_tls_security_level = encrypt"], check=True)
    postfix.age()
    assert setup("--apply", "off").returncode == 0
    assert postfix.value("smtpd_tls_security_level") == "encrypt"
    assert postfix.value("smtpd_tls_ask_ccert") == "no"


def test_tls(postfix: Configuration, setup: Setup, tmp_path: Path) -> None:
    ca = tmp_path / "cas.pem"
    ca.write_text("-----")
    postfix.write(f"{RELAY} = {DEBIAN}\nsmtpd_tls_fingerprint_digest = md5\nsmtpd_tls_security_level = encrypt")
    done = setup("--apply", "--ca", str(ca), "enforce")
    assert "[no-hub-certificate]" in done.stdout
    names = ("security_level", "ask_ccert", "CAfile", "fingerprint_digest", "loglevel")
    assert [postfix.value(f"smtpd_tls_{name}") for name in names] == ["encrypt", "yes", str(ca), "sha256", "1"]


def test_digest_of_old_tables_stays(postfix: Configuration, setup: Setup) -> None:
    """relay_clientcerts in md5 would match nobody any more, from the first stage on."""
    postfix.write(f"{OLD}\nsmtpd_tls_fingerprint_digest = md5\nrelay_clientcerts = hash:/etc/x")
    done = setup("--apply", "monitor")
    assert (done.returncode, "stays md5" in done.stdout) == (0, True)
    assert postfix.value("smtpd_tls_fingerprint_digest") == "md5"


# ------------------------------------------------------------------------------------------------- the script: the mode

ANSWERS = {"enforcing": "echo 'REJECT 5.7.1 no'; exit 1", "watching": "echo DUNNO", "dead": "exit 69", "odd": "echo OK"}
ALLOWED = {
    ("monitor", "watching"),
    ("monitor", "dead"),  # default_action=DUNNO: nothing changes
    ("warn", "watching"),
    ("warn", "enforcing"),
    ("enforce", "enforcing"),
    *(("off", answer) for answer in ANSWERS),
}


@pytest.mark.parametrize("stage", ["monitor", "warn", "enforce", "off"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_mode_of_policyd(stage: str, answer: str, postfix: Configuration, setup: Setup, tmp_path: Path) -> None:
    """The stage must fit what the running policyd answers to a stranger."""
    stub = tmp_path / "policyd"
    judge = f'[ "$1" != check ] || exec {sys.executable} -m policyd "$@"\n'
    stub.write_text(f'#!/bin/sh\n{judge}echo "$@" >{tmp_path}/asked\n{ANSWERS[answer]}\n')
    stub.chmod(0o755)
    done = setup("--policyd", str(stub), "--service", "unix:policyd/policyd.sock", stage, query=True)
    assert done.returncode == (0 if (stage, answer) in ALLOWED else 1), done.stderr
    if stage != "off":
        asked = (tmp_path / "asked").read_text()
        assert f"query --to unix:{postfix.folder}/queue/policyd/policyd.sock" in asked


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["enforce", "off"],
        ["nonsense"],
        ["--service", "127.0.0.1:10045", "enforce"],
        ["--service", "unix:/var/run/x", "enforce"],
        ["--service", "inet:127.0.0.1:1 }, x", "enforce"],
        ["--list", "client", "enforce"],
        ["--ca", "relative.pem", "enforce"],
        ["enforce", "--service"],
    ],
)
def test_wrong_usage(arguments: Sequence[str], setup: Setup) -> None:
    done = setup(*arguments)
    assert done.returncode == 64
    assert done.stderr.startswith("policyd-postfix-setup: ")


def test_help(setup: Setup) -> None:
    """Every option and stage is told."""
    done = setup("--help")
    assert done.returncode == 0
    options = "--apply --dry-run --service --list --ca --config --policyd --no-query --discard-edits"
    for option in (*options.split(), "monitor", "warn", "enforce", "off", "status"):
        assert option in done.stdout


def test_plain_shell() -> None:
    """No bashisms: Debian's sh is dash. shellcheck, where it is installed, has nothing to say."""
    assert SCRIPT.read_text("utf-8").startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
