"""What helps where the evidence of a connector or partner fails in one thing: the same of both, the best first.

For `near_connectors` and `near_partners`, which know besides what helps only theirs. SPEC 3.2, explain of SPEC 7.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyd.explain.candidates import Case
from policyd.explain.change import Table
from policyd.explain.clues import addresses, names, pins
from policyd.explain.failures import Failure
from policyd.explain.proposals import Proposal, add_clue, connect_from, show_certificate, use_starttls
from policyd.policy.model import Connector, Partner


def evidence_proposals(
    case: Case, organization: str, item: Connector | Partner, failure: Failure
) -> Iterator[Proposal]:
    """The client registered with the connector or partner of the organization, or its server set up as that asks."""
    client = case.client
    table: Table = "partner" if isinstance(item, Partner) else "connector"
    match failure:
        case Failure.REQUIRE_TLS:
            yield use_starttls()
        case Failure.ADDRESS:
            for clue in addresses(case.rules, case.provider, organization, client, table):
                yield add_clue(organization, item, clue)
            yield connect_from(item)
        case Failure.NO_TLS | Failure.NO_CERTIFICATE:
            yield from show_certificate(item, encrypted=client.tls)
        case _:
            if item.certificate_names:
                for clue in names(case.rules, case.provider, organization, client, table):
                    yield add_clue(organization, item, clue)
            for clue in pins(client, like=item):
                yield add_clue(organization, item, clue)
            yield from show_certificate(item, encrypted=True, verified=failure is Failure.NOT_VERIFIED)
