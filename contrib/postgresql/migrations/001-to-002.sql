-- From schema version 1 to 2: policyd.revisions, by which a hub reads only the organizations that changed.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -f migrations/001-to-002.sql DATABASE
--
-- Writers wait while it runs; hubs go on with the rules they have.

DO $$
BEGIN
    PERFORM FROM policyd.state WHERE schema_version = 1 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this is the step from schema version 1, and the database has version %',
            (SELECT schema_version FROM policyd.state);
    END IF;
END
$$;

-- The revision of the last transaction that changed anything of an organization, or removed it.
CREATE TABLE policyd.revisions (
    organization policyd.identifier PRIMARY KEY,
    revision bigint NOT NULL
);
CREATE INDEX revisions_by_revision ON policyd.revisions (revision);

CREATE FUNCTION policyd.mark_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named text := format('SELECT %I FROM ', TG_ARGV[0]);  -- the column that names the organization
BEGIN
    EXECUTE 'INSERT INTO policyd.revisions AS known (organization, revision)
             SELECT DISTINCT changed.organization, state.revision
               FROM policyd.state, (' || CASE TG_OP
                WHEN 'INSERT' THEN named || 'new_rows'
                WHEN 'DELETE' THEN named || 'old_rows'
                ELSE named || 'new_rows UNION ' || named || 'old_rows'
            END || ') AS changed (organization)
             ON CONFLICT (organization) DO UPDATE SET revision = excluded.revision
             WHERE known.revision <> excluded.revision';
    RETURN NULL;
END
$$;

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

UPDATE policyd.state SET schema_version = 2, revision = revision + 1, changed_at = now();
INSERT INTO policyd.revisions (organization, revision) SELECT name, revision FROM policyd.organizations, policyd.state;
SELECT pg_notify('policyd', revision::text) FROM policyd.state;

GRANT SELECT ON policyd.revisions TO policyd_reader, policyd_writer;
