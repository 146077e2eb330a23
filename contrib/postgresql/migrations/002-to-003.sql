-- From schema version 2 to 3: what a connector may send, suspension by the operator, hosts with TLSA records, ends, lengths.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -f migrations/002-to-003.sql DATABASE
--
-- Writers wait while it runs; hubs go on with the rules they have. Where rows are longer than version 3 allows it changes
-- nothing and names them.

DO $$
BEGIN
    PERFORM FROM policyd.state WHERE schema_version = 2 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this is the step from schema version 2, and the database has version %',
            (SELECT schema_version FROM policyd.state);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_operator') THEN
        CREATE ROLE policyd_operator NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'policyd_hub') THEN
        CREATE ROLE policyd_hub NOLOGIN;
    END IF;
END
$$;

-- ---------------------------------------------------------------- what is too long now

DO $$
DECLARE
    found text;
BEGIN
    WITH evidence AS (
        SELECT 'connector' AS kind, organization, name, description, '{}'::text[] AS sender_domains, certificate_names,
               certificates, certificate_fingerprints, public_key_fingerprints, addresses
          FROM policyd.connectors
         UNION ALL
        SELECT 'partner', organization, name, description, sender_domains::text[], certificate_names, certificates,
               certificate_fingerprints, public_key_fingerprints, addresses
          FROM policyd.partners
    ), sized AS (
        SELECT kind, organization, name, key, size, most, unit
          FROM evidence, LATERAL (VALUES
                ('description', length(description), 1000, 'characters'),
                ('sender_domains', cardinality(sender_domains), 1000, 'elements'),
                ('certificate_names', cardinality(certificate_names), 1000, 'elements'),
                ('certificates', cardinality(certificates), 1000, 'elements'),
                ('certificate_fingerprints', cardinality(certificate_fingerprints), 1000, 'elements'),
                ('public_key_fingerprints', cardinality(public_key_fingerprints), 1000, 'elements'),
                ('addresses', cardinality(addresses), 1000, 'elements')
               ) AS one (key, size, most, unit)
         WHERE size > most
         ORDER BY organization, kind, name, key
         LIMIT 20
    )
    SELECT string_agg(format('organization "%s", %s "%s": %s has %s %s', organization, kind, name, key, size, unit), '; ')
      INTO found FROM sized;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'rows are longer than version 3 allows: %', found
            USING ERRCODE = 'check_violation',
                  HINT = 'Descriptions have at most 1000 characters, lists 1000 elements. Shorten them and run this again.';
    END IF;
END
$$;

-- ---------------------------------------------------------------- values

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

CREATE OR REPLACE FUNCTION policyd.is_list(value anyarray) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_ndims(value), 1) = 1 AND array_position(value, NULL) IS NULL AND cardinality(value) <= 1000
$$;

-- ---------------------------------------------------------------- tables

ALTER TABLE policyd.organizations
    ADD outside_domains policyd.pattern[] NOT NULL DEFAULT '{}',
    ADD relay_limits policyd.relay_limit[],
    ADD suspended text,
    ADD CONSTRAINT organizations_lists CHECK (policyd.is_list(outside_domains) AND policyd.is_list(relay_limits)),
    ADD CONSTRAINT organizations_relay_limits_have_different_windows CHECK (
        coalesce(cardinality(relay_limits), 0) < 2 OR policyd.are_limits(relay_limits::text[])),
    ADD CONSTRAINT organizations_suspended_says_why CHECK (length(suspended) <= 1000 AND suspended ~ '[^[:space:]]');

