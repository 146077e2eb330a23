"""pip's constraints for the oldest releases that pyproject.toml allows: `twisted>=24.11` is `twisted==24.11.*`.

python3 .ci/floors.py >CONSTRAINTS
"""

import re
import tomllib
from pathlib import Path

with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as file:
    project = tomllib.load(file)["project"]
extras = [extra for name, extra in project["optional-dependencies"].items() if name not in ("dev", "fuzz")]
for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
    name, floor = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement).groups()
    print(f"{name}=={floor}.*")
