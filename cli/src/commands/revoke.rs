//! `awrit revoke`.

use agentwrit_protocol::wire::RevokeResponse;

use super::given;
use crate::args::RevokeArgs;
use crate::error::CliError;
use crate::session::Context;

const NOTHING_HIT: &str = "Warning: the revocation is recorded, but it ended no session and quarantined no pod: check level and target \
     (tokens of admins and apps have neither).";

pub(super) fn run(args: RevokeArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let (Some(level), Some(target)) = (given(args.level), given(args.target)) else {
        return Err(CliError::Usage("--level and --target are required".to_owned()));
    };
    let answer = context.as_admin(async |client, token| client.revoke(token, &level, &target).await)?;
    let output = &mut *context.output;
    let row = |answer: &RevokeResponse| {
        let (level, target) = (answer.level.clone(), answer.target.clone());
        [answer.revoked.to_string(), level, target, answer.count.to_string()]
    };
    // A broker without attestation doesn't count them.
    let (Some(sessions), Some(pods)) = (answer.sessions_ended, answer.pods_quarantined) else {
        output.result(&answer, ["REVOKED", "LEVEL", "TARGET", "COUNT"], |answer| {
            vec![row(answer)]
        })?;
        return Ok(());
    };
    let header = [
        "REVOKED",
        "LEVEL",
        "TARGET",
        "COUNT",
        "SESSIONS_ENDED",
        "PODS_QUARANTINED",
    ];
    output.result(&answer, header, |answer| {
        let [revoked, level, target, count] = row(answer);
        vec![[revoked, level, target, count, sessions.to_string(), pods.to_string()]]
    })?;
    if sessions == 0 && pods == 0 {
        output.note(NOTHING_HIT)?;
    }
    Ok(())
}
