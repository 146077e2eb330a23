"""The organizations of the database, as they are in force: from rows to the model (SPEC 9).

Standings are immutable. `settled` decides about all organizations, `changed` about a few, by asking the same checker
about those few and all whom they could concern. Opens nothing and knows no SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from policyd.config.conflicts import PlacedProvider
from policyd.config.messages import Message
from policyd.config.parsed import Parsed
from policyd.config.problems import Problem, Report
from policyd.database.admission import Admitted, Candidate, Form, admit
from policyd.database.documents import SOURCE, known_document, parse_document
from policyd.database.neighbours import neighbours
from policyd.database.view import Known, Row, Rows
from policyd.policy.lookups import Lookups
from policyd.policy.model import Delta, Organization

MOST_AT_ONCE = 2000  # organizations; where more are concerned, deciding about all costs little more


@dataclass(frozen=True, slots=True)
class Standing:
    """One organization of the database."""

    latest: Row
    good: Row | None  # the last good rows, which are in force as far as the latest have them; None: it is held
    organization: Organization | None  # in force; None: not read yet, or a file has the name
    problems: tuple[Problem, ...] = ()  # why the latest rows are left out

    @property
    def left_out(self) -> bool:
        """Whether something else than the latest rows is in force."""
        return self.good is not self.latest


@dataclass(frozen=True, slots=True)
class Standings:
    """All of them, and the snapshot that they are of."""

    stamp: str  # with `revision`: the moment, in whatever database
    revision: int
    read_at: float  # Unix time: the database said so then
    by_name: Mapping[str, Standing] = field(repr=False)
    left_out: frozenset[str] = frozenset()  # names of those whose latest rows are not in force

    @property
    def organizations(self) -> tuple[Organization, ...]:
        """Those in force."""
        return tuple(one.organization for one in self.by_name.values() if one.organization is not None)

    def known(self) -> Known:
        """What need not be read again."""
        return Known(self.stamp, self.revision, {name: one.latest.stamp for name, one in self.by_name.items()})

    def with_rows(self, rows: Rows, read_at: float) -> Standings:
        """The same organizations in force, with newer rows to look at; those that are gone are gone."""
        if not rows.read and not rows.gone:
            return replace(self, stamp=rows.stamp, revision=rows.revision, read_at=read_at)
        by_name = dict(self.by_name)
        for name in rows.gone:
            by_name.pop(name, None)
        for name, row in rows.read.items():
            before = by_name.get(name)
            if before is None:
                by_name[name] = Standing(row, None, None)
            elif before.good is not None and before.good.document == row.document:
                by_name[name] = replace(before, latest=row, good=row)
            else:
                by_name[name] = replace(before, latest=row)
        return Standings(rows.stamp, rows.revision, read_at, by_name, self.left_out - rows.gone)


NOTHING = Standings("", 0, 0.0, {})


def settled(
    standings: Standings, files: Sequence[Parsed], provider: PlacedProvider, now: float
) -> tuple[Standings, list[Parsed]]:
    """Everything decided anew, and the organizations in force as read (for the warnings about all)."""
    names = sorted(standings.by_name)
    in_files = {parsed.organization.name: parsed for parsed in files}
    decided, all_parsed = _decided(standings, names, in_files, files, provider, now)
    left_out = frozenset(name for name, one in decided.items() if one.left_out)
    return replace(standings, by_name=decided, left_out=left_out), all_parsed


def changed(
    standings: Standings,
    touched: Collection[str],
    rules: Lookups,
    in_files: Mapping[str, Parsed],
    provider: PlacedProvider,
    now: float,
) -> tuple[Standings, Delta] | None:
    """What comes of other rows of `touched` organizations, where `rules` are in force; None where they are too many.

    Who is left out is looked at again: the reason may be gone. Whoever could be in conflict with one of these, and
    owns a domain that counts for one of them, is looked at with them; about nobody else anything can be different.
    """
    names = {name for name in (*touched, *standings.left_out) if name in standings.by_name}
    if len(names) > MOST_AT_ONCE:
        return None
    concerned = neighbours(rules, [_organization(name, standings, now) for name in names], MOST_AT_ONCE)
    if concerned is None:
        return None
    around = sorted(names.union(name for name in concerned if name in standings.by_name))
    files = [in_files[name] for name in sorted(concerned) if name in in_files]
    decided, _ = _decided(standings, around, in_files, files, provider, now)
    before = standings.by_name
    left_out = standings.left_out.difference(decided).union(name for name, one in decided.items() if one.left_out)
    put = tuple(
        one.organization
        for name, one in decided.items()
        if one.organization is not None and one.organization != before[name].organization
    )
    gone = {name for name, one in decided.items() if one.organization is None and before[name].organization is not None}
    gone.update(name for name in touched if name not in before and name not in in_files)
    return replace(standings, by_name={**before, **decided}, left_out=left_out), Delta(frozenset(gone), put)


def _organization(name: str, standings: Standings, now: float) -> Organization:
    return parse_document(name, standings.by_name[name].latest.document, now, 0).organization


def _decided(
    standings: Standings,
    names: Iterable[str],
    in_files: Mapping[str, Parsed],
    files: Sequence[Parsed],
    provider: PlacedProvider,
    now: float,
) -> tuple[dict[str, Standing], list[Parsed]]:
    """The standings of some organizations, decided among themselves and some of the files' organizations."""
    candidates: list[Candidate] = []
    decided: dict[str, Standing] = {}
    for number, name in enumerate(names, len(files)):
        standing = standings.by_name[name]
        if name in in_files:
            problem = _problem(name, Message.FILE_HAS_IT, place=in_files[name].report.place(("organizations", name)))
            decided[name] = Standing(standing.latest, None, None, (problem,))
        else:
            whole = standing.organization if name not in standings.left_out else None
            candidates.append(_candidate(name, standing, whole, now, number))
    admitted = admit(files, candidates, provider)
    all_parsed = []
    for candidate in candidates:
        outcome = admitted[candidate.name]
        decided[candidate.name] = _standing(standings.by_name[candidate.name], outcome)
        all_parsed.append(replace(candidate.parsed, organization=outcome.organization))
    return decided, all_parsed


