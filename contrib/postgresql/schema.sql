-- The rules of policyd in PostgreSQL 15: schema version 3. See docs/database.md.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -f schema.sql DATABASE
--
-- A row is what a table of policyd.toml is, and a column is named like its key. Constraints refuse what `policyd check`
-- refuses, whoever writes at the same time. What SQL cannot judge is left to policyd, which leaves such an organization out
-- and says so: whether a PEM text is a readable certificate, whether all of an organization is more than 1 MiB, how
-- Postfix folds a name, which names are public suffixes or presented by many parties, and what the hub's own file says in
-- provider_networks and provider_certificate_names.

CREATE EXTENSION IF NOT EXISTS btree_gist;  -- `organization WITH <>` in the exclusion constraint

CREATE SCHEMA policyd;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_reader') THEN
        CREATE ROLE policyd_reader NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_writer') THEN
        CREATE ROLE policyd_writer NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_operator') THEN
        CREATE ROLE policyd_operator NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_hub') THEN
        CREATE ROLE policyd_hub NOLOGIN;
    END IF;
END
$$;

-- ---------------------------------------------------------------- what single values may be

-- `x` or `*.x`: labels of a-z 0-9 _ -, at most 63 and 253 octets; the last is no number; never a whole top-level domain.
CREATE FUNCTION policyd.is_pattern(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT value COLLATE "C" ~ '^(\*\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$'
       AND value COLLATE "C" !~ '(^|\.)[0-9]+$'
       AND value COLLATE "C" !~ '^\*\.[^.]*$'
       AND length(CASE WHEN starts_with(value, '*.') THEN substr(value, 3) ELSE value END) <= 253
$$;

-- A list as TOML has it: of one dimension, without NULL; and not so long that it costs every hub.
CREATE FUNCTION policyd.is_list(value anyarray) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_ndims(value), 1) = 1 AND array_position(value, NULL) IS NULL AND cardinality(value) <= 1000
$$;

CREATE DOMAIN policyd.identifier AS text COLLATE "C"
    CONSTRAINT identifier_is_1_to_64_of_letters_digits_dot_underscore_hyphen CHECK (VALUE ~ '^[A-Za-z0-9._-]{1,64}$');

CREATE DOMAIN policyd.pattern AS text COLLATE "C"
    CONSTRAINT pattern_is_a_name_of_lower_case_a_labels CHECK (policyd.is_pattern(VALUE));

CREATE DOMAIN policyd.sender_pattern AS text COLLATE "C"
    CONSTRAINT sender_pattern_is_a_name_of_lower_case_a_labels CHECK (VALUE = '*' OR policyd.is_pattern(VALUE));

-- A host whose TLSA records pin, or an owner name that begins with `_`.
CREATE DOMAIN policyd.host AS text COLLATE "C"
    CONSTRAINT host_is_a_name_of_lower_case_a_labels CHECK (policyd.is_pattern(VALUE) AND VALUE NOT LIKE '*%');

CREATE DOMAIN policyd.relay_limit AS text COLLATE "C"
    CONSTRAINT relay_limit_is_a_number_and_a_window CHECK (VALUE ~ '^[1-9][0-9]{0,8}/(minute|hour|day)$');

