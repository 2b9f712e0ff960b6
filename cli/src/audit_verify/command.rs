//! `awrit audit verify`.

use std::path::Path;

use agentwrit_client::Jwks;
use agentwrit_protocol::system::SystemClock;

use crate::args::VerifyArgs;
use crate::audit_verify::{EventFiles, Expected, Place, Progress, Start, Trail, Verdict, Verification, drop_summary};
use crate::error::CliError;
use crate::session::{Context, wait_for};

pub(crate) fn run(args: VerifyArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let start = Start::from_flag(args.from_checkpoint.as_deref())?;
    let keys = args.jwks.as_deref().map(read_keys).transpose()?;
    let expected = Expected::new(args.expect_count, args.expect_head);
    let files = if args.file.is_empty() {
        None
    } else {
        Some(EventFiles::new(&args.file)?)
    };
    let verdict = match files {
        Some(files) if !args.live => from_files(&files, &start, keys.as_ref(), expected, context)?,
        files => from_broker(files.as_ref(), &start, keys, expected, context)?,
    };
    context.output.fields(&verdict, rows)?;
    if let Some(broken) = verdict.broken {
        return Err(CliError::Broken {
            event: broken.event,
            problem: broken.problem,
        });
    }
    Ok(())
}

fn read_keys(path: &Path) -> Result<Jwks, CliError> {
    let unusable = |reason: String| CliError::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unusable(format!("it is no key set (RFC 7517): {error}")))
}

fn begin<'a>(place: &Place, keys: &'a Jwks, expected: Expected) -> Verification<'a> {
    match place.first {
        Some(first) => Verification::from_first(first, keys, expected),
        None => Verification::from(place.anchored, keys, expected),
    }
}

fn from_files(
    files: &EventFiles,
    start: &Start,
    keys: Option<&Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let place = files.place(start)?;
    let none = Jwks::default();
    let keys_or_none = keys.unwrap_or(&none);
    let mut verification = begin(&place, keys_or_none, expected);
    if keys.is_none() {
        verification = verification.without_signatures();
        context
            .output
            .note("WARNING: without --jwks no signature is checked, only that the events follow each other.")?;
    }
    let mut progress = Progress::new(&SystemClock);
    let broken = files.feed(&place, &mut verification, &mut progress, context.output)?;
    Ok(match broken {
        Some(broken) => verification.end(broken),
        None => verification.finish(),
    })
}

/// Verifies what the broker has, after the files of what it has no longer, if any.
fn from_broker(
    files: Option<&EventFiles>,
    start: &Start,
    more: Option<Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let (client, secret) = context.admin()?;
    let output = &mut *context.output;
    wait_for(async {
        let mut trail = Trail::open(&client, &secret).await?;
        let mut keys = trail.keys().await?;
        keys.keys.extend(more.into_iter().flat_map(|more| more.keys));
        let mut progress = Progress::new(&SystemClock);
        let verification = if let Some(files) = files {
            let place = files.place(start)?;
            let mut verification = begin(&place, &keys, expected);
            if let Some(broken) = files.feed(&place, &mut verification, &mut progress, output)? {
                return Ok(verification.end(broken));
            }
            trail.go_to(verification.count().saturating_add(1));
            verification
        } else {
            let (from, anchored) = trail.place(start).await?;
            trail.go_to(from);
            if anchored {
                Verification::from(true, &keys, expected)
            } else {
                Verification::from_first(trail.begins().await?, &keys, expected)
            }
        };
        trail.verify(verification, &mut progress, output).await
    })
}

fn rows(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let signed = match (&verdict.checkpoint, &verdict.signed_at) {
        (Some(checkpoint), Some(at)) => format!("{checkpoint} ({at})"),
        _ => "none".to_owned(),
    };
    let mut rows = vec![
        ("VERDICT", if verdict.intact { "intact" } else { "broken" }.to_owned()),
        ("EVENTS", verdict.events.to_string()),
        ("FIRST", or_none(&verdict.first)),
        ("LAST", or_none(&verdict.last)),
        ("COUNT", verdict.count.to_string()),
        (
            "HEAD",
            if verdict.head.is_empty() {
                "none".to_owned()
            } else {
                verdict.head.clone()
            },
        ),
        ("CHECKPOINT", signed),
        ("UNSIGNED", verdict.unsigned.to_string()),
    ];
    if let Some(until) = &verdict.dropped_until {
        rows.push(("DROPPED", drop_summary(until, &verdict.dropped)));
    }
    rows
}
