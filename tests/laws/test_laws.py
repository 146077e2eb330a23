"""The laws at the end of SPEC 3.4, each as a property of the production code."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policyd.explain.walk import explain
from policyd.policy.attribution import decide
from policyd.policy.decision import Decision, action_text
from policyd.policy.model import Rules
from policyd.policy.ruleset import RuleSet
from policyd.protocol.request import Request
from policyd.protocol.wire import encode_reply
from policyd.store.file import rule_set
from tests.helpers.compiled import compiled, request_of
from tests.strategies import conversations, patient

laws = settings(patient, max_examples=50)
Config = dict[str, Any]
Conversation = tuple[Config, list[dict[str, str]]]
EMPTY = rule_set(Rules())


def decided(config: Config, asked: list[dict[str, str]]) -> list[Decision]:
    rules = compiled(config)
    return [decide(rules, request_of(attributes)) for attributes in asked]


def connectors_of(config: Config) -> list[tuple[str, str]]:
    return [
        (organization, name)
        for organization, table in config.get("organizations", {}).items()
        for name in table.get("connectors", {})
    ]


# --- order ----------------------------------------------------------------------------------------------------------


def shuffled(value: Any, draw: Any) -> Any:
    """The same tables and lists in another order, at every level."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return draw(st.permutations(value))
    return value


@laws
@given(conversations(10), st.data())
def test_the_order_of_the_configuration_never_matters(conversation: Conversation, data: st.DataObject) -> None:
    config, asked = conversation
    other = shuffled(config, data.draw)
    assert decided(other, asked) == decided(config, asked)  # not the action only: whom it is attributed to as well


# --- pending domains and disabled connectors ------------------------------------------------------------------------


@laws
@given(conversations(10))
def test_pending_domains_never_change_an_answer(conversation: Conversation) -> None:
    config, asked = conversation
    assume(any(table.get("pending_domains") for table in config.get("organizations", {}).values()))
    without = copy.deepcopy(config)
    for table in without["organizations"].values():
        table.pop("pending_domains", None)
    assert [d.action for d in decided(without, asked)] == [d.action for d in decided(config, asked)]


@laws
@given(conversations(10), st.data())
def test_disabled_connectors_never_change_an_answer(conversation: Conversation, data: st.DataObject) -> None:
    """Disabling one is taking it away."""
    config, asked = conversation
    assume(connectors_of(config))
    organization, name = data.draw(st.sampled_from(connectors_of(config)))
    disabled, without = copy.deepcopy(config), copy.deepcopy(config)
    disabled["organizations"][organization]["connectors"][name]["enabled"] = False
    del without["organizations"][organization]["connectors"][name]
    assert decided(disabled, asked) == decided(without, asked)


# --- more connectors, more mail -------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.data())
def test_adding_a_connector_never_turns_ok_into_reject(conversation: Conversation, data: st.DataObject) -> None:
    config, asked = conversation
    assume(connectors_of(config))
    organization, name = data.draw(st.sampled_from(connectors_of(config)))
    fewer = copy.deepcopy(config)
    added = fewer["organizations"][organization]["connectors"].pop(name)
    assume("suspended" not in added and "suspended" not in fewer["organizations"][organization])
    for before, after in zip(decided(fewer, asked), decided(config, asked), strict=True):
        if before.action not in ("REJECT", "DEFER"):
            assert after.action not in ("REJECT", "DEFER"), (before, after)
        if before.action == "OK":
            assert after.action == "OK", (before, after)


# --- letter case and final dots -------------------------------------------------------------------------------------


def recased(text: str, mask: int) -> str:
    """Some ASCII letters in the other case."""
    return "".join(c.swapcase() if c.isascii() and mask >> (i % 16) & 1 else c for i, c in enumerate(text))


def dotted(text: str, wanted: bool) -> str:
    """One dot more at the end of an address or name that has none."""
    return text + "." if wanted and text and not text.endswith(".") else text


