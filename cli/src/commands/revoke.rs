//! `awrit revoke`.

use agentwrit_protocol::wire::{RevokeMatchingRequest, RevokeMatchingResponse, RevokeResponse};

use super::given;
use crate::args::RevokeArgs;
use crate::error::CliError;
use crate::session::Context;

const NOTHING_HIT: &str = "Warning: the revocation is recorded, but it ended no session and quarantined no pod: check level and target \
     (tokens of admins and apps have neither).";
const NOTHING_MATCHES: &str =
    "Warning: no pod matches: check the name. A pod is known from its first launch until its end.";

pub(super) fn run(args: RevokeArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let RevokeArgs {
        level,
        target,
        namespace,
        app,
        policy,
        node,
        service_account,
        all,
        installation,
        dry_run,
    } = args;
    let (level, target) = (given(level), given(target));
    let request = RevokeMatchingRequest {
        namespace: given(namespace),
        app: given(app),
        policy: given(policy),
        node: given(node),
        service_account: given(service_account),
        all,
        installation: given(installation),
        dry_run,
    };
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    match (level, target, count(&request)) {
        (Some(level), Some(target), 0) if !dry_run && request.installation.is_none() => one(&level, &target, context),
        (Some(_), Some(_), 0) => usage("--dry-run and --installation go with --namespace, --app and their like"),
        (None, None, 1) if all && !dry_run && request.installation.is_none() => {
            usage("--all asks for --installation, the name of the installation whose agents are to end")
        }
        (None, None, 1) => matching(&request, context),
        // The contract's text.
        (_, _, 0) => usage("--level and --target are required"),
        _ => usage(
            "one of --level with --target, --namespace, --app, --policy, --node, --service-account and --all can be given",
        ),
    }
}

/// How many extents a request names.
fn count(request: &RevokeMatchingRequest) -> usize {
    let names = [
        &request.namespace,
        &request.app,
        &request.policy,
        &request.node,
        &request.service_account,
    ];
    let given = names.iter().filter(|name| name.is_some()).count();
    given.saturating_add(usize::from(request.all))
}

fn one(level: &str, target: &str, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let answer = context.as_admin(async |client, token| client.revoke(token, level, target).await)?;
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

fn matching(request: &RevokeMatchingRequest, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let answer = context.as_admin(async |client, token| client.revoke_matching(token, request).await)?;
    let header = [
        "SELECTOR",
        "TARGET",
        "PODS",
        "AGENTS",
        "DELEGATIONS",
        "LAUNCH_TOKENS",
        "SESSIONS_ENDED",
        "PODS_QUARANTINED",
    ];
    let row = |answer: &RevokeMatchingResponse| {
        let number = |number: i64| number.to_string();
        vec![[
            answer.selector.clone(),
            answer.target.clone(),
            number(answer.pods),
            number(answer.agents),
            number(answer.delegations),
            number(answer.launch_tokens),
            number(answer.sessions_ended),
            number(answer.pods_quarantined),
        ]]
    };
    let output = &mut *context.output;
    output.result(&answer, header, row)?;
    if let Some(epoch) = &answer.epoch {
        output.note(&format!(
            "Every token of before is refused (epoch {epoch}); agents register again by themselves."
        ))?;
    } else if answer.pods == 0 && !request.all {
        output.note(NOTHING_MATCHES)?;
    } else if answer.dry_run {
        output.note("Nothing was revoked: that is what it would hit now.")?;
    }
    Ok(())
}
