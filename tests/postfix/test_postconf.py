"""Reading a real Postfix, with its postconf and postmap."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.postfix.postconf import read_postfix
from policyd.postfix.restrictions import Service, parse_list
from policyd.postfix.text import PostconfError
from tests.helpers.postfix_files import write_old
from tests.helpers.programs import needs_postconf

pytestmark = needs_postconf


def test_real_postfix(tmp_path: Path) -> None:
    write_old(
        tmp_path / "main.cf",
        "# smtpd_tls_ask_ccert = no\ncompatibility_level = 3.6\nsmtpd_tls_ask_ccert = no\n"
        "smtpd_restriction_classes = ours\nours = check_policy_service { inet:127.0.0.1:10045,\n"
        "  { default_action = 451 4.3.5 Try later } }\n"
        "smtpd_recipient_restrictions =\n  permit_mynetworks\n  ours\nsmtpd_tls_ask_ccert = yes\n"
        "smtpd_tls_ask_cert = yes\nmyhostname = localhost.localdomain\n",
    )
    write_old(
        tmp_path / "master.cf",
        "smtp inet n - y - - smtpd\n# 26 inet n - y - - smtpd\n587 inet n - - - - smtpd\n"
        "  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n",
    )
    postfix = read_postfix(str(tmp_path))
    assert postfix.value("smtpd_tls_ask_ccert") == "yes"
    assert postfix.lines["smtpd_tls_ask_ccert"] == 10
    assert [(one.name, one.line) for one in postfix.services] == [("smtp/inet", 1), ("587/inet", 3)]
    assert postfix.value("smtpd_relay_restrictions", postfix.services[1]) == "permit_sasl_authenticated, reject"
    remarks = " ".join(postfix.remarks)
    assert "unused parameter: smtpd_tls_ask_cert=yes" in remarks
    assert "overriding earlier entry: smtpd_tls_ask_ccert=no" in remarks
    classes = {"ours": postfix.value("ours")}
    (_, asked) = parse_list(postfix.value("smtpd_recipient_restrictions"), classes)
    assert asked.service == Service("inet:127.0.0.1:10045", {"default_action": "451 4.3.5 Try later"})


def test_tables(tmp_path: Path) -> None:
    write_old(tmp_path / "main.cf", "compatibility_level = 3.6\nmyhostname = localhost.localdomain\n")
    write_old(tmp_path / "master.cf", "")
    write_old(tmp_path / "domains", "contoso.com x\nFabrikam.com y\n")
    postfix = read_postfix(str(tmp_path))
    table = f"texthash:{tmp_path}/domains"
    assert sorted(key.lower() for key, _ in postfix.entries(table)) == ["contoso.com", "fabrikam.com"]
    found = {"contoso.com": "x", "fabrikam.com": "y"}
    assert postfix.lookup(table, ["contoso.com", "fabrikam.com", "adatum.example"]) == found
    assert postfix.lookup(f"proxy:{table}", ["contoso.com"]) == {"contoso.com": "x"}
    assert postfix.lookup(table, ["adatum.example"]) == {}
    assert postfix.lookup(table, []) == {}
    with pytest.raises(PostconfError, match="unsupported dictionary type"):
        postfix.lookup("no-such-type:x", ["a"])
    with pytest.raises(PostconfError, match="No such file"):
        postfix.entries(f"texthash:{tmp_path}/nothing")


def test_no_main_cf(tmp_path: Path) -> None:
    with pytest.raises(PostconfError, match="No such file"):
        read_postfix(str(tmp_path))
    with pytest.raises(PostconfError, match="no such folder"):
        read_postfix(str(tmp_path / "nothing"))