-- Limits of different windows.
CREATE FUNCTION policyd.are_limits(value text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT count(*) = count(DISTINCT split_part(one, '/', 2)) FROM unnest(value) AS one
$$;

-- As Postfix writes it: upper-case pairs with colons, of md5, sha1, sha256, sha384 or sha512.
CREATE DOMAIN policyd.fingerprint AS text COLLATE "C"
    CONSTRAINT fingerprint_is_as_postfix_writes_it CHECK (
        VALUE ~ '^[0-9A-F]{2}(:[0-9A-F]{2})*$' AND length(VALUE) IN (47, 59, 95, 143, 191)
    );

-- PEM text; the first certificate in it counts. Every hub reads it, so a private key has no business here.
CREATE DOMAIN policyd.certificate AS text
    CONSTRAINT certificate_is_pem CHECK (VALUE LIKE '%-----BEGIN CERTIFICATE-----%')
    CONSTRAINT certificate_is_at_most_64_kib CHECK (octet_length(VALUE) <= 65536)
    CONSTRAINT certificate_comes_without_private_key CHECK (VALUE NOT LIKE '%PRIVATE KEY-----%');

-- The type cidr refuses host bits. Nothing wider than /16 or /32, and no IPv4 address dressed up as IPv6.
CREATE DOMAIN policyd.network AS cidr
    CONSTRAINT network_is_not_too_wide CHECK (masklen(VALUE) >= CASE family(VALUE) WHEN 4 THEN 16 ELSE 32 END)
    CONSTRAINT network_is_no_ipv4_in_disguise CHECK (
        family(VALUE) = 4 OR VALUE = cidr '::1/128' OR NOT (
            VALUE && inet '::/96' OR VALUE && inet '::ffff:0:0/96' OR VALUE && inet '64:ff9b::/96'
            OR VALUE && inet '64:ff9b:1::/48' OR VALUE && inet '2002::/16'
        )
    );

-- ---------------------------------------------------------------- tables

-- One row. Every transaction that writes locks it first and holds it to its end: so writers come one after the other,
-- each sees what the one before left, and revisions appear in the order in which they were given.
CREATE TABLE policyd.state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    schema_version integer NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by xid8
);
INSERT INTO policyd.state (schema_version) VALUES (3);

CREATE TABLE policyd.organizations (
    name policyd.identifier PRIMARY KEY,
    protect_sender_domains boolean NOT NULL DEFAULT false,
    connectors_only boolean NOT NULL DEFAULT false,
    outside_domains policyd.pattern[] NOT NULL DEFAULT '{}',
    relay_limits policyd.relay_limit[],  -- NULL: those of the hub's [policy]; empty: none
    suspended text,  -- the operator's reason; NULL: it is not
    CONSTRAINT organizations_lists CHECK (policyd.is_list(outside_domains) AND policyd.is_list(relay_limits)),
    CONSTRAINT organizations_relay_limits_have_different_windows CHECK (
        coalesce(cardinality(relay_limits), 0) < 2 OR policyd.are_limits(relay_limits::text[])),
    CONSTRAINT organizations_suspended_says_why CHECK (length(suspended) <= 1000 AND suspended ~ '[^[:space:]]')
);

CREATE TABLE policyd.domains (
    organization policyd.identifier NOT NULL
        REFERENCES policyd.organizations ON UPDATE CASCADE ON DELETE CASCADE,
    kind text NOT NULL CONSTRAINT domains_kind CHECK (kind IN ('accepted', 'pending', 'delegated')),
    domain policyd.pattern NOT NULL,
    name text COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (CASE WHEN starts_with(domain, '*.') THEN substr(domain, 3) ELSE domain END) STORED,
    PRIMARY KEY (organization, kind, name)
);
CREATE UNIQUE INDEX domains_one_owner ON policyd.domains (name) WHERE kind = 'accepted';
CREATE INDEX domains_accepted_below ON policyd.domains (reverse(name)) WHERE kind = 'accepted';

