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
    ADD CONSTRAINT organizations_relay_limits_have_different_windows CHECK (policyd.are_limits(relay_limits::text[])),
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
    ADD CONSTRAINT connectors_relay_limits_have_different_windows CHECK (policyd.are_limits(relay_limits::text[])),
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
             ON CONFLICT (organization) DO UPDATE SET revision = excluded.revision, stamp = excluded.stamp
             WHERE known.revision <> excluded.revision';
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION policyd.check_names_below(top text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    clash record;
    mirrored text COLLATE "C" := reverse(top);
BEGIN
    SELECT named.name, named.connector, named.organization, zone.domain, zone.organization AS zone_organization
      INTO clash
      FROM policyd.connector_names AS named
     CROSS JOIN LATERAL (
            SELECT accepted.domain, accepted.organization, up.step
              FROM unnest(policyd.upwards(named.name)) WITH ORDINALITY AS up (name, step)
              JOIN policyd.domains AS accepted ON accepted.kind = 'accepted' AND accepted.name = up.name
             ORDER BY step
             LIMIT 1) AS zone
     WHERE (reverse(named.name) = mirrored
            OR (reverse(named.name) >= mirrored || '.' AND reverse(named.name) < mirrored || '/'))
       AND zone.organization <> named.organization
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

-- Refuses what an organization says about its own accepted domains and they do not bear out: an outside domain must lie
-- strictly below one and be neither accepted nor delegated, a connector speaks for what is spelt as there.
CREATE FUNCTION policyd.check_own_domains(whose policyd.identifier) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT outside INTO wrong
      FROM policyd.organizations AS one, unnest(one.outside_domains::text[]) AS outside,
           regexp_replace(outside, '^\*\.', '') AS bare
     WHERE one.name = whose
       AND (EXISTS (SELECT FROM policyd.domains AS own
                     WHERE own.organization = whose AND own.kind IN ('accepted', 'delegated') AND own.name = bare)
            OR NOT EXISTS (SELECT FROM policyd.domains AS own
                            WHERE own.organization = whose AND own.kind = 'accepted'
                              AND own.name = ANY ((policyd.upwards(bare))[2:])))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the outside domain "%" of organization "%" is accepted or delegated, or below no accepted one',
            wrong.outside, whose
            USING ERRCODE = 'check_violation', CONSTRAINT = 'outside_domain_below_accepted', TABLE = 'organizations',
                  SCHEMA = 'policyd';
    END IF;
    SELECT connector.name, spoken INTO wrong
      FROM policyd.connectors AS connector, unnest(connector.for_domains::text[]) AS spoken
     WHERE connector.organization = whose
       AND NOT EXISTS (SELECT FROM policyd.domains AS own
                        WHERE own.organization = whose AND own.kind = 'accepted' AND own.domain = spoken
                          AND own.name = regexp_replace(spoken, '^\*\.', ''))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'connector "%" of organization "%" speaks for "%", which is none of its accepted domains',
            wrong.name, whose, wrong.spoken
            USING ERRCODE = 'check_violation', CONSTRAINT = 'for_domains_are_accepted', TABLE = 'connectors',
                  SCHEMA = 'policyd', HINT = 'It is spelt as there, with or without "*.".';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION policyd.check_domain() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.kind <> 'pending' THEN
        PERFORM policyd.check_domains_below(NEW.name);
        PERFORM policyd.check_names_below(NEW.name);
        PERFORM policyd.check_own_domains(NEW.organization);
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.kind <> 'pending' THEN
        PERFORM policyd.check_domains_below(OLD.name);
        PERFORM policyd.check_names_below(OLD.name);
        PERFORM policyd.check_own_domains(OLD.organization);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION policyd.check_organization() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM policyd.check_own_domains(NEW.name);
    IF TG_OP = 'UPDATE' THEN
        PERFORM policyd.check_names_below(regexp_replace(outside, '^\*\.', ''))
           FROM unnest(OLD.outside_domains::text[]) AS outside;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION policyd.check_connector() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM policyd.check_own_domains(NEW.organization);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER own_domains_insert AFTER INSERT ON policyd.organizations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (cardinality(NEW.outside_domains) > 0)
    EXECUTE FUNCTION policyd.check_organization();
CREATE CONSTRAINT TRIGGER own_domains_update AFTER UPDATE ON policyd.organizations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.outside_domains IS DISTINCT FROM NEW.outside_domains)
    EXECUTE FUNCTION policyd.check_organization();
CREATE CONSTRAINT TRIGGER own_domains AFTER INSERT OR UPDATE ON policyd.connectors
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (cardinality(NEW.for_domains) > 0)
    EXECUTE FUNCTION policyd.check_connector();

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
GRANT SELECT ON policyd.relay_counts, policyd.stamps TO policyd_reader, policyd_writer;
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
