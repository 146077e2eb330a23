"""What a dsn says of the way to the server, as libpq reads it with its environment (SPEC 9; the extra `postgresql`)."""

from __future__ import annotations


def unverified(dsn: str) -> str:
    """The first host that is asked over TCP without its certificate being verified; empty where there is none.

    Nothing is said of a dsn that libpq does not understand, or without libpq. A service that the dsn only names stands
    for a host: its file may say anything.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
        from psycopg.pq import Conninfo
    except ImportError:
        return ""
    try:
        given = conninfo_to_dict(dsn)
    except ProgrammingError:
        return ""
    usual = {option.keyword.decode(): option.val.decode() for option in Conninfo.get_defaults() if option.val}
    parameters = {**usual, **{key: str(value) for key, value in given.items() if value}}
    if parameters.get("sslmode") == "verify-full" and ("sslmode" in given or "service" not in given):
        return ""
    addresses = parameters.get("hostaddr", "").split(",")
    hosts = parameters.get("host", "").split(",")
    over_tcp = [each for each in addresses if each] or [each for each in hosts if each and each[0] not in "/@"]
    if not over_tcp and "service" in given and "host" not in given:
        return f"service {given['service']}"
    return next(iter(over_tcp), "")