CREATE TABLE policyd.connectors (
    organization policyd.identifier NOT NULL
        REFERENCES policyd.organizations ON UPDATE CASCADE ON DELETE CASCADE,
    name policyd.identifier NOT NULL,
    description text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    require_tls boolean NOT NULL DEFAULT false,
    certificate_names policyd.pattern[] NOT NULL DEFAULT '{}',
    certificates policyd.certificate[] NOT NULL DEFAULT '{}',
    certificate_fingerprints policyd.fingerprint[] NOT NULL DEFAULT '{}',
    public_key_fingerprints policyd.fingerprint[] NOT NULL DEFAULT '{}',
    addresses policyd.network[] NOT NULL DEFAULT '{}',
    for_domains policyd.pattern[] NOT NULL DEFAULT '{}',
    foreign_senders text NOT NULL DEFAULT 'allow',
    relay_limits policyd.relay_limit[] NOT NULL DEFAULT '{}',
    suspended text,
    tlsa policyd.host[] NOT NULL DEFAULT '{}',
    until timestamptz,
    PRIMARY KEY (organization, name),
    CONSTRAINT connectors_lists CHECK (
        policyd.is_list(certificate_names) AND policyd.is_list(certificates)
        AND policyd.is_list(certificate_fingerprints) AND policyd.is_list(public_key_fingerprints)
        AND policyd.is_list(addresses) AND policyd.is_list(for_domains) AND policyd.is_list(relay_limits)
        AND policyd.is_list(tlsa)
    ),
    CONSTRAINT connectors_have_evidence CHECK (
        cardinality(certificate_names) + cardinality(certificates) + cardinality(certificate_fingerprints)
        + cardinality(public_key_fingerprints) + cardinality(tlsa) + cardinality(addresses) > 0
    ),
    CONSTRAINT connectors_description_is_short CHECK (length(description) <= 1000),
    CONSTRAINT connectors_foreign_senders CHECK (foreign_senders IN ('allow', 'bounces', 'refuse')),
    CONSTRAINT connectors_foreign_senders_need_certificate CHECK (
        foreign_senders = 'allow' OR cardinality(certificate_names) + cardinality(certificates)
        + cardinality(certificate_fingerprints) + cardinality(public_key_fingerprints) + cardinality(tlsa) > 0
    ),
    CONSTRAINT connectors_relay_limits_have_different_windows CHECK (
        coalesce(cardinality(relay_limits), 0) < 2 OR policyd.are_limits(relay_limits::text[])),
    CONSTRAINT connectors_suspended_says_why CHECK (length(suspended) <= 1000 AND suspended ~ '[^[:space:]]'),
    CONSTRAINT connectors_until_is_a_date CHECK (until > '0001-01-02 00:00+00' AND until < '9999-12-30 00:00+00')
);

CREATE TABLE policyd.partners (
    organization policyd.identifier NOT NULL
        REFERENCES policyd.organizations ON UPDATE CASCADE ON DELETE CASCADE,
    name policyd.identifier NOT NULL,
    description text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    sender_domains policyd.sender_pattern[] NOT NULL,
    require_tls boolean NOT NULL DEFAULT false,
    certificate_names policyd.pattern[] NOT NULL DEFAULT '{}',
    certificates policyd.certificate[] NOT NULL DEFAULT '{}',
    certificate_fingerprints policyd.fingerprint[] NOT NULL DEFAULT '{}',
    public_key_fingerprints policyd.fingerprint[] NOT NULL DEFAULT '{}',
    addresses policyd.network[] NOT NULL DEFAULT '{}',
    tlsa policyd.host[] NOT NULL DEFAULT '{}',
    until timestamptz,
    PRIMARY KEY (organization, name),
    CONSTRAINT partners_lists CHECK (
        policyd.is_list(sender_domains) AND policyd.is_list(certificate_names) AND policyd.is_list(certificates)
        AND policyd.is_list(certificate_fingerprints) AND policyd.is_list(public_key_fingerprints)
        AND policyd.is_list(addresses) AND policyd.is_list(tlsa)
    ),
    CONSTRAINT partners_have_senders CHECK (cardinality(sender_domains) > 0),
    CONSTRAINT partners_ask_for_something CHECK (
        require_tls OR cardinality(certificate_names) + cardinality(certificates)
        + cardinality(certificate_fingerprints) + cardinality(public_key_fingerprints) + cardinality(tlsa)
        + cardinality(addresses) > 0
    ),
    CONSTRAINT partners_description_is_short CHECK (length(description) <= 1000),
    CONSTRAINT partners_until_is_a_date CHECK (until > '0001-01-02 00:00+00' AND until < '9999-12-30 00:00+00')
);

-- The revision of the last transaction that changed anything of an organization, or removed it.
CREATE TABLE policyd.revisions (
    organization policyd.identifier PRIMARY KEY,
    revision bigint NOT NULL,
    stamp uuid NOT NULL DEFAULT gen_random_uuid()  -- of that revision
);
CREATE INDEX revisions_by_revision ON policyd.revisions (revision);

