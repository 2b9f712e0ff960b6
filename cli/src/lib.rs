//! awrit, the AgentWrit command line.
