"""`policyd check --user`: a file of passwords that root can read, and the user that policyd runs as cannot."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from policyd.cli.main import main
from tests.database.postgres import PASSWORD, READER, Database
from tests.helpers.programs import needs_root

NOBODY = pwd.getpwnam("nobody")


@needs_root
def test_passwords_that_only_root_can_read(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"postgresql://{READER}@127.0.0.1:{database.server.port}/{database.name}"
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        passwords, config = folder / "passwords", folder / "policyd.toml"
        passwords.write_text(f"*:*:*:*:{PASSWORD}\n")
        passwords.chmod(0o600)
        config.write_text(f'[database]\ndsn = "{place}?passfile={passwords}"\nsnapshot_file = ""\n')
        command = ["check", "-c", str(config)]
        assert main(command) == 0, capsys.readouterr().out
        assert main([*command, "--user", "nobody"]) == 78
        assert f"{config}:2: " in capsys.readouterr().out
        os.chown(passwords, NOBODY.pw_uid, NOBODY.pw_gid)
        assert main([*command, "--user", "nobody"]) == 0, capsys.readouterr().out
