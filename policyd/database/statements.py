"""What is asked of PostgreSQL: SQL only (SPEC 9; contrib/postgresql/schema.sql).

No setting outlives its transaction: behind a pooler the next client of the backend would have it too. Each
organization becomes the text of a JSON document with the keys of [organizations.NAME]. The tables are walked side by
side in the order of their primary keys, so the server sorts and keeps nothing, however many organizations there are.
It adds up no more of one of them than `_LONGEST_ROWS`: rows of one cannot cost the others the read.
"""

from __future__ import annotations

LARGEST_DOCUMENT = 1 << 20  # octets of one organization (SPEC 9)
TOO_LARGE = "too_large"  # a key of a document that has not all of its organization

# No document is built, let alone sent, of rows whose texts are so long that it cannot be small enough. The length of a
# single text costs the server nothing; a row as text is up to 4 times its part of the document.
_LONGEST_ROWS = 8 * LARGEST_DOCUMENT
_ALL_DOMAINS = LARGEST_DOCUMENT // 4  # of each kind: so many are too large, however short they are
_MOST_DOMAINS = 4000  # of each kind, where there are too many

_EVIDENCE = """
    'description', NULLIF(one.description, ''), 'enabled', NULLIF(one.enabled, true),
    'require_tls', NULLIF(one.require_tls, false),
    'certificate_names', NULLIF(one.certificate_names::text[], '{}'),
    'certificates', NULLIF(one.certificates::text[], '{}'),
    'certificate_fingerprints', NULLIF(one.certificate_fingerprints::text[], '{}'),
    'public_key_fingerprints', NULLIF(one.public_key_fingerprints::text[], '{}'),
    'tlsa', NULLIF(one.tlsa::text[], '{}'),
    'addresses', NULLIF(one.addresses::text[], '{}'),
    'until', to_char(one.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00')"""
_SENDING = """
    'for_domains', NULLIF(one.for_domains::text[], '{}'), 'foreign_senders', NULLIF(one.foreign_senders, 'allow'),
    'relay_limits', NULLIF(one.relay_limits::text[], '{}'), 'suspended', one.suspended"""
_SENDERS = "'sender_domains', NULLIF(one.sender_domains::text[], '{}')"
_OWN = """
    'outside_domains', NULLIF(o.outside_domains::text[], '{}'),
    'protect_sender_domains', NULLIF(o.protect_sender_domains, false),
    'connectors_only', NULLIF(o.connectors_only, false),
    'relay_limits', o.relay_limits::text[], 'suspended', o.suspended"""


def _domains(where: str, most: int) -> str:
    """Names by organization and kind, the first `most` of each kind, and how many octets all have."""
    kinds = ", ".join(
        f"json_agg(domain::text ORDER BY domain) FILTER (WHERE kind = '{kind}' AND nth <= {most}) AS {kind}"
        for kind in ("accepted", "delegated", "pending")
    )
    return f"""
    SELECT organization, {kinds}, sum(octet_length(domain)) AS size
    FROM (SELECT *, row_number() OVER (PARTITION BY organization, kind ORDER BY name) AS nth
          FROM policyd.domains {where}) AS one
    GROUP BY organization"""


def _evidence(table: str, keys: str, where: str) -> str:
    """Connectors or partners by organization, and how many octets they have; beyond the limit the rest is left out."""
    return f"""
    SELECT organization, json_object_agg(one.name, json_build_object({_EVIDENCE}, {keys}) ORDER BY one.name)
        FILTER (WHERE until_here < {_LONGEST_ROWS}) AS all_of_them, max(until_here) AS size
    FROM (SELECT *, sum(CASE WHEN octet_length(description) > {LARGEST_DOCUMENT} THEN {_LONGEST_ROWS}
                        ELSE octet_length(sized::text) END)
               OVER (PARTITION BY organization ORDER BY name ROWS UNBOUNDED PRECEDING) AS until_here
          FROM policyd.{table} AS sized {where}) AS one
    GROUP BY organization"""


def _documents(names: bool) -> str:
    """All organizations by name, or those in the parameter; the document is NULL where it would be too large."""
    where = "WHERE organization = ANY(%(names)s)" if names else ""
    return f"""
SELECT name, revision, stamp, CASE WHEN octet_length(document) <= {LARGEST_DOCUMENT} THEN document END
FROM (
  SELECT o.name::text, COALESCE(r.revision, 0) AS revision, COALESCE(r.stamp::text, '') AS stamp,
    CASE WHEN COALESCE(domains.size, 0) + COALESCE(connectors.size, 0) + COALESCE(partners.size, 0) < {_LONGEST_ROWS}
    THEN json_strip_nulls(json_build_object(
      'accepted_domains', domains.accepted, 'delegated_domains', domains.delegated, 'pending_domains', domains.pending,
      {_OWN}, 'connectors', connectors.all_of_them, 'partners', partners.all_of_them))::text END AS document
  FROM policyd.organizations AS o
  LEFT JOIN policyd.revisions AS r ON r.organization = o.name
  LEFT JOIN ({_domains(where, _ALL_DOMAINS)}) AS domains ON domains.organization = o.name
  LEFT JOIN ({_evidence("connectors", _SENDING, where)}) AS connectors ON connectors.organization = o.name
  LEFT JOIN ({_evidence("partners", _SENDERS, where)}) AS partners ON partners.organization = o.name
  {where.replace("organization", "o.name")}
  ORDER BY o.name OFFSET 0  -- which keeps the server from building each document once more for its length
) AS o"""


CHANNEL = "policyd"
STATEMENT_SECONDS = 60  # for the server to work on one statement, or one portion of its rows
SETTINGS = f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS}s', true), set_config('jit', 'off', true)"
STATE = "SELECT schema_version, revision, pg_catalog.pg_backend_pid() FROM policyd.state"
STAMP = "SELECT stamp::text FROM policyd.stamps WHERE revision = %s"
IS_KNOWN = "SELECT EXISTS (SELECT FROM policyd.stamps WHERE revision = %s AND stamp::text = %s)"
CHANGED = "SELECT organization::text FROM policyd.revisions WHERE revision > %s"
STAMPS = """
SELECT o.name::text, COALESCE(r.stamp::text, '')
FROM policyd.organizations AS o LEFT JOIN policyd.revisions AS r ON r.organization = o.name ORDER BY o.name"""
ALL = _documents(names=False)
SOME = _documents(names=True)
# What restricts in an organization that is too large.
RESTRICTIONS = f"""
SELECT json_strip_nulls(json_build_object('{TOO_LARGE}', true, 'accepted_domains', domains.accepted,
    'delegated_domains', domains.delegated, 'pending_domains', domains.pending, {_OWN}))::text
FROM policyd.organizations AS o LEFT JOIN ({_domains("WHERE organization = %(name)s", _MOST_DOMAINS)}) AS domains
    ON domains.organization = o.name
WHERE o.name = %(name)s"""
