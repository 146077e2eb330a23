"""Files that people bring in place of an export: what each is, and the PowerShell that makes an export of it.

Only texts, and how such a file is recognised; `export_files` asks when it cannot read one. SPEC 7, import.
"""

from __future__ import annotations

import re

_OCTETS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed with gzip; gunzip it, if an export is in it"),
    (b"%PDF", "a PDF document"),
)
_ALONE = re.compile(r"[\w.-]+")
_EXPORT_ANEW = "Bring the export itself: {command}"
_TEXTS: tuple[tuple[str, str], ...] = (
    (
        r"\s*(?:#< CLIXML|(?:<\?xml[^>]*\?>\s*)?<Objs\b)",
        "CliXML, as Export-Clixml writes it: Import-Clixml FILE | ConvertTo-Json -Depth 4 > NEWFILE",
    ),
    (
        r"(?m)^\s*instance of MSFT_EXO",
        "a compiled configuration of Microsoft365DSC (MOF). " + _EXPORT_ANEW,
    ),
    (
        r"(?im)^\s*(?:EXO(?:InboundConnector|AcceptedDomain)\b|Import-DscResource\b)",
        "a Microsoft365DSC configuration: New-M365DSCReportFromConfiguration -ConfigurationPath FILE -Type JSON",
    ),
    (
        r"(?im)^\s*(?:New|Set|Get)-(?:InboundConnector|ReceiveConnector|AcceptedDomain)\b",
        "a PowerShell script or the lines of a session. Bring what the commands give: {command}",
    ),
    (r"\s*<(?:!doctype\s+)?html\b", "an HTML page. " + _EXPORT_ANEW),
    (r"\s*<", "XML of an unknown kind. " + _EXPORT_ANEW),
    (r"(?m)^[ \t]*[A-Za-z]\w*[ \t]+: ", "the list that PowerShell shows people (Format-List). " + _EXPORT_ANEW),
    (r"(?m)^-{2,}(?:[ \t]+-{2,})+[ \t]*\r?$", "the table that PowerShell shows people. " + _EXPORT_ANEW),
)


def kind_of_octets(octets: bytes) -> str:
    """What a file is that is no text at all; empty where that cannot be told."""
    return next((kind for mark, kind in _OCTETS if octets.startswith(mark)), "")


def kind_of_text(text: str, name: str) -> str:
    """What a text is, with `{command}` for what writes an export; empty for a kind that is not known, or JSON."""
    if text.lstrip()[:1] in ("{", "["):
        return ""
    for pattern, kind in _TEXTS:
        if re.search(pattern, text[:65536]) if pattern.startswith("(?") else re.match(pattern, text, re.IGNORECASE):
            return kind.replace("NEWFILE", "NEW.json").replace("FILE", _shown(name))
    return ""


def saved_again(name: str, encoding: str) -> str:
    """What writes a file as UTF-8, on the machine that wrote it in `encoding`: its code page counts."""
    return f"Get-Content {_shown(name)} -Encoding {encoding} | Out-File NEW-{_shown(name)} -Encoding utf8"


def _shown(name: str) -> str:
    """The name of a file as it can stand in a command."""
    return name if _ALONE.fullmatch(name) else "FILE"
