//! The AgentWrit controller: reconcilers and admission webhook.
