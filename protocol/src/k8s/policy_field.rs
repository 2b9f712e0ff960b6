//! Fields of specs that brokers and controllers of an earlier version don't know.

use super::{AppSpec, LaunchTokenSpec};

/// A field that may be left out of a spec. A broker lists those that it enforces; what uses another one must not be in
/// force there, since such a broker would not look at it. (Without `ClientCredentials` less is granted: that one is left out
/// by itself.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyField {
    /// `LaunchToken.spec.podSelector`.
    PodSelector,
    /// `LaunchToken.spec.maxActiveAgents`.
    MaxActiveAgents,
    /// `AgentApp.spec.audiences`.
    Audiences,
    /// `AgentApp.spec.delegation`.
    Delegation,
    /// `AgentApp.spec.clientCredentials`.
    ClientCredentials,
}

impl PolicyField {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::PodSelector,
        Self::MaxActiveAgents,
        Self::Audiences,
        Self::Delegation,
        Self::ClientCredentials,
    ];

    /// The name, as in the custom resource's `spec` and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PodSelector => "podSelector",
            Self::MaxActiveAgents => "maxActiveAgents",
            Self::Audiences => "audiences",
            Self::Delegation => "delegation",
            Self::ClientCredentials => "clientCredentials",
        }
    }
}

/// A spec some of whose fields may be left out.
pub trait HasPolicyFields: Clone {
    /// Those that it uses.
    fn fields(&self) -> Vec<PolicyField>;

    /// The same without any of them, as an earlier version knows it.
    #[must_use]
    fn without_fields(&self) -> Self;
}

fn used<const N: usize>(fields: [(PolicyField, bool); N]) -> Vec<PolicyField> {
    let used = fields.into_iter().filter(|(_, used)| *used);
    used.map(|(field, _)| field).collect()
}

impl HasPolicyFields for AppSpec {
    fn fields(&self) -> Vec<PolicyField> {
        used([
            (PolicyField::Audiences, !self.audiences.is_empty()),
            (PolicyField::Delegation, !self.delegation_namespaces.is_empty()),
            (PolicyField::ClientCredentials, self.client.is_some()),
        ])
    }

    fn without_fields(&self) -> Self {
        Self {
            audiences: Vec::new(),
            delegation_namespaces: Vec::new(),
            client: None,
            ..self.clone()
        }
    }
}

impl HasPolicyFields for LaunchTokenSpec {
    fn fields(&self) -> Vec<PolicyField> {
        used([
            (PolicyField::PodSelector, self.pod_selector.is_some()),
            (PolicyField::MaxActiveAgents, self.max_active_agents.is_some()),
        ])
    }

    fn without_fields(&self) -> Self {
        Self {
            pod_selector: None,
            max_active_agents: None,
            ..self.clone()
        }
    }
}
