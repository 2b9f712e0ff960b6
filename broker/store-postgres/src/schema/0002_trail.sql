-- The audit trail. A partition holds one segment, named by the number of its first event, which each of its rows has: so a
-- new partition takes no lock that a reader or a writer would wait for, and an old one goes as a whole.
CREATE TABLE audit_events (
    segment        bigint NOT NULL,
    seq            bigint NOT NULL,
    at             bigint NOT NULL,     -- Unix nanoseconds
    event_type     text NOT NULL,
    outcome        text NOT NULL,
    agent_id       text NOT NULL,
    task_id        text NOT NULL,
    actor          text NOT NULL,
    source         text NOT NULL,
    correlation_id text COLLATE "C" NOT NULL,
    policy_uid     text NOT NULL,
    pod_uid        text COLLATE "C" NOT NULL,
    error_kind     text NOT NULL,
    json           text NOT NULL,       -- the event as on the wire
    PRIMARY KEY (segment, seq)
) PARTITION BY RANGE (segment);
CREATE INDEX audit_events_correlation ON audit_events (correlation_id) WHERE correlation_id <> '';
CREATE INDEX audit_events_pod ON audit_events (pod_uid) WHERE pod_uid <> '';

-- Sealed segments that are kept, each followed by a signed checkpoint. The segment that grows has no row.
CREATE TABLE audit_segments (
    first       bigint PRIMARY KEY,     -- number of its first event
    last        bigint NOT NULL,
    bytes       bigint NOT NULL,        -- what its events take, about
    first_at    bigint NOT NULL,        -- Unix nanoseconds
    last_at     bigint NOT NULL,        -- Unix nanoseconds
    first_hash  text NOT NULL,
    head        text NOT NULL,          -- hash of its last event
    exported_at bigint,                 -- Unix milliseconds; NULL = not exported
    file        text,                   -- name in the export folder
    sha256      text                    -- lower-hex SHA-256 of the file
);
CREATE INDEX audit_segments_unexported ON audit_segments (first) WHERE exported_at IS NULL;

-- Segments that are out of the trail and whose partition waits to be removed.
CREATE TABLE dropped_segments (first bigint PRIMARY KEY, last bigint NOT NULL);

-- What the owner of the tables asks of whoever drops a segment. The broker's role, where it is another, only reads it.
CREATE TABLE trail_rules (
    id           bigint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    least_days   bigint NOT NULL DEFAULT 0 CHECK (least_days >= 0)   -- no younger event is dropped, whatever retention says
);
INSERT INTO trail_rules DEFAULT VALUES;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only appended to' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Makes the partition of the segment that begins with this event: the one before must have events, and end before it.
CREATE FUNCTION open_segment(begins bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentwrit, pg_temp AS $$
DECLARE
    part   text := format('audit_events_%s', begins);
    before bigint;
BEGIN
    IF to_regclass(format('agentwrit.%I', part)) IS NOT NULL THEN RETURN; END IF;
    SELECT max(seq) INTO before FROM audit_events WHERE segment = (SELECT max(first) FROM segment_partitions());
    IF begins > 1 AND before IS DISTINCT FROM begins - 1 THEN
        RAISE EXCEPTION 'no segment may begin with event %', begins USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE audit_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', part, begins, begins + 1);
END $$;

-- The partitions that there are, by their first events.
CREATE FUNCTION segment_partitions() RETURNS TABLE (first bigint) LANGUAGE sql STABLE SET search_path = agentwrit, pg_temp AS $$
    SELECT substr(relname, length('audit_events_') + 1)::bigint FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = 'agentwrit.audit_events'::regclass
$$;

-- Takes the oldest sealed segment out of the trail. Only so does any event go.
CREATE FUNCTION drop_segment(begins bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentwrit, pg_temp AS $$
DECLARE
    sealed audit_segments%ROWTYPE;
    days   bigint;
BEGIN
    SELECT * INTO sealed FROM audit_segments WHERE first = begins;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'segment % is not sealed', begins USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT 1 FROM audit_segments WHERE first < begins) THEN
        RAISE EXCEPTION 'segment % is not the oldest', begins USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Its boundary: the checkpoint after it, committed before this transaction.
    IF NOT EXISTS (
        SELECT 1 FROM audit_events
        WHERE segment = sealed.last + 1 AND seq = sealed.last + 1 AND event_type = 'audit_checkpoint'
        AND xmin::text::bigint <> (pg_current_xact_id()::text::numeric % 4294967296)::bigint
    ) THEN
        RAISE EXCEPTION 'segment % is followed by no committed checkpoint', begins USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT least_days INTO days FROM trail_rules;
    IF days > 0 AND to_timestamp(sealed.last_at / 1000000000.0) > clock_timestamp() - make_interval(days => days::int) THEN
        RAISE EXCEPTION 'segment % is younger than % days', begins, days USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM audit_segments WHERE first = begins;
    INSERT INTO dropped_segments (first, last) VALUES (begins, sealed.last);
END $$;

-- Removes the partition of one dropped segment; false when there is none, or readers are in its way.
CREATE FUNCTION sweep_segment() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentwrit, pg_temp AS $$
DECLARE
    begins bigint;
BEGIN
    SELECT first INTO begins FROM dropped_segments ORDER BY first LIMIT 1;
    IF NOT FOUND THEN RETURN false; END IF;
    BEGIN
        -- All commits wait for it, and it for every reader of the trail.
        SET LOCAL lock_timeout = '100ms';
        EXECUTE format('DROP TABLE IF EXISTS %I', format('audit_events_%s', begins));
        DELETE FROM dropped_segments WHERE first = begins;
        RETURN true;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
END $$;

SELECT open_segment(1);

-- What the broker's role may do, where it is not the owner of the tables: run by the owner, SELECT agentwrit.grant_broker('role').
CREATE FUNCTION grant_broker(broker name) RETURNS void LANGUAGE plpgsql SET search_path = agentwrit, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA agentwrit TO %I', broker);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA agentwrit TO %I', broker);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON schema_versions, trail_rules, dropped_segments FROM %I', broker);
    EXECUTE format('REVOKE UPDATE, DELETE ON audit_events, audit_segments FROM %I', broker);
    EXECUTE format('GRANT UPDATE (exported_at, file, sha256) ON audit_segments TO %I', broker);
    EXECUTE format('REVOKE DELETE ON chain_head FROM %I', broker);
    PERFORM revoke_partition(first, broker) FROM segment_partitions();
    EXECUTE format('GRANT EXECUTE ON FUNCTION open_segment(bigint), drop_segment(bigint), sweep_segment() TO %I', broker);
END $$;

-- Rows are reached through audit_events only.
CREATE FUNCTION revoke_partition(begins bigint, broker name) RETURNS void LANGUAGE plpgsql SET search_path = agentwrit, pg_temp AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON %I FROM %I', format('audit_events_%s', begins), broker);
END $$;

REVOKE ALL ON FUNCTION open_segment(bigint), drop_segment(bigint), sweep_segment(), grant_broker(name),
    revoke_partition(bigint, name) FROM PUBLIC;