-- Every revision has a random stamp, also in the rows of `revisions`: after a fail-over that lost commits, or a restore, the
-- numbers come again, the stamps do not. The last 100,000 are kept: who knows an older one compares everything.
CREATE TABLE policyd.stamps (
    revision bigint PRIMARY KEY,
    stamp uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO policyd.stamps (revision) VALUES (0);

-- Kept by a trigger, for the constraints on elements of lists. Nobody else writes them.
CREATE TABLE policyd.connector_names (
    organization policyd.identifier NOT NULL,
    connector policyd.identifier NOT NULL,
    name text COLLATE "C" NOT NULL,  -- of certificate_names, without `*.`
    PRIMARY KEY (organization, connector, name)
);
CREATE INDEX connector_names_below ON policyd.connector_names (reverse(name));

CREATE TABLE policyd.connector_networks (
    organization policyd.identifier NOT NULL,
    connector policyd.identifier NOT NULL,
    enabled boolean NOT NULL,
    network cidr NOT NULL,
    PRIMARY KEY (organization, connector, network),
    CONSTRAINT addresses_are_of_one_organization
        EXCLUDE USING gist (network inet_ops WITH &&, organization WITH <>) WHERE (enabled)
        DEFERRABLE INITIALLY IMMEDIATE
);

-- What the statements of a transaction have changed, for the checks at its end, which empty it. Of no use after a crash.
CREATE UNLOGGED TABLE policyd.unchecked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    names text[],  -- of domains and certificates, without `*.`
    organizations text[]
);

-- How many recipients left in one slot of a window, by each hub's own count; hubs add up what all of them wrote. A hub is
-- a random identity of its own and the login with which it writes: rows of other logins it can only read, so it can count
-- too much but take away nobody's count. No revision, no NOTIFY, and no foreign key: rows age out.
CREATE TABLE policyd.relay_counts (
    organization policyd.identifier NOT NULL,
    connector policyd.identifier NOT NULL,
    span text NOT NULL CONSTRAINT relay_counts_span CHECK (span IN ('minute', 'hour', 'day')),
    slot timestamptz NOT NULL,  -- its beginning, by the clock of the database
    hub uuid NOT NULL,
    login name NOT NULL DEFAULT session_user,
    recipients integer NOT NULL CONSTRAINT relay_counts_recipients CHECK (recipients > 0),
    PRIMARY KEY (organization, connector, span, slot, hub, login)
);
ALTER TABLE policyd.relay_counts ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON policyd.relay_counts FOR SELECT USING (true);
CREATE POLICY own_inserted ON policyd.relay_counts FOR INSERT TO policyd_hub WITH CHECK (login = session_user);
CREATE POLICY own_updated ON policyd.relay_counts FOR UPDATE TO policyd_hub USING (login = session_user);
CREATE POLICY own_deleted ON policyd.relay_counts FOR DELETE TO policyd_hub USING (login = session_user);

-- ---------------------------------------------------------------- one writer at a time, and the NOTIFY

