//! Every endpoint of the API listener, a family a file.

mod admin;
mod agents;
mod apps;
mod audit;
mod kubernetes;
mod operations;
mod tokens;

use crate::endpoint::Endpoint;
use crate::schemas::Schemas;

/// The families, as the document sorts them.
pub const TAGS: [(&str, &str); 7] = [
    (agents::TAG, "How an agent gets its first token."),
    (tokens::TAG, "What can be done with a token, and to it."),
    (admin::TAG, "Logins and launch tokens, by people."),
    (
        apps::TAG,
        "Programs that launch agents: their registration, their login, their launch tokens.",
    ),
    (audit::TAG, "The hash-chained trail of everything that happened."),
    (
        kubernetes::TAG,
        "Policies and attestation of pods; used by the controller and the sidecars.",
    ),
    (operations::TAG, "Keys, probes, metrics, this document."),
];

/// All of them; their schemas go to `schemas`.
pub fn all(schemas: &mut Schemas) -> Vec<Endpoint> {
    [
        agents::endpoints(schemas),
        tokens::endpoints(schemas),
        admin::endpoints(schemas),
        apps::endpoints(schemas),
        audit::endpoints(schemas),
        kubernetes::endpoints(schemas),
        operations::endpoints(schemas),
    ]
    .into_iter()
    .flatten()
    .collect()
}