ALTER TABLE policyd.connectors
    ADD for_domains policyd.pattern[] NOT NULL DEFAULT '{}',
    ADD foreign_senders text NOT NULL DEFAULT 'allow',
    ADD relay_limits policyd.relay_limit[] NOT NULL DEFAULT '{}',
    ADD suspended text,
    ADD tlsa policyd.host[] NOT NULL DEFAULT '{}',
    ADD until timestamptz,
    DROP CONSTRAINT connectors_lists,
    DROP CONSTRAINT connectors_have_evidence,
    ADD CONSTRAINT connectors_lists CHECK (
        policyd.is_list(certificate_names) AND policyd.is_list(certificates)
        AND policyd.is_list(certificate_fingerprints) AND policyd.is_list(public_key_fingerprints)
        AND policyd.is_list(addresses) AND policyd.is_list(for_domains) AND policyd.is_list(relay_limits)
        AND policyd.is_list(tlsa)
    ),
    ADD CONSTRAINT connectors_have_evidence CHECK (
        cardinality(certificate_names) + cardinality(certificates) + cardinality(certificate_fingerprints)
        + cardinality(public_key_fingerprints) + cardinality(tlsa) + cardinality(addresses) > 0
    ),
    ADD CONSTRAINT connectors_description_is_short CHECK (length(description) <= 1000),
    ADD CONSTRAINT connectors_foreign_senders CHECK (foreign_senders IN ('allow', 'bounces', 'refuse')),
    ADD CONSTRAINT connectors_foreign_senders_need_certificate CHECK (
        foreign_senders = 'allow' OR cardinality(certificate_names) + cardinality(certificates)
        + cardinality(certificate_fingerprints) + cardinality(public_key_fingerprints) + cardinality(tlsa) > 0
    ),
    ADD CONSTRAINT connectors_relay_limits_have_different_windows CHECK (
        coalesce(cardinality(relay_limits), 0) < 2 OR policyd.are_limits(relay_limits::text[])),
    ADD CONSTRAINT connectors_suspended_says_why CHECK (length(suspended) <= 1000 AND suspended ~ '[^[:space:]]'),
    ADD CONSTRAINT connectors_until_is_a_date CHECK (until > '0001-01-02 00:00+00' AND until < '9999-12-30 00:00+00');

ALTER TABLE policyd.partners
    ADD tlsa policyd.host[] NOT NULL DEFAULT '{}',
    ADD until timestamptz,
    DROP CONSTRAINT partners_lists,
    DROP CONSTRAINT partners_ask_for_something,
    ADD CONSTRAINT partners_lists CHECK (
        policyd.is_list(sender_domains) AND policyd.is_list(certificate_names) AND policyd.is_list(certificates)
        AND policyd.is_list(certificate_fingerprints) AND policyd.is_list(public_key_fingerprints)
        AND policyd.is_list(addresses) AND policyd.is_list(tlsa)
    ),
    ADD CONSTRAINT partners_ask_for_something CHECK (
        require_tls OR cardinality(certificate_names) + cardinality(certificates)
        + cardinality(certificate_fingerprints) + cardinality(public_key_fingerprints) + cardinality(tlsa)
        + cardinality(addresses) > 0
    ),
    ADD CONSTRAINT partners_description_is_short CHECK (length(description) <= 1000),
    ADD CONSTRAINT partners_until_is_a_date CHECK (until > '0001-01-02 00:00+00' AND until < '9999-12-30 00:00+00');

ALTER TABLE policyd.revisions ADD stamp uuid NOT NULL DEFAULT gen_random_uuid();

-- Every revision has a random stamp, also in the rows of `revisions`: after a fail-over that lost commits, or a restore, the
-- numbers come again, the stamps do not. The last 100,000 are kept: who knows an older one compares everything.
CREATE TABLE policyd.stamps (
    revision bigint PRIMARY KEY,
    stamp uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO policyd.stamps (revision) SELECT revision FROM policyd.state;

DROP INDEX policyd.connector_names_of_connector;
ALTER TABLE policyd.connector_names ADD PRIMARY KEY (organization, connector, name);
DROP INDEX policyd.connector_networks_of_connector;
ALTER TABLE policyd.connector_networks ADD PRIMARY KEY (organization, connector, network);

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

-- ---------------------------------------------------------------- triggers

CREATE OR REPLACE FUNCTION policyd.begin_change() RETURNS trigger
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

CREATE OR REPLACE FUNCTION policyd.mark_changed() RETURNS trigger
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

CREATE OR REPLACE FUNCTION policyd.keep_lists() RETURNS trigger
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

DROP TRIGGER tree ON policyd.domains;
DROP TRIGGER tree ON policyd.connector_names;
DROP FUNCTION policyd.check_domain(), policyd.check_certificate_name(), policyd.check_domains_below(text),
    policyd.check_names_below(text);

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


-- ---------------------------------------------------------------- roles

GRANT USAGE ON SCHEMA policyd TO policyd_operator, policyd_hub;
GRANT SELECT ON policyd.relay_counts, policyd.stamps, policyd.unchecked TO policyd_reader, policyd_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA policyd TO policyd_operator;

REVOKE INSERT, UPDATE ON policyd.organizations, policyd.connectors FROM policyd_writer;
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

UPDATE policyd.state SET schema_version = 3, revision = revision + 1, changed_at = now();
INSERT INTO policyd.stamps (revision) SELECT revision FROM policyd.state;
SELECT pg_notify('policyd', revision::text) FROM policyd.state;
