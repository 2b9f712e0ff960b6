//! `awrit version`.

use serde::Serialize;

use crate::error::CliError;
use crate::session::{Context, wait_for};

#[derive(Debug, Serialize)]
struct Versions {
    awrit: &'static str,
    /// The program; absent when the broker doesn't show it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<String>,
    /// The wire contract; absent when there is no broker to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<String>,
}

/// A broker that can't be asked is a note: `awrit`'s own version needs none.
pub(super) fn run(context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let mut versions = Versions {
        awrit: env!("CARGO_PKG_VERSION"),
        broker: None,
        contract: None,
    };
    let asked = if context.has_broker() {
        context.client().and_then(|client| {
            wait_for(async {
                let contract = client.health().await?.version;
                Ok((contract, client.program_version().await))
            })
        })
    } else {
        Err(CliError::NotSet(crate::session::BROKER_URL))
    };
    let note = match asked {
        Ok((contract, program)) => {
            versions.contract = Some(contract);
            versions.broker = program;
            None
        }
        Err(CliError::NotSet(_)) => None,
        Err(error) => Some(format!("The broker's version is not known: {error}")),
    };
    context.output.fields(&versions, |versions| {
        let contract = versions.contract.as_deref();
        let mut rows = vec![("AWRIT", versions.awrit.to_owned())];
        rows.extend(versions.broker.clone().map(|version| ("BROKER", version)));
        rows.extend(contract.map(|version| ("CONTRACT", version.to_owned())));
        rows
    })?;
    if let Some(note) = note {
        context.output.note(&note)?;
    }
    Ok(())
}
