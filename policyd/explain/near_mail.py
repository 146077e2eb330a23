"""Near misses that lie in the mail itself: how addresses are written, and domains that do not count (yet).

SPEC 3.3 and rows 0 and 7 of 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Candidate, Case, Nearness
from policyd.explain.change import Change
from policyd.explain.failures import Failure
from policyd.explain.permitted import organization_may_accept
from policyd.explain.proposals import Proposal
from policyd.explain.third_parties import is_cut_out
from policyd.policy.decision import Reason
from policyd.policy.identity import ADDRESS_ONLY, Match
from policyd.policy.names import Pattern, labels_shared, unicode_form
from policyd.policy.ruleset import NOBODY, Domain

# The failures of the same names.
_WORDING = {
    Reason.RECIPIENT_WITHOUT_DOMAIN: "write the recipient as user@domain, with a host name after the @",
    Reason.AMBIGUOUS_RECIPIENT: "write the recipient's domain in ASCII, as DNS has it, if that is the one that is "
    "meant",
    Reason.ROUTED_RECIPIENT: "write the recipient as user@domain, without a second @, % or ! before it",
    Reason.SENDER_WITHOUT_DOMAIN: "let the server send with a full sender address, user@domain",
}
_DOMAINS_NAMED = 3


def wording_candidate(case: Case) -> Candidate | None:
    """What row 0 refuses can only be written in another way; None where it let the mail by."""
    reason = case.decision.reason
    if reason not in _WORDING:
        return None
    text = _WORDING[reason]
    if reason is Reason.AMBIGUOUS_RECIPIENT:
        text += f": {case.recipient.name}"
    return Candidate((Nearness.WORDING,), NOBODY, Failure(reason.value), (Proposal("sender", text),))


def spelling_candidates(case: Case) -> Iterator[Candidate]:
    """The recipient's domain is somebody's, but not spelt plainly (SPEC 3.3, R)."""
    domain = case.recipient
    if domain.name is None or domain.plain or domain.owner == NOBODY:
        return
    local_part = case.request.recipient.rpartition("@")[0]
    plain = unicode_form(domain.name)
    text = f"write the recipient's domain as {plain}" + (f" or {domain.name}" if plain != domain.name else "")
    proposal = Proposal("sender", text, instead=(("recipient", f"{local_part}@{domain.name}"),))
    yield Candidate((Nearness.WORDING,), domain.owner, Failure.RECIPIENT_SPELLING, (proposal,))


def recognised_candidates(case: Case) -> Iterator[Candidate]:
    """Connectors that recognise the client, where the mail is not their organization's."""
    for name in case.concerned():
        matches = [match for match in case.identity.matches if match.organization == name]
        for match in matches[:3]:
            yield from _of_match(case, match)


def _of_match(case: Case, match: Match) -> Iterator[Candidate]:
    name = match.organization
    connector = case.rules.connector_as_written(name, match.connector)
    for place, domain in enumerate((case.sender, case.recipient)):
        change = _acceptance(case, name, domain)
        if change is not None:
            pending = name in domain.pending
            not_theirs = (Failure.SENDER_DOMAIN, Failure.RECIPIENT_DOMAIN)[place]
            failure = Failure.PENDING_DOMAIN if pending else not_theirs
            proposal = Proposal("configuration", _acceptance_text(name, domain, pending), change)
            yield Candidate((Nearness.DOMAIN, place), name, failure, (proposal,), connector)
    other = _other_sender(case, name, by_address=match.kind == ADDRESS_ONLY)
    if other is not None:
        rank = (Nearness.SENDER, 0 if case.speaks_as_sender(name) else 1)
        yield Candidate(rank, name, Failure.SENDER_DOMAIN, (other,), connector)


def _acceptance(case: Case, name: str, domain: Domain) -> Change | None:
    """The domain as an accepted one: where the organization has claimed it, or has the name above it."""
    if domain.name is None or domain.owner != NOBODY or is_cut_out(case.rules, domain.name):
        return None
    if not (name in domain.pending or domain.zone == name):
        return None
    if not organization_may_accept(case.rules, name, domain.name):
        return None
    organization = case.rules.organization(name)
    exact = Pattern(domain.name)
    values = [("accepted_domains", (*_without(organization.accepted_domains, exact), exact))]
    if exact in organization.pending_domains:
        values.append(("pending_domains", _without(organization.pending_domains, exact)))
    return Change(organization.name, "organization", "", tuple(values))


def _may_be_accepted(case: Case, name: str) -> bool:
    """Whether the sender's domain is nobody's here, claimed by none, and may become the organization's."""
    domain = case.sender.name
    return (
        domain is not None
        and case.sender.zone == NOBODY
        and not case.sender.pending
        and not is_cut_out(case.rules, domain)
        and organization_may_accept(case.rules, name, domain)
        and not case.third_parties.barrier(name, case.client)
    )


def _without(patterns: tuple[Pattern, ...], exact: Pattern) -> tuple[Pattern, ...]:
    return tuple(pattern for pattern in patterns if pattern != exact)


def _acceptance_text(name: str, domain: Domain, pending: bool) -> str:
    meant = unicode_form(domain.name or "")
    if pending:
        return (
            f'when it is verified that {meant} belongs to "{name}": accept it (accepted_domains instead of '
            "pending_domains; in Postfix's own tables too)"
        )
    return f'add "{meant}" to accepted_domains of "{name}" (and to Postfix\'s own tables)'


def _other_sender(case: Case, name: str, by_address: bool) -> Proposal | None:
    """Another sender domain; a null sender has none to choose."""
    if not case.request.sender:
        return None
    patterns = case.rules.organization(name).accepted_domains
    usable = [pattern for pattern in patterns if case.rules.owner(pattern.name) == name]
    if not usable:
        return None
    nearest = sorted(usable, key=lambda pattern: (-labels_shared(pattern.name, case.sender.name), pattern))
    named = ", ".join(unicode_form(pattern.name) for pattern in nearest[:_DOMAINS_NAMED])
    more = ", ..." if len(nearest) > _DOMAINS_NAMED else ""
    text = f'send with a sender address in a domain of "{name}": {named}{more}'
    if _may_be_accepted(case, name):
        text += f"; or verify {unicode_form(case.sender.name or '')} and accept it, if it is the organization's own"
    if by_address:
        text += "; for forwarded mail register a certificate that is named in one of these domains"
    return Proposal("sender", text, instead=(("sender", f"postmaster@{nearest[0].name}"),))
