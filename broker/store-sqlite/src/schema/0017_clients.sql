-- Of an AgentApp whose accepted spec has a client: the id that it logs in by.
ALTER TABLE policies ADD COLUMN client_id TEXT;
CREATE INDEX policies_client ON policies (client_id) WHERE client_id IS NOT NULL;
