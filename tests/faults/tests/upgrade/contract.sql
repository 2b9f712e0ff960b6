-- What only the version before the last one needed goes.
DROP TRIGGER sessions_fill_added ON sessions;
DROP FUNCTION fill_added();
DROP INDEX sessions_added;
DROP TABLE later_things;
DO $$
DECLARE part record;
BEGIN
    FOR part IN SELECT relname FROM pg_class WHERE relnamespace = 'agentwrit'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition
    LOOP
        EXECUTE format('ALTER TABLE %I DROP COLUMN added', part.relname);
    END LOOP;
END $$;
