"""Reading Postfix: recorded output of postconf, restriction lists, and programs that are not what they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.cli.main import main
from policyd.postfix import postconf
from policyd.postfix.postconf import parse_postfix, read_postfix
from policyd.postfix.restrictions import Restriction, Service, Word, parse_list, parse_service, words
from policyd.postfix.text import PostconfError
from tests.places import TESTS

# Recorded from Postfix 3.7.11: -x (a part), -M and -P -x of one folder.
PARAMETERS = """\
compatibility_level = 3.6
ours = check_policy_service { inet:127.0.0.1:10045, timeout=10s, { default_action = 451 4.3.5 Try later } }
smtpd_recipient_restrictions = permit_mynetworks permit_sasl_authenticated ours reject_unauth_destination
smtpd_relay_restrictions =
smtpd_restriction_classes = ours, theirs
smtpd_tls_ask_ccert = no
"""
SERVICES = """\
smtp       inet  n       -       y       -       -       smtpd
submission inet  n       -       n       -       -       smtpd -o syslog_name=postfix/submission \
-o {smtpd_relay_restrictions=permit_sasl_authenticated, reject}
smtpd      pass  -       -       -       -       -       /usr/lib/postfix/sbin/smtpd
pickup     unix  n       -       y       60      1       pickup
smtp       unix  -       -       y       -       -       smtp
"""
OVERRIDES = """\
submission/inet/smtpd_relay_restrictions = permit_sasl_authenticated, reject
submission/inet/syslog_name = postfix/submission
"""


def test_recorded() -> None:
    postfix = parse_postfix("/nowhere", PARAMETERS, SERVICES, OVERRIDES, ["a", "a"])
    assert [(one.name, one.chroot) for one in postfix.services] == [
        ("smtp/inet", True),
        ("submission/inet", False),
        ("smtpd/pass", False),
    ]
    smtp, submission, _ = postfix.services
    assert postfix.value("smtpd_relay_restrictions") == postfix.value("smtpd_relay_restrictions", smtp) == ""
    assert postfix.value("smtpd_relay_restrictions", submission) == "permit_sasl_authenticated, reject"
    assert postfix.value("no_such_parameter") == ""
    assert postfix.remarks == ("a",)
    assert (postfix.main_cf, postfix.master_cf) == ("/nowhere/main.cf", "/nowhere/master.cf")


def test_chroot_by_default_before_postfix_3() -> None:
    old = parse_postfix("/nowhere", "compatibility_level = 0\n", SERVICES)
    assert [one.chroot for one in old.services] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" a,b\tc\n d ", [Word("a"), Word("b"), Word("c"), Word("d")]),
        ("x { a, { b = c d } } y", [Word("x"), Word("a, { b = c d }", True), Word("y")]),
        ("{a}{b}", [Word("{a}{b}")]),
        ("x { a", [Word("x"), Word("{ a")]),
        ("a } b", [Word("a"), Word("}"), Word("b")]),
        ("inline:{x=y}", [Word("inline:{x=y}")]),
        ("inline:{ x = y, {z = v w} } b", [Word("inline:{ x = y, {z = v w} }"), Word("b")]),
    ],
)
def test_words(text: str, expected: list[Word]) -> None:
    assert words(text) == expected


MINE = [Restriction(name, classes=("mine",)) for name in ("permit_mynetworks", "permit")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("permit_mynetworks, reject", [Restriction("permit_mynetworks"), Restriction("reject")]),
        ("PERMIT_MYNETWORKS", [Restriction("permit_mynetworks")]),
        ("check_client_access hash:/a", [Restriction("check_client_access", "hash:/a")]),
        (
            "check_client_access { hash:/a, { search_order = x } } reject",
            [Restriction("check_client_access", "hash:/a", braced=True), Restriction("reject")],
        ),
        ("check_client_access { } reject", [Restriction("check_client_access", braced=True), Restriction("reject")]),
        ("hash:/a reject", [Restriction("check_implied_access", "hash:/a"), Restriction("reject")]),
        ("reject_rbl_client x.example=127.0.0.2", [Restriction("reject_rbl_client", "x.example=127.0.0.2")]),
        ("warn_if_reject reject, reject", [Restriction("reject", only_warns=True), Restriction("reject")]),
        ("check_policy_service", [Restriction("check_policy_service", "", Service(""))]),
        ("check_policy_service unix:a", [Restriction("check_policy_service", "unix:a", Service("unix:a"))]),
        ("mine reject", [*MINE, Restriction("reject")]),
        (
            "warn_if_reject deep",
            [replace(one, only_warns=True, classes=("deep", "mine")) for one in MINE],
        ),
        ("endless", [Restriction("endless", classes=("endless",))]),
    ],
)
def test_lists(text: str, expected: list[Restriction]) -> None:
    classes = {"mine": "permit_mynetworks permit", "deep": "mine", "endless": "endless"}
    assert parse_list(text, classes) == expected


def test_what_a_restriction_does() -> None:
    found = parse_list(
        "permit_dnswl_client x, check_sender_access hash:/a, reject_unauth_destination, warn_if_reject defer, "
        "reject_unknown_client_hostname",
        {},
    )
    assert [one.permits for one in found] == [True, False, False, False, False]
    assert [one.is_table for one in found] == [False, True, False, False, False]
    assert [one.refuses_relaying for one in found] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("text", "options", "malformed"),
    [
        ("inet:127.0.0.1:10045", {}, ""),
        ("inet:127.0.0.1:10045, timeout=10s", {"timeout": "10s"}, ""),
        ("inet:127.0.0.1:10045 timeout=10s,default_action=DUNNO", {"timeout": "10s", "default_action": "DUNNO"}, ""),
        ("inet:127.0.0.1:10045, { default_action = 451 4.3.5 x }", {"default_action": "451 4.3.5 x"}, ""),
        ("inet:127.0.0.1:10045, {default_action=451 4.3.5 x}", {"default_action": "451 4.3.5 x"}, ""),
        ("inet:127.0.0.1:10045, default_action = 451 4.3.5 x", {}, "default_action"),
        ("inet:127.0.0.1:10045, default_action=451 4.3.5 x", {"default_action": "451"}, "4.3.5"),
        ("inet:127.0.0.1:10045, timeout", {}, "timeout"),
    ],
)
def test_policy_service(text: str, options: dict[str, str], malformed: str) -> None:
    assert parse_service(Word(text, True)) == Service("inet:127.0.0.1:10045", options, malformed)


def test_the_folder_is_told_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postfix 3.10 expands $config_directory wrongly where postconf has -c."""
    for program in ("postconf", "postmap"):
        (tmp_path / program).write_text(
            '#!/bin/sh\necho "folder = $MAIL_CONFIG; options $*"\nprintf "folder\\t$MAIL_CONFIG"\n'
        )
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    postfix = read_postfix(str(tmp_path))
    assert postfix.value("folder") == f"{tmp_path}; options -x"
    assert postfix.entries("hash:/x") == postfix.entries("proxy:hash:/x") == [("folder", str(tmp_path))]
    assert postfix.lookup("hash:/x", ["folder"]) == {"folder": str(tmp_path)}


def test_no_postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postconf, "SYSTEM_FOLDERS", "")
    with pytest.raises(PostconfError, match="postconf is not installed"):
        read_postfix(str(tmp_path))


def test_postconf_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "postconf").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "postconf").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postconf, "TIMEOUT", 0.1)
    with pytest.raises(PostconfError, match="did not answer"):
        read_postfix(str(tmp_path))


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("{},= \tab:\n"), max_size=60), st.dictionaries(st.sampled_from("ab"), st.text("ab {}=,"))
)
def test_any_text_is_a_list(text: str, classes: dict[str, str]) -> None:
    """Every word is a part of the text, and no list is endless."""
    assert all(word.text in text for word in words(text))
    parse_list(f"{text} check_policy_service {text}", classes)


def test_postfix_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("policyd.postfix.postconf.SYSTEM_FOLDERS", "")
    for arguments in ([], [str(tmp_path)]):
        assert main(["check", "-c", str(TESTS / "postfix_configurations/policyd.toml"), "--postfix", *arguments]) == 78
        told = capsys.readouterr().out
        assert "postconf is not installed here; run this where Postfix is" in told
        assert told.count("\n") == 2, "and the note about TCP"
