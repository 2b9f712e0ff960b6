-- Up to how many registrations of a LaunchToken (issued) the agents under it need not be counted: maxActiveAgents.
ALTER TABLE policies ADD COLUMN room_until INTEGER NOT NULL DEFAULT 0;
