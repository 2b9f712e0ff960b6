//! `awrit revoke`.

use super::given;
use crate::args::RevokeArgs;
use crate::error::CliError;
use crate::session::Context;

pub(super) fn run(args: RevokeArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let (Some(level), Some(target)) = (given(args.level), given(args.target)) else {
        return Err(CliError::Usage("--level and --target are required".to_owned()));
    };
    let answer = context.as_admin(async |client, token| client.revoke(token, &level, &target).await)?;
    context
        .output
        .result(&answer, ["REVOKED", "LEVEL", "TARGET", "COUNT"], |answer| {
            let (level, target) = (answer.level.clone(), answer.target.clone());
            vec![[answer.revoked.to_string(), level, target, answer.count.to_string()]]
        })?;
    Ok(())
}