@laws
@given(conversations(10), st.integers(0, 65535), st.booleans(), st.booleans(), st.booleans())
def test_letter_case_or_a_final_dot_never_changes_an_answer(
    conversation: Conversation, mask: int, sender_dot: bool, recipient_dot: bool, name_dot: bool
) -> None:
    config, asked = conversation
    rules = compiled(config)
    for attributes in asked:
        other = dict(attributes)
        for name, dot in (("sender", sender_dot), ("recipient", recipient_dot)):
            text = other.get(name, "")
            other[name] = dotted(recased(text, mask), dot and "@" in text)
        for name in ("ccert_fingerprint", "ccert_pubkey_fingerprint", "client_address"):
            if name in other and other[name] != "unknown":
                other[name] = recased(other[name], mask)
        subject = other.get("ccert_subject", "")  # letters of an escape are digits: their case means nothing either
        other["ccert_subject"] = dotted(recased(subject, mask), name_dot and not subject.upper().endswith("+2E"))
        assert decide(rules, request_of(other)) == decide(rules, request_of(attributes)), other


@laws
@given(conversations(10), st.integers(0, 65535), st.booleans())
def test_letter_case_or_a_final_dot_of_the_configuration_never_changes_an_answer(
    conversation: Conversation, mask: int, dot: bool
) -> None:
    config, asked = conversation
    other = copy.deepcopy(config)
    for table in other.get("organizations", {}).values():
        evidence = [*table.get("connectors", {}).values(), *table.get("partners", {}).values()]
        for holder in (table, *evidence):
            for key in (
                "accepted_domains",
                "delegated_domains",
                "outside_domains",
                "pending_domains",
                "for_domains",
                "certificate_names",
                "sender_domains",
            ):
                if key in holder:
                    texts = [text if text == "*" else dotted(recased(text, mask), dot) for text in holder[key]]
                    holder[key] = texts
    assert decided(other, asked) == decided(config, asked)


# --- nothing, and nonsense ------------------------------------------------------------------------------------------


@laws
@given(conversations(10), st.sampled_from(["OK", "DUNNO", "REJECT"]))
def test_an_empty_configuration_rejects_everything(conversation: Conversation, incoming: Any) -> None:
    _, asked = conversation
    rules = rule_set(Rules(incoming=incoming))
    for attributes in asked:
        decision = decide(rules, request_of(attributes | {"protocol_state": "RCPT"}))
        assert decision.action == "REJECT"
        assert (decision.organization, decision.connector) == ("", "")


octets = st.binary(max_size=80).map(lambda b: b.replace(b"\n", b"").decode("utf-8", "surrogateescape"))
odd_text = st.one_of(
    octets,
    st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=40),
    st.text('@.%!*+-_x[]:<>"\\ \x00\udcff\u200d\u00ad。ß', max_size=20),
)
odd_requests = st.builds(
    Request,
    protocol_state=st.just("RCPT"),
    client_address=odd_text,
    sender=st.one_of(odd_text, odd_text.map("kate@".__add__)),
    recipient=st.one_of(odd_text, odd_text.map("bob@".__add__), odd_text.map(lambda t: f"bob@{t}.contoso.com")),
    recipient_count=odd_text,
    queue_id=odd_text,
    instance=odd_text,
    ccert_subject=odd_text,
    ccert_issuer=odd_text,
    ccert_fingerprint=odd_text,
    ccert_pubkey_fingerprint=odd_text,
    encryption_protocol=odd_text,
)
BROAD = {
    "organizations": {
        "contoso": {
            "accepted_domains": ["*.contoso.com"],
            "protect_sender_domains": True,
            "connectors_only": True,
            "connectors": {"a": {"certificate_names": ["*.contoso.com"]}, "b": {"addresses": ["203.0.113.0/24"]}},
            "partners": {"p": {"sender_domains": ["*"], "certificate_names": ["p.example"], "addresses": ["::1"]}},
        }
    }
}


@settings(laws, max_examples=300)
@given(odd_requests)
def test_no_request_however_odd_raises(request: Request) -> None:
    for rules in (EMPTY, compiled_broad()):
        decision = decide(rules, request)
        assert encode_reply(action_text(decision, request.sender, request.instance)).endswith(b"\n\n")
        assert explain(rules, request).decision == decision


_BROAD: list[RuleSet] = []


def compiled_broad() -> RuleSet:
    if not _BROAD:
        _BROAD.append(compiled(BROAD))
    return _BROAD[0]
