//! `awrit audit verify`.

use std::path::Path;

use agentwrit_client::Jwks;
use agentwrit_client::system::SystemClock;

use crate::args::VerifyArgs;
use crate::error::CliError;
use crate::session::{Context, wait_for};
use crate::verify::{EventFile, Expected, Progress, Start, Trail, Verdict, Verification};

pub(super) fn run(args: VerifyArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let start = match args.from_checkpoint.as_deref() {
        None => Start::First,
        Some("last") => Start::LastCheckpoint,
        Some(id) => Start::Checkpoint(id.to_owned()),
    };
    let keys = args.jwks.as_deref().map(read_keys).transpose()?;
    let expected = Expected::new(args.expect_count, args.expect_head);
    let verdict = match &args.file {
        Some(path) => from_file(&EventFile::new(path), &start, keys.as_ref(), expected, context)?,
        None => from_broker(&start, keys, expected, context)?,
    };
    context.output.fields(&verdict, rows)?;
    if let Some(broken) = verdict.broken {
        return Err(CliError::Broken {
            event: broken.event,
            problem: broken.problem,
        });
    }
    for key in &verdict.unknown_keys {
        let note = format!(
            "WARNING: checkpoints of key {key} were not checked, since that key isn't known: such checkpoints may be forged."
        );
        context.output.note(&note)?;
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

fn verification(anchored: bool, keys: &Jwks, expected: Expected) -> Verification<'_> {
    if anchored {
        Verification::from_checkpoint(keys, expected)
    } else {
        Verification::from_start(keys, expected)
    }
}

fn from_file(
    file: &EventFile,
    start: &Start,
    keys: Option<&Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let none = Jwks::default();
    if keys.is_none() {
        context
            .output
            .note("WARNING: without --jwks no signature can be checked, only that the events follow each other.")?;
    }
    let (from, anchored) = file.place(start)?;
    let verification = verification(anchored, keys.unwrap_or(&none), expected);
    let mut progress = Progress::new(&SystemClock);
    file.verify(from, verification, &mut progress, context.output)
}

fn from_broker(
    start: &Start,
    keys: Option<Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let (client, secret) = context.admin()?;
    let output = &mut *context.output;
    wait_for(async {
        let mut trail = Trail::open(&client, &secret).await?;
        let keys = match keys {
            Some(keys) => keys,
            None => client.jwks().await?,
        };
        let (from, anchored) = trail.place(start).await?;
        let verification = verification(anchored, &keys, expected);
        let mut progress = Progress::new(&SystemClock);
        trail.go_to(from);
        trail.verify(verification, &mut progress, output).await
    })
}

fn rows(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let signed = match (&verdict.checkpoint, &verdict.signed_at) {
        (Some(checkpoint), Some(at)) => format!("{checkpoint} ({at})"),
        _ => "none".to_owned(),
    };
    vec![
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
    ]
}
