"""The user that policyd runs as: root sees files that this user cannot read, and a reload then trips over (SPEC 7).

Only `policyd check` uses this. It changes the rights of this process for a while, and nothing else.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

USUAL = "policyd"  # User= of the unit that is shipped


class CannotBecomeError(Exception):
    """This process cannot have the rights of that user; the text says why."""


def usual_user() -> str:
    """The user of the shipped unit, where there is one and this is root; else empty: whoever runs this."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(USUAL).pw_name
    except KeyError:
        return ""


@contextmanager
def rights_of(name: str) -> Iterator[None]:
    """With the effective user and groups of `name`, and its home folder, where libpq looks for .pgpass.

    Empty: as it is. Raises CannotBecomeError.
    """
    if not name:
        yield
        return
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: NUL
        raise CannotBecomeError(f'there is no user "{name}"') from None
    if user.pw_uid == os.geteuid():
        yield
        return
    if os.geteuid() != 0:
        raise CannotBecomeError(f'only root can look with the rights of the user "{name}"')
    groups, group, home = os.getgroups(), os.getegid(), os.environ.get("HOME", "/")
    try:
        os.initgroups(name, user.pw_gid)
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
    except OSError as error:  # a container's root that may not
        raise CannotBecomeError(f'cannot take the rights of the user "{name}": {error.strerror}') from None
    os.environ["HOME"] = user.pw_dir
    try:
        yield
    finally:
        os.environ["HOME"] = home
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
