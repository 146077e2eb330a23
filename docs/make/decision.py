"""docs/decision.svg, and the tables of docs/concepts.md: the decision in the reader's words (SPEC 3.4).

    python docs/make               writes the picture, with all other pages
    python docs/make/decision.py   prints the tables, to be copied into docs/concepts.md

The reasons are the program's own; a test demands that every one of them stands in some row. It imports nothing of
policyd but the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from policyd.policy.decision import Reason


@dataclass(frozen=True, slots=True)
class Row:
    """One row: who the client is, what must hold, the answer, and the reasons that it is logged with."""

    number: str
    client: str
    condition: str
    answer: str
    reasons: tuple[Reason, ...]


ROWS = (
    Row(
        "0",
        "Anybody",
        "the recipient has no domain, or one that Postfix reads as another's, or a route in it (`%`, `!`, a second "
        "`@`); or the sender has no domain",
        "REJECT",
        (
            Reason.RECIPIENT_WITHOUT_DOMAIN,
            Reason.AMBIGUOUS_RECIPIENT,
            Reason.ROUTED_RECIPIENT,
            Reason.SENDER_WITHOUT_DOMAIN,
        ),
    ),
    Row(
        "0 +",
        "A connector of T",
        "it is suspended, or T is",
        "DEFER",
        (Reason.SUSPENDED,),
    ),
    Row(
        "1",
        "A certificate connector of T",
        "the certificate's domain is T's",
        "OK, for T",
        (Reason.CERTIFICATE_DOMAIN,),
    ),
    Row(
        "2, 3",
        "A certificate or address connector of T",
        "the sender's domain is T's",
        "OK, for T",
        (Reason.SENDER_DOMAIN,),
    ),
    Row(
        "4, 5",
        "A certificate or address connector of T",
        "the recipient's domain is T's",
        "OK, for T",
        (Reason.RECIPIENT_DOMAIN,),
    ),
    Row("6", "Anybody else", "the recipient's domain is accepted here", "`policy.incoming`", (Reason.INCOMING,)),
    Row(
        "7",
        "Anybody else",
        "nothing of the above holds",
        "REJECT",
        (
            Reason.PENDING_DOMAIN,
            Reason.NOT_YOUR_DOMAIN,
            Reason.TLS_REQUIRED,
            Reason.CERTIFICATE_UNTRUSTED,
            Reason.CERTIFICATE_UNKNOWN,
            Reason.INCOMING_REFUSED,
            Reason.NO_CONNECTOR,
        ),
    ),
)
TAKEN_BACK = (
    Row(
        "`partners`",
        "No connector of the recipient's organization",
        "the sender is a partner's, and the mail does not arrive as agreed",
        "REJECT",
        (Reason.PARTNER_TLS, Reason.PARTNER_CERTIFICATE, Reason.PARTNER_ADDRESS),
    ),
    Row(
        "`connectors_only`",
        "No connector of the recipient's organization",
        "it is no partner either that showed its certificate or address",
        "REJECT",
        (Reason.CONNECTORS_ONLY,),
    ),
    Row(
        "`protect_sender_domains`",
        "No connector of the sender's organization",
        "the sender's domain is that organization's",
        "REJECT",
        (Reason.SENDER_PROTECTED,),
    ),
)


def table(first: str, rows: tuple[Row, ...]) -> str:
    """A Markdown table; `first` heads the column of numbers."""
    lines = [f"| {first} | the client is | and | answer | reason in the log |", "|---|---|---|---|---|"]
    for row in rows:
        reasons = ", ".join(f"`{reason}`" for reason in row.reasons)
        client = row.client[0].lower() + row.client[1:]
        lines.append(f"| {row.number} | {client} | {row.condition} | {row.answer} | {reasons} |")
    return "\n".join(lines) + "\n"


# --- the picture: a ladder of questions, each with its answer at the right

_WIDTH = 880
_QUESTION = (64, 470)  # left edge and width of its box
_ANSWER = (590, 270)
_LINE = 19  # height of a line of text
_COLOURS = {
    "OK": ("#e3f4e6", "#1a7f37"),
    "REJECT": ("#fdeaea", "#c62828"),
    "DEFER": ("#fff4de", "#9a6700"),
    "POLICY": ("#e8f0fb", "#1f5fbf"),
}
_STYLE = (
    "text{font:14px 'DejaVu Sans',Verdana,sans-serif;fill:#1f2328}.b{font-weight:bold}"
    ".m{font:12px 'DejaVu Sans Mono',Menlo,monospace;fill:#57606a}"
)


def picture() -> str:
    """The SVG text."""
    body: list[str] = []
    at = _text(body, 24, 34, "For each recipient, the first row that holds:", "b")
    at = _ladder(body, at + 10, ROWS)
    at = _text(body, 24, at + 34, "Then an organization's own wishes may take an OK back:", "b")
    at = _ladder(body, at + 10, TAKEN_BACK)
    height = at + 16
    box = f'width="{_WIDTH}" height="{height}"'
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>How policyd decides</title>",
        f"<style>{_STYLE}</style>",
        f'<rect {box} rx="8" fill="#ffffff" stroke="#d0d7de"/>',
    ]
    return "\n".join([*frame, *body, "</svg>\n"])


def _ladder(body: list[str], top: int, rows: tuple[Row, ...]) -> int:
    for index, row in enumerate(rows):
        numbered = row.number[0].isdigit()
        heading = row.client if numbered else _plain(row.number)
        condition = row.condition if numbered else f"{row.client[0].lower()}{row.client[1:]}: {row.condition}"
        left_lines, right_lines = list(_wrapped(_plain(condition), 60)), list(_wrapped("  ".join(row.reasons), 34))
        height = 16 + _LINE * max(1 + len(left_lines), 1 + len(right_lines))
        middle = top + height // 2
        if numbered:
            body.append(f'<text x="38" y="{middle + 5}" text-anchor="middle" class="b">{row.number}</text>')
            if index + 1 < len(rows):
                body.append(f'<path d="M38 {middle + 14}V{top + height + 24}" stroke="#d0d7de"/>')
        _box(body, _QUESTION, top, height, ("#f6f8fa", "#d0d7de"), heading, left_lines, "")
        body.append(
            f'<path d="M{sum(_QUESTION)} {middle}H{_ANSWER[0] - 8}m-7 -5l7 5l-7 5" fill="none" stroke="#57606a"/>'
        )
        colours = _COLOURS["POLICY" if row.answer.startswith("`") else row.answer.partition(",")[0]]
        _box(body, _ANSWER, top, height, colours, _plain(row.answer), right_lines, "m")
        top += height + 10
    return top - 10


def _box(
    body: list[str],
    place: tuple[int, int],
    top: int,
    height: int,
    colours: tuple[str, str],
    heading: str,
    lines: list[str],
    kind: str,
) -> None:
    (left, width), (fill, stroke) = place, colours
    body.append(
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}"/>'
    )
    line = _text(body, left + 14, top + (height - _LINE * (1 + len(lines))) // 2 + 15, heading, "b")
    for text in lines:
        line = _text(body, left + 14, line + _LINE, text, kind)


def _text(body: list[str], x: int, y: int, text: str, kind: str = "") -> int:
    attribute = f' class="{kind}"' if kind else ""
    body.append(f'<text x="{x}" y="{y}"{attribute} xml:space="preserve">{escape(text)}</text>')
    return y


def _plain(text: str) -> str:
    return text.replace("`", "")


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line.rstrip()
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line.rstrip()


if __name__ == "__main__":
    print(table("row", ROWS), table("the wish", TAKEN_BACK), sep="\n", end="")
