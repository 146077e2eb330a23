"""What can go wrong with PostgreSQL, told to an administrator without the secrets of the dsn (SPEC 9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

CONNECT_SECONDS = 10  # to connect, where the dsn says nothing else
_DOING = {"policyd_reader": "read", "policyd_writer": "written", "policyd_operator": "written"}


class DatabaseError(Exception):
    """The database cannot be read. The text says why, on one line."""


class DsnError(DatabaseError):
    """No server was asked: the dsn, or this installation, must be mended first."""


class RefusedError(DatabaseError):
    """The database works, and a constraint of it refuses what was to be written."""


@contextmanager
def errors_told(dsn: str, role: str = "policyd_writer") -> Iterator[Any]:
    """The module psycopg; its errors inside as DatabaseError, without the secrets of the dsn."""
    try:
        import psycopg
    except ImportError:
        raise DsnError("the Python package psycopg is not installed with this policyd") from None
    secrets = _secrets(dsn)
    try:
        yield psycopg
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"the database refuses: {_clean(error, secrets)}; the user must be a member of {role}"
        ) from None
    except psycopg.errors.IntegrityError as error:
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise RefusedError(f"the database refuses: {error.diag.message_primary}{detail}") from None
    except psycopg.Error as error:
        raise DatabaseError(f"the database cannot be {_DOING[role]}: {_clean(error, secrets)}") from None


def _clean(error: psycopg.Error, secrets: tuple[str, ...]) -> str:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    for secret in secrets:
        text = text.replace(secret, "***")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text[:300] or type(error).__name__


def _secrets(dsn: str) -> tuple[str, ...]:
    """What must not be shown of a dsn. Raises DatabaseError where it is none; libpq's words could repeat a password."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parameters = conninfo_to_dict(dsn)
    except ProgrammingError:
        raise DsnError(
            "the dsn cannot be understood; special characters of a password stand as %XX in a URI, and in quotes in a "
            "key=value text"
        ) from None
    return tuple(str(parameters[key]) for key in ("password", "sslpassword") if parameters.get(key))


def defaults(dsn: str) -> dict[str, Any]:
    """Parameters that the dsn leaves open."""
    from psycopg.conninfo import conninfo_to_dict

    wanted: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "policyd",
        "tcp_user_timeout": 1000 * CONNECT_SECONDS,  # milliseconds
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    given = conninfo_to_dict(dsn)
    return {key: value for key, value in wanted.items() if key not in given}
