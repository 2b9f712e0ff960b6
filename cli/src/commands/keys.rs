//! `awrit keys`.

use agentwrit_protocol::signing_keys::wire::{SigningKeyView, SigningKeysResponse};

use super::segment;
use crate::args::KeysRetireArgs;
use crate::error::CliError;
use crate::session::Context;

const HEADER: [&str; 6] = ["KID", "STATE", "HELD", "PUBLISHED", "SIGNS_FROM", "RETIRES"];

fn row(key: &SigningKeyView) -> [String; 6] {
    let end = match (&key.retired_at, &key.retires_at) {
        (Some(at), _) if key.leaked => format!("{at} (leaked)"),
        (Some(at), _) | (None, Some(at)) => at.clone(),
        (None, None) => "-".to_owned(),
    };
    [
        key.kid.clone(),
        key.state.as_str().to_owned(),
        key.held.to_string(),
        key.published_at.clone(),
        key.signs_from.clone(),
        end,
    ]
}

pub(super) fn list(context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let answer = context.as_admin(async |client, token| client.signing_keys(token).await)?;
    let rows = |answer: &SigningKeysResponse| answer.keys.iter().map(row).collect();
    context.output.result(&answer, HEADER, rows)?;
    if let Some(at) = &answer.rotation_requested_at {
        context
            .output
            .note(&format!("Another key was asked for at {at} and isn't there yet."))?;
    }
    Ok(())
}

pub(super) fn rotate(context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let answer = context.as_admin(async |client, token| client.rotate_key(token).await)?;
    context
        .output
        .result(&answer, HEADER, |answer| answer.next.iter().map(row).collect())?;
    let note = match (&answer.next, &answer.rotation_requested_at) {
        (Some(next), _) => format!("Key {} is published; it signs from {} on.", next.kid, next.signs_from),
        (None, Some(at)) => format!("Another key was asked for at {at}; awrit keys list shows it when it is there."),
        (None, None) => "The new key signs already.".to_owned(),
    };
    context.output.note(&note)?;
    Ok(())
}

pub(super) fn retire(args: KeysRetireArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let kid = segment(args.kid, "KID")?;
    let answer = context.as_admin(async |client, token| client.retire_key(token, &kid, args.now).await)?;
    context
        .output
        .result(&answer, ["KID", "RETIRED_AT", "LEAKED"], |answer| {
            vec![[answer.kid.clone(), answer.retired_at.clone(), answer.leaked.to_string()]]
        })?;
    if let Some(epoch) = &answer.epoch {
        let note = format!("Every token of before is refused (epoch {epoch}); agents register again by themselves.");
        context.output.note(&note)?;
    }
    Ok(())
}
