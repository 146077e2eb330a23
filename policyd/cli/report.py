"""`policyd report`: the digest of a decision log for the people who run the hub (SPEC 7)."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from policyd.cli.common import Exit, add_configuration, configuration_or_complain, printable, say
from policyd.cli.progress import Progress
from policyd.explain.digest import About, Digest, Seen, UnknownCertificate
from policyd.explain.foremost import foremost
from policyd.explain.telling import toml_of
from policyd.explain.third_parties import unusable_address
from policyd.policy.decision import SENTENCES, Reason
from policyd.policy.networks import parse_address
from policyd.records.inputs import opened, reason_of
from policyd.records.recorded import read_decisions

_HELP = "what a decision log tells of each organization"
_DESCRIPTION = "Sums up decision logs: refusals, servers that look forgotten, connectors that nobody uses."
_EPILOG = """\
For each organization: what was refused and why, addresses that use its sender domains and are not registered,
certificates that were shown and are not registered (with TOML to paste, if they are its own), connectors that were not
used. Users who had logged in are no servers that were forgotten, nor, with --postfix, are hosts of mynetworks. Where
more than 20 organizations have something to tell, the ten things that are most worth looking at stand for all of it;
--all prints the rest.

Times come from what stands before each line: policyd's own in a log file, else journald's or syslog's.

Exit codes: 0; 64 no LOG, --days is negative, or there is no such organization; 65 a log cannot be read; 69 Postfix's
configuration cannot be read; 78 the configuration has errors.

Examples:
  journalctl -u policyd -o short-iso --since -30d | policyd report -
  policyd report --postfix /var/log/policyd/policyd.log
  policyd report --days 90 --organization contoso /var/log/mail.log /var/log/mail.log.1.gz
