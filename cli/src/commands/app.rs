//! `awrit app`.

use agentwrit_protocol::Ttl;
use agentwrit_protocol::apps::{App, RegisterAppRequest, UpdateAppRequest};

use super::{given, required, segment};
use crate::args::{AppGetArgs, AppRegisterArgs, AppRemoveArgs, AppUpdateArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::session::Context;

/// The parts of a comma-separated list as they are: the broker says what is wrong with one. It takes a space as part
/// of a scope.
fn scopes(list: &str, output: &mut Output<'_>) -> Result<Vec<String>, CliError> {
    for scope in list.split(',').filter(|scope| *scope != scope.trim()) {
        output.note(&format!(
            "WARNING: {scope:?} begins or ends with a space, which is a part of the scope: no spaces between scopes."
        ))?;
    }
    Ok(list.split(',').map(str::to_owned).collect())
}

fn seconds(ttl: Ttl) -> String {
    format!("{ttl}s")
}

pub(super) fn register(args: AppRegisterArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let name = required(args.name, "--name")?;
    let list = required(args.scopes, "--scopes")?;
    let request = RegisterAppRequest {
        name: Some(name),
        scopes: Some(scopes(&list, context.output)?),
        token_ttl: args.token_ttl,
    };
    let app = context.as_admin(async |client, token| client.register_app(token, &request).await)?;
    context.output.fields(&app, |app| {
        [
            ("APP_ID", app.app_id.clone()),
            ("CLIENT_ID", app.client_id.clone()),
            ("CLIENT_SECRET", app.client_secret.expose().to_owned()),
            ("SCOPES", app.scopes.join(",")),
            ("TOKEN_TTL", seconds(app.token_ttl)),
        ]
    })?;
    context
        .output
        .note("WARNING: save the client secret now: it is shown this once and can't be read again.")?;
    Ok(())
}

pub(super) fn list(context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let answer = context.as_admin(async |client, token| client.apps(token).await)?;
    let header = [
        "NAME",
        "APP_ID",
        "CLIENT_ID",
        "STATUS",
        "SCOPES",
        "TOKEN_TTL",
        "CREATED",
    ];
    let row = |app: &App| {
        [
            app.name.clone(),
            app.app_id.clone(),
            app.client_id.clone(),
            app.status.as_str().to_owned(),
            app.scopes.join(","),
            seconds(app.token_ttl),
            app.created_at.clone(),
        ]
    };
    context
        .output
        .result(&answer, header, |answer| answer.apps.iter().map(row).collect())?;
    context.output.note(&format!("Total: {}", answer.total))?;
    Ok(())
}

pub(super) fn get(args: &AppGetArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let id = segment(args.id.clone(), "ID")?;
    let app = context.as_admin(async |client, token| client.app(token, &id).await)?;
    context.output.fields(&app, |app| {
        [
            ("APP_ID", app.app_id.clone()),
            ("NAME", app.name.clone()),
            ("CLIENT_ID", app.client_id.clone()),
            ("STATUS", app.status.as_str().to_owned()),
            ("SCOPES", app.scopes.join(",")),
            ("TOKEN_TTL", seconds(app.token_ttl)),
            ("CREATED", app.created_at.clone()),
            ("UPDATED", app.updated_at.clone()),
        ]
    })?;
    Ok(())
}

pub(super) fn update(args: AppUpdateArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let id = segment(required(args.id, "--id")?, "--id")?;
    let request = UpdateAppRequest {
        scopes: given(args.scopes)
            .map(|list| scopes(&list, context.output))
            .transpose()?,
        token_ttl: args.token_ttl,
    };
    if request.scopes.is_none() && request.token_ttl.is_none() {
        let text = "at least one of --scopes or --token-ttl is required";
        return Err(CliError::Usage(text.to_owned()));
    }
    let app = context.as_admin(async |client, token| client.update_app(token, &id, &request).await)?;
    let header = ["APP_ID", "SCOPES", "TOKEN_TTL", "UPDATED_AT"];
    context.output.result(&app, header, |app| {
        let row = [
            app.app_id.clone(),
            app.scopes.join(","),
            seconds(app.token_ttl),
            app.updated_at.clone(),
        ];
        vec![row]
    })?;
    Ok(())
}

pub(super) fn remove(args: AppRemoveArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let id = segment(required(args.id, "--id")?, "--id")?;
    let answer = context.as_admin(async |client, token| client.remove_app(token, &id).await)?;
    context
        .output
        .result(&answer, ["APP_ID", "STATUS", "DEREGISTERED_AT"], |answer| {
            let status = answer.status.as_str().to_owned();
            vec![[answer.app_id.clone(), status, answer.deregistered_at.clone()]]
        })?;
    let note = format!("App {} is deregistered: it can't log in again.", answer.app_id);
    context.output.note(&note)?;
    Ok(())
}
