//! `awrit pod release`.

use agentwrit_protocol::PodUid;

use super::segment;
use crate::args::PodReleaseArgs;
use crate::error::CliError;
use crate::session::Context;

pub(super) fn release(args: &PodReleaseArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let uid = PodUid::from(segment(args.uid.clone(), "UID")?);
    let answer = context.as_admin(async |client, token| client.pod_release(token, &uid).await)?;
    context.output.result(&answer, ["POD_UID", "RELEASED"], |answer| {
        vec![[uid.to_string(), answer.released.to_string()]]
    })?;
    context.output.note(if answer.released {
        "The pod may get a token again; its sidecar asks within a minute."
    } else {
        "The pod wasn't quarantined: nothing to release."
    })?;
    Ok(())
}
