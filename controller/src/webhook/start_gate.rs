//! What the start of a pod's application waits for.

use std::str::FromStr;

use agentwrit_protocol::inject::START_GATES;

/// One of [`START_GATES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartGate {
    /// The token, by a startup probe: the kubelet looks once a second, for as long as it takes.
    Probe,
    /// The token, by a hook of the sidecar that the kubelet waits for: no pause, but a bound, and until then the pod shows no
    /// state and no logs.
    Hook,
    /// Nothing: the application waits for the token file itself.
    None,
}

impl FromStr for StartGate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let gates = START_GATES.iter().zip([Self::Probe, Self::Hook, Self::None]);
        let found = gates.into_iter().find(|(name, _)| **name == text);
        found.map(|(_, gate)| gate).ok_or_else(|| {
            let names: Vec<String> = START_GATES.iter().map(|name| format!("{name:?}")).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}