def _candidate(name: str, standing: Standing, whole: Organization | None, now: float, number: int) -> Candidate:
    """`whole`: what is in force, where that is all of the good rows; they need not be read again then."""
    good = None
    if standing.good is not None:
        if whole is not None:
            good = known_document(whole, standing.good.document, now, number)
        else:
            good = parse_document(name, standing.good.document, now, number)
            good = good if good.sound else None
    if good is not None and standing.good is standing.latest:
        return Candidate(good, good, [])
    return Candidate(parse_document(name, standing.latest.document, now, number), good, [])


def _standing(before: Standing, admitted: Admitted) -> Standing:
    if admitted.form is Form.LATEST:
        return Standing(before.latest, before.latest, admitted.organization)
    name = admitted.organization.name
    if admitted.form is Form.LAST_GOOD and before.good is not None:
        note = _problem(name, Message.LAST_GOOD_ROWS, revision=str(before.good.revision))
        return Standing(before.latest, before.good, admitted.organization, (*admitted.problems, note))
    return Standing(before.latest, None, admitted.organization, (*admitted.problems, _problem(name, Message.HELD)))


def _problem(name: str, message: Message, **fills: str) -> Problem:
    report = Report(SOURCE, 0)
    report.warning(("organizations", name), message, **fills)
    return report.problems[0]


def problems_of(standings: Standings, names: Collection[str]) -> list[Problem]:
    """What is said about organizations that are left out, as warnings: it hinders nobody else."""
    return [
        replace(problem, severity="warning")
        for name in sorted(names)
        if name in standings.by_name
        for problem in standings.by_name[name].problems
    ]
