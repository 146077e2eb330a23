"""Laws of what only takes away (SPEC 3.3, 3.4, 3.7): suspension, `foreign_senders`, `for_domains`, names given away.

Each as a property of the production code: the same requests before and after something was added to a configuration.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policyd.policy.attribution import decide
from policyd.policy.decision import Decision
from tests.helpers.compiled import compiled, request_of
from tests.strategies import conversations, patient

laws = settings(patient, max_examples=50)
Config = dict[str, Any]
Conversation = tuple[Config, list[dict[str, str]]]


def decided(config: Config, asked: list[dict[str, str]]) -> list[Decision]:
    rules = compiled(config)
    return [decide(rules, request_of(attributes)) for attributes in asked]


def compared(before: Config, after: Config, asked: list[dict[str, str]]) -> list[tuple[Decision, Decision]]:
    return list(zip(decided(before, asked), decided(after, asked), strict=True))


def drawn_connector(config: Config, data: st.DataObject, *keys: str) -> Config:
    """One of the configuration's connectors, with one of these keys where any are named; none where it has none."""
    tables = [
        connector
        for organization in config.get("organizations", {}).values()
        for connector in organization.get("connectors", {}).values()
        if not keys or any(key in connector for key in keys)
    ]
    assume(tables)
    found: Config = data.draw(st.sampled_from(tables))
    return found


# --- suspended ------------------------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.data(), st.booleans())
def test_suspending_never_turns_anything_into_ok(conversation: Conversation, data: st.DataObject, whole: bool) -> None:
    """A connector, or a whole organization."""
    config, asked = conversation
    assume(config.get("organizations"))
    after = copy.deepcopy(config)
    organization = data.draw(st.sampled_from(list(after["organizations"].values())))
    connectors = list(organization.get("connectors", {}).values())
    assume(whole or connectors)
    suspended = organization if whole else data.draw(st.sampled_from(connectors))
    suspended["suspended"] = "ticket 4711"
    for then, now in compared(config, after, asked):
        assert then.action == "OK" or now.action != "OK", (then, now)


@laws
@given(conversations(10), st.data())
def test_adding_a_suspended_connector_never_turns_anything_into_ok(
    conversation: Conversation, data: st.DataObject
) -> None:
    """Without it and with it: it defers, and does nothing else."""
    config, asked = conversation
    after = copy.deepcopy(config)
    drawn_connector(after, data)["suspended"] = "ticket 4711"
    before = copy.deepcopy(after)
    for organization in before["organizations"].values():
        connectors = organization.get("connectors", {})
        for name in [name for name, connector in connectors.items() if "suspended" in connector]:
            del connectors[name]
    for then, now in compared(before, after, asked):
        assert then.action == now.action or now.action == "DEFER", (then, now)


@laws
@given(conversations(10))
def test_what_is_disabled_suspends_nobody(conversation: Conversation) -> None:
    """`enabled = false` wins."""
    config, asked = conversation
    after = copy.deepcopy(config)
    for organization in after.get("organizations", {}).values():
        for connector in organization.get("connectors", {}).values():
            if connector.get("enabled") is False:
                connector["suspended"] = "ticket 4711"
    for then, now in compared(config, after, asked):
        assert then == now


# --- foreign_senders ------------------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.data())
def test_foreign_senders_only_takes_ok_away(conversation: Conversation, data: st.DataObject) -> None:
    """allow, bounces, refuse: what was not OK stays as it was; what was OK may be so by another row or connector."""
    config, asked = conversation
    config = copy.deepcopy(config)
    kinds = ("certificate_names", "certificate_files", "certificate_fingerprints", "public_key_fingerprints")
    connector = drawn_connector(config, data, *kinds)
    decisions = []
    for setting in ("allow", "bounces", "refuse"):
        connector["foreign_senders"] = setting
        decisions.append(decided(config, asked))
    for wider, narrower in itertools.pairwise(decisions):
        for then, now in zip(wider, narrower, strict=True):
            assert then.action == "OK" or now == then, (then, now)


