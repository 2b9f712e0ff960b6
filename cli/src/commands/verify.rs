//! `awrit audit verify`.

use std::path::Path;

use agentwrit_client::Jwks;
use agentwrit_client::system::SystemClock;

use crate::args::VerifyArgs;
use crate::error::CliError;
use crate::session::{Context, wait_for};
use crate::verify::{EventFile, Expected, Progress, Start, Trail, Verdict, Verification};

pub(super) fn run(args: VerifyArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let start = Start::from_flag(args.from_checkpoint.as_deref())?;
    let keys = args.jwks.as_deref().map(read_keys).transpose()?;
    let expected = Expected::new(args.expect_count, args.expect_head);
    let verdict = match &args.file {
        Some(path) => {
            let verdict = from_file(&EventFile::new(path), &start, keys.as_ref(), expected, context)?;
            // Each login is an event: a trail is never empty, only a file is.
            if verdict.events == 0 && verdict.intact {
                return Err(CliError::File {
                    path: path.clone(),
                    reason: "it holds no event".to_owned(),
                });
            }
            verdict
        }
        None => from_broker(&start, keys, expected, context)?,
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

fn from_file(
    file: &EventFile,
    start: &Start,
    keys: Option<&Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let (from, anchored) = file.place(start)?;
    let none = Jwks::default();
    let mut verification = Verification::from(anchored, keys.unwrap_or(&none), expected);
    if keys.is_none() {
        verification = verification.without_signatures();
        context
            .output
            .note("WARNING: without --jwks no signature is checked, only that the events follow each other.")?;
    }
    let mut progress = Progress::new(&SystemClock);
    file.verify(from, verification, &mut progress, context.output)
}

fn from_broker(
    start: &Start,
    more: Option<Jwks>,
    expected: Expected,
    context: &mut Context<'_, '_>,
) -> Result<Verdict, CliError> {
    let (client, secret) = context.admin()?;
    let output = &mut *context.output;
    wait_for(async {
        let mut trail = Trail::open(&client, &secret).await?;
        let mut keys = client.jwks().await?;
        keys.keys.extend(more.into_iter().flat_map(|more| more.keys));
        let (from, anchored) = trail.place(start).await?;
        trail.go_to(from);
        let verification = Verification::from(anchored, &keys, expected);
        trail
            .verify(verification, &mut Progress::new(&SystemClock), output)
            .await
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
