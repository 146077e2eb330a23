"""What `policyd import postfix` made, looked at; and fingerprints for it to find."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from policyd.imports.found import Imported, Note

SHA256 = "F0:99:F0:45:3F:4A:9B:1C:2D:3E:4F:50:61:72:83:94:A5:B6:C7:D8:E9:FA:0B:1C:2D:3E:4F:50:61:72:83:94"
OTHER = SHA256.replace("F0", "0F")
MD5 = SHA256[:47]
SHA1 = SHA256[:59]


def connectors(result: Imported) -> Mapping[str, Any]:
    """Those of contoso."""
    return tomllib.loads(result.text)["organizations"]["contoso"].get("connectors", {})


def noted(result: Imported, level: str, field: str = "", words: str = "") -> list[Note]:
    """The notes of a level about a field, with these words."""
    return [note for note in result.notes if (note.level, note.field) == (level, field) and words in note.message]