# --- for_domains ----------------------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.data())
def test_for_domains_only_takes_ok_away(conversation: Conversation, data: st.DataObject) -> None:
    config, asked = conversation
    after = copy.deepcopy(config)
    organizations = [table for table in after.get("organizations", {}).values() if table.get("accepted_domains")]
    connectors = [(table, connector) for table in organizations for connector in table.get("connectors", {}).values()]
    assume(connectors)
    table, connector = data.draw(st.sampled_from(connectors))
    texts = connector.get("for_domains", table["accepted_domains"])
    connector["for_domains"] = data.draw(st.lists(st.sampled_from(texts), min_size=1, unique=True))
    for then, now in compared(config, after, asked):
        assert then.action == "OK" or now == then, (then, now)


@laws
@given(conversations(10))
def test_for_domains_of_all_accepted_domains_changes_nothing(conversation: Conversation) -> None:
    config, asked = conversation
    before = copy.deepcopy(config)
    after = copy.deepcopy(config)
    for organization in before.get("organizations", {}).values():
        for connector in organization.get("connectors", {}).values():
            connector.pop("for_domains", None)
    for organization in after.get("organizations", {}).values():
        for connector in organization.get("connectors", {}).values():
            connector.pop("for_domains", None)
            if organization.get("accepted_domains"):
                connector["for_domains"] = organization["accepted_domains"]
    for then, now in compared(before, after, asked):
        assert then == now


# --- names given away, names hosted elsewhere -------------------------------------------------------------------------


def added_below(config: Config, data: st.DataObject, key: str) -> tuple[Config, str]:
    """The configuration with one name more in this list, of a new name below an accepted domain; and whose it is."""
    after = copy.deepcopy(config)
    names = [name for name, table in after.get("organizations", {}).items() if table.get("accepted_domains")]
    assume(names)
    name = data.draw(st.sampled_from(names))
    table = after["organizations"][name]
    below = data.draw(st.sampled_from(["mail.", "x.", "y.", "x.y.", "lab.", "b.", "_h.", "bücher."]))
    domain = below + data.draw(st.sampled_from(table["accepted_domains"])).removeprefix("*.")
    everybodys = [
        text.removeprefix("*.").removesuffix(".").lower()
        for other in after["organizations"].values()
        for listed in ("accepted_domains", "delegated_domains", "outside_domains")
        for text in other.get(listed, [])
    ]
    assume(domain.removesuffix(".").lower() not in everybodys)
    table[key] = [*table.get(key, []), domain]
    return after, name


@laws
@given(conversations(10), st.data())
def test_a_name_given_away_never_turns_anything_into_ok(conversation: Conversation, data: st.DataObject) -> None:
    """But for a client whose suspended connector no longer knows its certificate by name."""
    config, asked = conversation
    after, _ = added_below(config, data, "delegated_domains")
    for then, now in compared(config, after, asked):
        assert now.action != "OK" or then.action == "OK" or then.reason == "suspended", (then, now)


@laws
@given(conversations(10), st.data())
def test_a_name_elsewhere_never_gives_ok_to_a_connector_of_its_organization(
    conversation: Conversation, data: st.DataObject
) -> None:
    """It opens its lock for others, and that is what it is for: what lies there is foreign. Its own connectors gain
    nothing, but where a recipient was ambiguous only because one reading was in the zone, or the client was suspended
    by a certificate name that others may now present.
    """
    config, asked = conversation
    after, organization = added_below(config, data, "outside_domains")
    for then, now in compared(config, after, asked):
        if now.organization == organization and now.connector and now.action == "OK":
            assert then.action == "OK" or then.reason in ("ambiguous-recipient", "suspended"), (then, now)


# --- letter case and final dots ---------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.integers(0, 65535), st.booleans())
def test_letter_case_or_a_final_dot_in_the_new_lists_never_changes_an_answer(
    conversation: Conversation, mask: int, dot: bool
) -> None:
    """`for_domains` is spelt as `accepted_domains`, so both change."""
    config, asked = conversation
    after = copy.deepcopy(config)
    for organization in after.get("organizations", {}).values():
        for table in (organization, *organization.get("connectors", {}).values()):
            for key in ("accepted_domains", "delegated_domains", "outside_domains", "for_domains"):
                if key in table:
                    table[key] = [respelt(text, mask, dot) for text in table[key]]
    assert decided(after, asked) == decided(config, asked)


def respelt(text: str, mask: int, dot: bool) -> str:
    text = "".join(c.swapcase() if c.isascii() and mask >> (i % 16) & 1 else c for i, c in enumerate(text))
    return text + "." if dot and not text.endswith(".") else text
