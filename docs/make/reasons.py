"""docs/reference/reasons.md: every reason with its meaning, the text that a sender sees, and what the operator does."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.policy.decision import INTERNAL_ERROR, SENTENCES, Reason, refusal

_HEAD = """\
# Reasons

<!-- Made by `python docs/make`: change policyd/policy/decision.py or docs/make/reasons.py, not this file. -->

Every decision has one reason. It stands in the log as `reason=`, in the metrics as a label, and `policyd explain` tells
how it came about. The words do not change between versions. Which of them applies when is in the
[specification](../specification.md#34-the-decision-for-each-request-in-state-rcpt).

A refused sender gets the text shown here from Postfix, with `(ref ...)` at its end: `policyd explain --ref ... --log
FILE` finds the request by it. The text up to the first colon is the same for every mail with this reason, so that
pflogsumm counts them together. It never says which organizations, domains or addresses are known here
([3.6](../specification.md#36-answers)).
"""

# What the operator of the hub does about it. Empty: nothing.
_TO_DO = {
    Reason.CERTIFICATE_DOMAIN: "",
    Reason.SENDER_DOMAIN: "",
    Reason.RECIPIENT_DOMAIN: "",
    Reason.INCOMING: "",
    Reason.RECIPIENT_WITHOUT_DOMAIN: "Nothing, as a rule: the sending server is set up badly, or it is a probe.",
    Reason.AMBIGUOUS_RECIPIENT: (
        "Nothing, as a rule. Where both spellings are an organization's own domain, let it accept both: then it is "
        "clear whose it is."
    ),
    Reason.ROUTED_RECIPIENT: "Nothing: relay tests send it. A user with % or ! in his address needs an alias.",
    Reason.SENDER_WITHOUT_DOMAIN: "Nothing. The sending server must complete its addresses; Postfix has `myorigin`.",
    Reason.SUSPENDED: (
        "`suspended` says why. Talk to the organization; its server keeps the mail in its queue. Take `suspended` out, "
        "and reload, when its server is clean again."
    ),
    Reason.PENDING_DOMAIN: "Verify the domain, then move it from `pending_domains` to `accepted_domains`.",
    Reason.NOT_YOUR_DOMAIN: (
        "If the domain is the organization's, accept it. Mail with foreign senders, as of mailing lists and "
        "forwarding, and bounces need a connector whose certificate has a name in a domain of the organization."
    ),
    Reason.TLS_REQUIRED: "Let the sending server use STARTTLS, or take `require_tls` from the connector.",
    Reason.CERTIFICATE_UNTRUSTED: (
        "Look for `TLS` in Postfix's log: the certificate has expired, is not for client use, came without its "
        "chain, or its CA is not in `smtpd_tls_CAfile`. A pin (`certificate_files`, fingerprints) needs no trust."
    ),
    Reason.CERTIFICATE_UNKNOWN: (
        "Compare `certificate=` in the log with `certificate_names`; `policyd explain` names the connector that nearly "
        "matched. If the connector has `addresses` as well, the client must come from one of them."
    ),
    Reason.INCOMING_REFUSED: (
        'The server is no connector\'s, and `policy.incoming` is "REJECT". Register the server, or change that.'
    ),
    Reason.NO_CONNECTOR: (
        "If it is an organization's server, register its address or certificate: `policyd explain` says what to write. "
        "Most of these are strangers who try to relay."
    ),
    Reason.PARTNER_TLS: "Tell the partner to use TLS, or change what the organization agreed on with him.",
    Reason.PARTNER_CERTIFICATE: "Compare `certificate=` in the log with the partner's `certificate_names` and pins.",
    Reason.PARTNER_ADDRESS: "Compare `client=` in the log with the partner's `addresses`. Perhaps somebody forges him.",
    Reason.CONNECTORS_ONLY: (
        "The sender should use the organization's own MX. If he must come here, register him as a partner that shows a "
        "certificate or comes from a stated address."
    ),
    Reason.SENDER_PROTECTED: (
        "Forged, or a server of the organization that is not registered: `policyd report` lists their addresses."
    ),
}
# Not asked, so without a reason: said of in the head of the table of decisions.
_NONE = {Reason.NOT_ASKED}


def page() -> str:
    """The whole page, in Markdown. Raises KeyError for a reason of which nothing is said here."""
    reasons = [reason for reason in Reason if reason not in _NONE]
    return "\n".join([_HEAD, *(line for reason in reasons for line in _section(reason)), _internal_error()])


def _section(reason: Reason) -> Iterator[str]:
    yield f"## {reason.value}\n"
    yield f"{SENTENCES[reason]}\n"
    texts = _texts(reason)
    if not texts:
        yield f"Answer: {'what `policy.incoming` says, OK by default' if reason is Reason.INCOMING else 'OK'}.\n"
    for when, text in texts:
        yield f"What the sender sees{when}:\n\n```text\n{text}\n```\n"
    if _TO_DO[reason]:
        yield f"What to do: {_TO_DO[reason]}\n"


def _texts(reason: Reason) -> list[tuple[str, str]]:
    """When, and the text; none for a reason that refuses nobody."""
    try:
        text, of_bounces = (_reply(refusal(reason, sender, "1f3.65")) for sender in ("a@b.example", ""))
    except KeyError:
        return []
    return [("", text), *([(" for a bounce (a null sender)", of_bounces)] if of_bounces != text else [])]


def _reply(action: str) -> str:
    """The reply that Postfix makes of an action: REJECT is 554, DEFER is 450 (access(5))."""
    word, status, text = action.split(" ", 2)
    code = {"REJECT": 554, "DEFER": 450}[word]
    return f"{code} {status} <bob@example.org>: Recipient address rejected: {text}"


def _internal_error() -> str:
    text = _reply(INTERNAL_ERROR)
    return (
        "## internal-error\n\n"
        "A bug of policyd. The mail is deferred, the log has a traceback; please report it. The metrics count it; no "
        "decision line is written.\n\n"
        f"What the sender sees:\n\n```text\n{text}\n```\n"
    )
