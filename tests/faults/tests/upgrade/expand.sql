-- Everything that an expanding migration may do, in one: every table gets a column that the version before doesn't know.
DO $$
DECLARE part record;
BEGIN
    FOR part IN SELECT relname FROM pg_class WHERE relnamespace = 'agentwrit'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition
    LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN added text NOT NULL DEFAULT %L', part.relname, '');
    END LOOP;
END $$;

-- What the rows of before lack, and what the version before goes on writing without it.
UPDATE sessions SET added = jti;
CREATE FUNCTION fill_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.added := NEW.jti;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_fill_added BEFORE INSERT OR UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION fill_added();
CREATE INDEX sessions_added ON sessions (added);

CREATE TABLE later_things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sid text COLLATE "C" NOT NULL);

-- A function that the version before calls, with another body.
CREATE OR REPLACE FUNCTION target_hash(target text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT sha256(convert_to(target, 'UTF8') || ''::bytea) $$;
