"""Compiles the benchmark's two C programs, into a cache folder and never into the source tree.

The cache is `$XDG_CACHE_HOME/policyd-bench` (or below `~/.cache`); a program's file name holds a digest of its source
and the flags, so that a changed source is compiled anew and an unchanged one is not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """The C compiler's path, or None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def cache_folder() -> Path:
    """The folder for compiled programs; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "policyd-bench"


def build(name: str, folder: Path | None = None) -> Path:
    """The path of the compiled `name`.c, compiled now unless that was done before.

    Raises FileNotFoundError without a compiler, RuntimeError with the compiler's messages when it refuses.
    """
    source = Path(__file__).with_name(f"{name}.c")
    digest = hashlib.sha256(source.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:12]
    program = (folder or cache_folder()) / f"{name}-{digest}"
    if program.exists():
        return program
    cc = compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler: install gcc, or set CC")
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    done = subprocess.run([cc, *FLAGS, "-o", str(unfinished), str(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    unfinished.replace(program)
    return program