CREATE FUNCTION policyd.begin_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_revision bigint;
BEGIN
    UPDATE policyd.state
       SET revision = revision + 1, changed_at = now(), changed_by = pg_current_xact_id()
     WHERE changed_by IS DISTINCT FROM pg_current_xact_id()
    RETURNING revision INTO this_revision;
    IF FOUND THEN  -- the first statement of this transaction
        DELETE FROM policyd.stamps WHERE revision <= this_revision - 100000;
        INSERT INTO policyd.stamps (revision) VALUES (this_revision)
            ON CONFLICT (revision) DO UPDATE SET stamp = excluded.stamp;
        PERFORM pg_notify('policyd', this_revision::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION policyd.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE is not possible here' USING ERRCODE = 'feature_not_supported', HINT = 'Use DELETE.';
END
$$;

CREATE FUNCTION policyd.mark_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named text := format('SELECT %I FROM ', TG_ARGV[0]);  -- the column that names the organization
BEGIN
    EXECUTE 'INSERT INTO policyd.revisions AS known (organization, revision, stamp)
             SELECT DISTINCT changed.organization, state.revision, stamps.stamp
               FROM policyd.state JOIN policyd.stamps USING (revision), (' || CASE TG_OP
                WHEN 'INSERT' THEN named || 'new_rows'
                WHEN 'DELETE' THEN named || 'old_rows'
                ELSE named || 'new_rows UNION ' || named || 'old_rows'
            END || ') AS changed (organization)
              WHERE NOT EXISTS (SELECT FROM policyd.revisions AS marked
                                 WHERE marked.organization = changed.organization AND marked.revision = state.revision)
             ON CONFLICT (organization) DO UPDATE SET revision = excluded.revision, stamp = excluded.stamp
             WHERE known.revision <> excluded.revision';
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------- names and addresses of connectors

CREATE FUNCTION policyd.keep_lists() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM policyd.connector_names AS kept USING old_rows AS gone
         WHERE kept.organization = gone.organization AND kept.connector = gone.name;
        DELETE FROM policyd.connector_networks AS kept USING old_rows AS gone
         WHERE kept.organization = gone.organization AND kept.connector = gone.name;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO policyd.connector_names (organization, connector, name)
        SELECT DISTINCT written.organization, written.name, regexp_replace(pattern, '^\*\.', '')
          FROM new_rows AS written, unnest(written.certificate_names::text[]) AS pattern;
        INSERT INTO policyd.connector_networks (organization, connector, enabled, network)
        SELECT DISTINCT written.organization, written.name, written.enabled, network
          FROM new_rows AS written, unnest(written.addresses::cidr[]) AS network;
        INSERT INTO policyd.unchecked (names)
        SELECT array_agg(DISTINCT regexp_replace(pattern, '^\*\.', ''))
          FROM new_rows, unnest(certificate_names::text[]) AS pattern HAVING count(*) > 0;
        INSERT INTO policyd.unchecked (organizations)
        SELECT array_agg(DISTINCT organization) FROM new_rows WHERE cardinality(for_domains) > 0 HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------- the tree of names

-- The name and each name above it, nearest first.
CREATE FUNCTION policyd.upwards(name text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg(array_to_string(labels[step:], '.') COLLATE "C" ORDER BY step)
      FROM (SELECT string_to_array(name, '.') AS labels) AS split, generate_subscripts(labels, 1) AS step
$$;

-- What follows is looked at once, at the end of the transaction, for all that its statements have changed: row by row it
-- costs an import many times as much. There may be no statistics yet then, so OFFSET 0 makes each a look into an index.

-- Refuses an accepted domain, at or below one of `tops`, that lies below one of another organization which does not
-- delegate it.
CREATE FUNCTION policyd.check_domains_below(tops text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    clash record;
BEGIN
    SELECT lower.domain, lower.organization, upper.domain AS upper_domain, upper.organization AS upper_organization
      INTO clash
      FROM (SELECT same.domain, same.organization, same.name
              FROM unnest(tops) AS top
             CROSS JOIN LATERAL (
                    SELECT * FROM policyd.domains AS one WHERE one.kind = 'accepted' AND one.name = top OFFSET 0) AS same
             UNION
            SELECT below.domain, below.organization, below.name
              FROM unnest(tops) AS top
             CROSS JOIN LATERAL (
                    SELECT * FROM policyd.domains AS one
                     WHERE one.kind = 'accepted'  -- `.` is followed by `/`
                       AND reverse(one.name) >= reverse(top) || '.' AND reverse(one.name) < reverse(top) || '/'
                    OFFSET 0) AS below) AS lower
     CROSS JOIN LATERAL string_to_array(lower.name, '.') AS labels
     CROSS JOIN LATERAL generate_subscripts(labels, 1) AS step
     CROSS JOIN LATERAL (
            SELECT * FROM policyd.domains AS one
             WHERE one.kind = 'accepted' AND one.name = array_to_string(labels[step:], '.') OFFSET 0) AS upper
     WHERE upper.organization <> lower.organization
       AND NOT EXISTS (
            SELECT FROM policyd.domains AS delegated
             WHERE delegated.organization = upper.organization AND delegated.kind = 'delegated'
               AND delegated.name = ANY (policyd.upwards(lower.name)))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the accepted domain "%" of organization "%" lies below "%" of organization "%"',
            clash.domain, clash.organization, clash.upper_domain, clash.upper_organization
            USING ERRCODE = 'check_violation', CONSTRAINT = 'domain_below_another', TABLE = 'domains', SCHEMA = 'policyd',
                  HINT = format('If that is right, insert it for organization "%s" with kind ''delegated''.',
                                clash.upper_organization);
    END IF;
END
$$;

-- Refuses a certificate name of a connector, at or below one of `tops`, whose nearest accepted domain is another
-- organization's.
CREATE FUNCTION policyd.check_names_below(tops text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    clash record;
BEGIN
    SELECT named.name, named.connector, named.organization, zone.domain, zone.organization AS zone_organization
      INTO clash
      FROM (SELECT same.name, same.connector, same.organization
              FROM unnest(tops) AS top
             CROSS JOIN LATERAL (
                    SELECT * FROM policyd.connector_names AS one WHERE reverse(one.name) = reverse(top) OFFSET 0) AS same
             UNION
            SELECT below.name, below.connector, below.organization
              FROM unnest(tops) AS top
             CROSS JOIN LATERAL (
                    SELECT * FROM policyd.connector_names AS one
                     WHERE reverse(one.name) >= reverse(top) || '.' AND reverse(one.name) < reverse(top) || '/'
                    OFFSET 0) AS below) AS named
     CROSS JOIN LATERAL (
            SELECT accepted.domain, accepted.organization, step
              FROM string_to_array(named.name, '.') AS labels
             CROSS JOIN LATERAL generate_subscripts(labels, 1) AS step
             CROSS JOIN LATERAL (
                    SELECT * FROM policyd.domains AS one
                     WHERE one.kind = 'accepted' AND one.name = array_to_string(labels[step:], '.') OFFSET 0) AS accepted
             ORDER BY step
             LIMIT 1) AS zone
     WHERE zone.organization <> named.organization
       AND NOT EXISTS (  -- given away, or hosted elsewhere: between the zone's domain and the name
            SELECT FROM unnest(policyd.upwards(named.name)) WITH ORDINALITY AS up (name, step)
             WHERE up.step < zone.step
               AND (EXISTS (SELECT FROM policyd.domains AS given
                             WHERE given.organization = zone.organization AND given.kind = 'delegated'
                               AND given.name = up.name)
                    OR EXISTS (SELECT FROM policyd.organizations AS outside
                                WHERE outside.name = zone.organization
                                  AND ARRAY[up.name, '*.' || up.name] && outside.outside_domains::text[])))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the certificate name "%" of connector "%" of organization "%" lies in "%" of organization "%"',
            clash.name, clash.connector, clash.organization, clash.domain, clash.zone_organization
            USING ERRCODE = 'check_violation', CONSTRAINT = 'certificate_name_of_another', TABLE = 'connectors',
                  SCHEMA = 'policyd', HINT = 'A connector cannot use another organization''s name.';
    END IF;
END
$$;

-- Refuses what organizations say about their own accepted domains and those do not bear out: an outside domain must lie
-- strictly below one and be neither accepted nor delegated, a connector speaks for what is spelt as there.
CREATE FUNCTION policyd.check_own_domains(whose text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT one.name, outside INTO wrong
      FROM unnest(whose) AS which
     CROSS JOIN LATERAL (SELECT * FROM policyd.organizations WHERE name = which OFFSET 0) AS one
     CROSS JOIN LATERAL unnest(one.outside_domains::text[]) AS outside
     CROSS JOIN LATERAL regexp_replace(outside, '^\*\.', '') AS bare
     WHERE EXISTS (SELECT FROM policyd.domains AS own
                    WHERE own.organization = one.name AND own.kind IN ('accepted', 'delegated') AND own.name = bare)
        OR NOT EXISTS (SELECT FROM policyd.domains AS own
                        WHERE own.organization = one.name AND own.kind = 'accepted'
                          AND own.name = ANY ((policyd.upwards(bare))[2:]))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the outside domain "%" of organization "%" is accepted or delegated, or below no accepted one',
            wrong.outside, wrong.name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'outside_domain_below_accepted', TABLE = 'organizations',
                  SCHEMA = 'policyd';
    END IF;
    SELECT connector.organization, connector.name, spoken INTO wrong
      FROM unnest(whose) AS which
     CROSS JOIN LATERAL (SELECT * FROM policyd.connectors WHERE organization = which OFFSET 0) AS connector
     CROSS JOIN LATERAL unnest(connector.for_domains::text[]) AS spoken
     WHERE NOT EXISTS (SELECT FROM policyd.domains AS own
                        WHERE own.organization = connector.organization AND own.kind = 'accepted' AND own.domain = spoken
                          AND own.name = regexp_replace(spoken, '^\*\.', ''))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'connector "%" of organization "%" speaks for "%", which is none of its accepted domains',
            wrong.name, wrong.organization, wrong.spoken
            USING ERRCODE = 'check_violation', CONSTRAINT = 'for_domains_are_accepted', TABLE = 'connectors',
                  SCHEMA = 'policyd', HINT = 'It is spelt as there, with or without "*.".';
    END IF;
END
$$;

-- At the end of the transaction, so that its statements can come in any order. The first row of `unchecked` looks at all.
CREATE FUNCTION policyd.check_tree() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tops text[] := ARRAY(SELECT DISTINCT unnest(names) FROM policyd.unchecked);
    whose text[] := ARRAY(SELECT DISTINCT unnest(organizations) FROM policyd.unchecked);
BEGIN
    DELETE FROM policyd.unchecked;
    PERFORM policyd.check_domains_below(tops), policyd.check_names_below(tops) WHERE cardinality(tops) > 0;
    PERFORM policyd.check_own_domains(whose) WHERE cardinality(whose) > 0;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER tree AFTER INSERT ON policyd.unchecked
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION policyd.check_tree();

CREATE FUNCTION policyd.note_domains() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO policyd.unchecked (names, organizations)
        SELECT array_agg(DISTINCT name), array_agg(DISTINCT organization)
          FROM old_rows WHERE kind <> 'pending' HAVING count(*) > 0;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO policyd.unchecked (names, organizations)
        SELECT array_agg(DISTINCT name), array_agg(DISTINCT organization)
          FROM new_rows WHERE kind <> 'pending' HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION policyd.note_organizations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO policyd.unchecked (organizations)
    SELECT array_agg(name) FROM new_rows WHERE cardinality(outside_domains) > 0 HAVING count(*) > 0;
    IF TG_OP = 'UPDATE' THEN  -- what is not outside any more
        INSERT INTO policyd.unchecked (names)
        SELECT array_agg(DISTINCT regexp_replace(outside, '^\*\.', ''))
          FROM old_rows, unnest(outside_domains::text[]) AS outside HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_insert AFTER INSERT ON policyd.domains REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.note_domains();
CREATE TRIGGER note_update AFTER UPDATE ON policyd.domains REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.note_domains();
CREATE TRIGGER note_delete AFTER DELETE ON policyd.domains REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.note_domains();
CREATE TRIGGER note_insert AFTER INSERT ON policyd.organizations REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.note_organizations();
CREATE TRIGGER note_update AFTER UPDATE ON policyd.organizations REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.note_organizations();

DO $$
DECLARE
    written text;
BEGIN
    FOREACH written IN ARRAY ARRAY['organizations', 'domains', 'connectors', 'partners'] LOOP
        EXECUTE format('CREATE TRIGGER begin BEFORE INSERT OR UPDATE OR DELETE ON policyd.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION policyd.begin_change()', written);
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON policyd.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION policyd.refuse_truncate()', written);
    END LOOP;
END
$$;

CREATE TRIGGER keep_insert AFTER INSERT ON policyd.connectors REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.keep_lists();
CREATE TRIGGER keep_update AFTER UPDATE ON policyd.connectors REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.keep_lists();
CREATE TRIGGER keep_delete AFTER DELETE ON policyd.connectors REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION policyd.keep_lists();

DO $$
DECLARE
    written text;
    event text;
    rows text;
BEGIN
    FOREACH written IN ARRAY ARRAY['organizations', 'domains', 'connectors', 'partners'] LOOP
        FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete'] LOOP
            rows := CASE event WHEN 'insert' THEN 'NEW TABLE AS new_rows' WHEN 'delete' THEN 'OLD TABLE AS old_rows'
                    ELSE 'OLD TABLE AS old_rows NEW TABLE AS new_rows' END;
            EXECUTE format('CREATE TRIGGER mark_%2$s AFTER %2$s ON policyd.%1$I REFERENCING %3$s
                            FOR EACH STATEMENT EXECUTE FUNCTION policyd.mark_changed(%4$L)', written, event, rows,
                           CASE written WHEN 'organizations' THEN 'name' ELSE 'organization' END);
        END LOOP;
    END LOOP;
END
$$;

-- ---------------------------------------------------------------- what the operator has suspended

-- Deleted and inserted again it would be free: so only the operator deletes it, or who owns the tables.
CREATE FUNCTION policyd.keep_suspended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(session_user, 'policyd_operator', 'MEMBER')  -- also where the organization takes its connectors along
       OR pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% "%" is suspended by the operator: %',
        CASE TG_TABLE_NAME WHEN 'connectors' THEN 'connector' ELSE 'organization' END, OLD.name, OLD.suspended
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'suspended_stays', TABLE = TG_TABLE_NAME, SCHEMA = 'policyd',
              HINT = 'A member of policyd_operator lifts that first.';
END
$$;

CREATE TRIGGER keep_suspended BEFORE DELETE ON policyd.organizations
    FOR EACH ROW WHEN (OLD.suspended IS NOT NULL) EXECUTE FUNCTION policyd.keep_suspended();
CREATE TRIGGER keep_suspended BEFORE DELETE ON policyd.connectors
    FOR EACH ROW WHEN (OLD.suspended IS NOT NULL) EXECUTE FUNCTION policyd.keep_suspended();

-- ---------------------------------------------------------------- for writers

-- The networks that make up the addresses from `first` to `last`, both included: what a range `a-b` is stored as.
CREATE FUNCTION policyd.networks(first inet, last inet) RETURNS SETOF cidr
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    bits integer := CASE family(first) WHEN 4 THEN 32 ELSE 128 END;
    at inet := set_masklen(first, bits);
    until inet := set_masklen(last, bits);
    size integer;
    block inet;
BEGIN
    IF family(first) <> family(last) OR at > until THEN
        RAISE EXCEPTION 'a range needs two addresses of one family, the lower one first'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        size := bits;
        block := at;
        WHILE size > 0 AND host(network(set_masklen(at, size - 1))) = host(at)
              AND set_masklen(broadcast(set_masklen(at, size - 1)), bits) <= until LOOP
            size := size - 1;
            block := set_masklen(at, size);
        END LOOP;
        RETURN NEXT block::cidr;
        EXIT WHEN set_masklen(broadcast(block), bits) = until;
        at := set_masklen(broadcast(block), bits) + 1;
    END LOOP;
END
$$;

-- ---------------------------------------------------------------- roles: grant them to the logins of hubs and panel

GRANT USAGE ON SCHEMA policyd TO policyd_reader, policyd_writer, policyd_operator, policyd_hub;
GRANT SELECT ON ALL TABLES IN SCHEMA policyd TO policyd_reader, policyd_writer, policyd_operator;
GRANT INSERT, UPDATE, DELETE ON policyd.domains, policyd.partners TO policyd_writer;
GRANT DELETE ON policyd.organizations, policyd.connectors TO policyd_writer;

-- All but `suspended`.
GRANT INSERT (name, protect_sender_domains, connectors_only, outside_domains, relay_limits),
      UPDATE (name, protect_sender_domains, connectors_only, outside_domains, relay_limits)
    ON policyd.organizations TO policyd_writer;
GRANT INSERT (organization, name, description, enabled, require_tls, certificate_names, certificates,
              certificate_fingerprints, public_key_fingerprints, addresses, for_domains, foreign_senders, relay_limits,
              tlsa, until),
      UPDATE (organization, name, description, enabled, require_tls, certificate_names, certificates,
              certificate_fingerprints, public_key_fingerprints, addresses, for_domains, foreign_senders, relay_limits,
              tlsa, until)
    ON policyd.connectors TO policyd_writer;

GRANT UPDATE (suspended) ON policyd.organizations, policyd.connectors TO policyd_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON policyd.relay_counts TO policyd_hub;
