//! Names in inputs that stand for what only a running broker knows.
//!
//! `{admin}`, `{agent}`, `{app}`, `{attested}`, `{controller}`, `{pod}`: bearers. `{launch}`, `{nonce}`, `{public_key}`,
//! `{signature}` (of the last nonce): what a registration needs. `{agent_id}`, `{jti}`: of the agent.
//! `{app_id}`, `{client_id}`, `{client_secret}`: of the app.

/// The names, in the order in which they are looked for.
pub(crate) const NAMES: [&str; 15] = [
    "{admin}",
    "{agent}",
    "{agent_id}",
    "{jti}",
    "{app}",
    "{app_id}",
    "{attested}",
    "{client_id}",
    "{client_secret}",
    "{controller}",
    "{pod}",
    "{launch}",
    "{nonce}",
    "{public_key}",
    "{signature}",
];

/// The input with each name replaced by what `value` says.
pub(crate) fn fill(input: &[u8], mut value: impl FnMut(&'static str) -> String) -> Vec<u8> {
    let mut filled = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((first, tail)) = rest.split_first() {
        let name = NAMES.into_iter().find(|name| rest.starts_with(name.as_bytes()));
        if let Some(name) = name {
            filled.extend_from_slice(value(name).as_bytes());
            rest = &rest[name.len()..];
        } else {
            filled.push(*first);
            rest = tail;
        }
    }
    filled
}