"""

_GATEWAY = ("address", "decisions", "why")
_ROWS = 20  # of each table
_ORGANIZATIONS = 20  # that are told of one by one
_FOREMOST = 10  # things of all of them, where they are more


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `policyd report`."""
    parser = subparsers.add_parser("report", help=_HELP, description=_DESCRIPTION, epilog=_EPILOG)
    add_configuration(parser)
    parser.add_argument("--days", type=int, default=30, metavar="N", help="without use for so long (default: 30)")
    parser.add_argument("--organization", metavar="NAME", help="this one only")
    parser.add_argument("--all", action="store_true", help="every organization, however many they are")
    parser.add_argument(
        "--postfix",
        metavar="DIR",
        nargs="?",
        const="",  # ask postconf
        help="leave hosts of mynetworks out of the servers that look forgotten, by the Postfix configuration in DIR "
        "(default: the one of the installed Postfix)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("files", nargs="*", metavar="LOG", help="a decision log, compressed or not; - is stdin")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, now: datetime | None = None) -> int:
    """Reports; exit code 65 when a log could not be read."""
    from policyd.postfix.text import PostconfError
    from policyd.store.file import rule_set

    if arguments.postfix and not os.path.isdir(arguments.postfix):  # a log, behind --postfix without DIR
        arguments.files.insert(0, arguments.postfix)
        arguments.postfix = ""
    if not arguments.files:
        say("policyd report: name a decision log; - is standard input")
        return Exit.USAGE
    if arguments.days < 0:
        say("policyd report: --days cannot be negative")
        return Exit.USAGE
    configuration = configuration_or_complain(arguments.config)
    if configuration is None:
        return Exit.CONFIG
    names = {organization.name for organization in configuration.rules.organizations}
    if arguments.organization is not None and arguments.organization not in names:
        say(f'policyd report: there is no organization "{arguments.organization}"')
        return Exit.USAGE
    try:
        passes = _passes(arguments.postfix)
    except PostconfError as error:
        say(f"policyd report: {error}")
        return Exit.UNAVAILABLE
    rules = rule_set(configuration.rules)
    digest = Digest(rules, configuration.provider, arguments.days, now or datetime.now(UTC), passes)
    failed = not _read(arguments.files, digest)
    organizations = [about for about in digest.finish() if arguments.organization in (None, about.name)]
    if arguments.json:
        print(json.dumps(_data(digest, organizations, arguments.days), indent=2))
    else:
        for line in _lines(digest, organizations, arguments.days, arguments.all):
            print(printable(line))
    return Exit.DATA if failed else Exit.OK


def _passes(folder: str | None) -> Callable[[str], bool]:
    """Whether Postfix lets an address pass before policyd. Raises PostconfError."""
    if folder is None:
        return lambda _: False
    from policyd.imports.found import ImportFailedError
    from policyd.imports.mynetworks import Hosts
    from policyd.policy.networks import parse_address
    from policyd.postfix.postconf import default_folder, read_postfix
    from policyd.postfix.text import PostconfError

    postfix = read_postfix(folder or default_folder())
    try:
        hosts = Hosts(postfix.value("mynetworks"), postfix)
    except ImportFailedError as error:
        raise PostconfError(str(error)) from None

    @lru_cache(maxsize=65536)
    def passes(client: str) -> bool:
        address = parse_address(client)
        return address is not None and address in hosts

    return passes


def _read(files: list[str], digest: Digest) -> bool:
    """Takes all logs in; whether each could be read."""
    progress = Progress(lambda: f"{digest.decisions:,} decisions")
    well = True
    for file in files:
        before = digest.decisions
        try:
            with progress, opened(file, progress.reading) as stream:
                for logged in read_decisions(stream):
                    digest.add(logged)
                    progress.step()
        except (OSError, EOFError) as error:
            well = False
            say(f"policyd report: cannot read {file}: {reason_of(error)}")
            continue
        if digest.decisions == before:
            say(f"policyd report: {file} holds no decisions of policyd")
    return well


def _by_count(item: tuple[Any, Seen]) -> tuple[int, str]:
    return -item[1].count, str(item[0])


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"


# ------------------------------------------------------------------------------------------- as JSON


def _data(digest: Digest, organizations: list[About], days: int) -> dict[str, Any]:
    return {
        "decisions": digest.decisions,
        "first": None if digest.first is None else digest.first.isoformat(),
        "last": None if digest.last is None else digest.last.isoformat(),
        "days": days,
        "not_told_apart": digest.not_told_apart,
        "gateway": None if digest.gateway is None else dict(zip(_GATEWAY, digest.gateway, strict=True)),
        "logged_in": digest.logged_in,
        "passed_by_postfix": digest.passed,
        "strangers_refused": dict(digest.strangers),
        "organizations": [
            {
                "organization": about.name,
                "refused": dict(about.refused),
                "unknown_addresses": [
                    {"address": address, **_seen(seen)}
                    for address, seen in sorted(about.addresses.items(), key=_by_count)
                ],
                "unknown_certificates": [
                    {
                        "name": seen.name,
                        "issuer": seen.issuer,
                        "verified": seen.verified,
                        "public_key_fingerprint": seen.key,
                        "addresses": seen.addresses,
                        **_seen(seen),
                        "toml": toml_of(seen.change),
                        "not_proposed": seen.barrier,
                    }
                    for _, seen in sorted(about.certificates.items(), key=_by_count)
                ],
                "unused_connectors": [
                    {"connector": name, "last": None if last is None else last.isoformat()}
                    for name, last in about.unused
                ],
            }
            for about in organizations
        ],
    }


def _seen(seen: Seen) -> dict[str, Any]:
    return {"count": seen.count, "refused": seen.refused, "last": None if seen.last is None else seen.last.isoformat()}


# ------------------------------------------------------------------------------------------- for people


def _lines(digest: Digest, organizations: list[About], days: int, every: bool) -> Iterator[str]:
    covered = digest.covered
    times = "the lines carry no times" if covered is None else f"{_day(digest.first)} to {_day(digest.last)}"
    yield f"{digest.decisions} decisions, {digest.decisions - digest.accepted} refused; {times}"
    if digest.decisions and not digest.accepted:
        yield 'No accepted mail is in this log (log.decisions = "rejects"?), so that no connector seems to be used.'
    if covered is not None and covered.days < days:
        yield f"The log covers {covered.days} days only, so that a connector may have been used before it begins."
    if digest.not_told_apart:
        yield f"So many addresses and certificates that {digest.not_told_apart} sightings are not told apart."
    if digest.gateway is not None:
        address, count, why = digest.gateway
        yield f"{count} of the decisions are of clients at {address}: {why}."
    if digest.logged_in:
        yield f"{digest.logged_in} are of users who had logged in: no servers that look forgotten."
    if digest.passed:
        yield f"{digest.passed} are of hosts of mynetworks, whom Postfix lets pass by itself: likewise."
    many = len(organizations) > _ORGANIZATIONS
    if many:
        yield ""
        yield from _foremost(organizations)
    for about in organizations if every or not many else ():
        yield ""
        yield f"organization {about.name}"
        yield from _of_organization(about, days, timeless=covered is None)
    if digest.strangers:
        yield ""
        yield "mail that concerns no organization"
        yield from _refused(digest.strangers)


def _foremost(organizations: list[About]) -> Iterator[str]:
    yield "most worth looking at"
    for matter in foremost(organizations, _FOREMOST):
        yield f"    {matter.refused:7} refused of {matter.seen}: organization {matter.organization}: {matter.text}"
    unused = sum(len(about.unused) for about in organizations)
    yield (
        f"{len(organizations)} organizations have something to tell, and {unused} connectors were not used: "
        "--organization NAME tells of one, --all of every one, --json for programs"
    )


def _of_organization(about: About, days: int, timeless: bool) -> Iterator[str]:
    if about.refused:
        yield from _refused(about.refused)
    if about.addresses:
        yield "  addresses that use its sender domains and are not registered: forgers, or servers that were forgotten"
        rows = sorted(about.addresses.items(), key=_by_count)
        yield from (f"    {seen.count:7}  {address}{_more(seen)}{_unusable(address)}" for address, seen in rows[:_ROWS])
        yield from _rest(len(rows))
    if about.certificates:
        yield "  certificates that were shown and are not registered: paste the lines if the server is its own"
        certificates = sorted(about.certificates.items(), key=_by_count)
        for _, certificate in certificates[:_ROWS]:
            yield from _certificate(certificate)
        yield from _rest(len(certificates))
    if about.unused:
        since = "that no line names" if timeless else f"not used for {days} days"
        yield f"  connectors {since}"
        for name, last in about.unused[:_ROWS]:
            yield f"    {name}" + (f" (last {_day(last)})" if last is not None else "")
        yield from _rest(len(about.unused))


def _refused(reasons: Counter[str]) -> Iterator[str]:
    yield f"  refused: {reasons.total()}"
    for reason, count in sorted(reasons.items(), key=lambda row: (-row[1], row[0])):
        known = reason in Reason._value2member_map_
        yield f"    {count:7}  {reason}{f': {SENTENCES[Reason(reason)]}' if known else ''}"


def _more(seen: Seen) -> str:
    last = f", last {_day(seen.last)}" if seen.last is not None else ""
    return f" ({seen.refused} refused{last})"


def _unusable(address: str) -> str:
    """What is to be said of an address that no server has for itself."""
    why = unusable_address(parse_address(address))
    return f": {why}" if why else ""


def _certificate(seen: UnknownCertificate) -> Iterator[str]:
    if seen.name:
        what = f"{seen.name}, verified, issued by {seen.issuer or 'a CA without a name'}"
    elif seen.issuer:
        what = f"without a CN, verified, issued by {seen.issuer}"
    else:
        what = "not verified"
    yield f"    {seen.count:7}  {what}{_more(seen)}, from {', '.join(seen.addresses)}"
    if seen.key:
        yield f"             public key {seen.key}"
    yield from (f"             {line}" for line in toml_of(seen.change).splitlines() if line)
    if seen.barrier:
        yield f"             not to be registered: {seen.barrier}"


def _rest(rows: int) -> Iterator[str]:
    if rows > _ROWS:
        yield f"    and {rows - _ROWS} more (--json has all)"
