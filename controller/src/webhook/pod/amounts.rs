//! CPU and memory of a container, as far as they decide about the class of its pod.

use std::borrow::Cow;

use crate::webhook::json::{FromJson, object};
use crate::webhook::quantity::Quantity;

object! {
    /// What a container asks for, and its limits.
    Amounts { requests: Row = "requests", limits: Row = "limits" }

    Row { cpu: Amount = "cpu", memory: Amount = "memory" }
}

/// A quantity; `None` also for one that the API server refuses after us.
#[derive(Debug, Default)]
pub(crate) struct Amount(Option<Quantity>);

impl<'de> FromJson<'de> for Amount {
    const WANTED: &'static str = "a quantity";

    fn null() -> Option<Self> {
        Some(Self(None))
    }

    fn number(value: i64) -> Option<Self> {
        Self::text(value.to_string().into())
    }

    fn text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(Quantity::parse(&text)))
    }
}

impl Amounts {
    /// Whether CPU and memory are limited, and asked for in full. What isn't asked for is asked for as far as the limit.
    pub(super) fn is_guaranteed(&self) -> bool {
        let in_full = |request: &Amount, limit: &Amount| {
            let limit = limit.0.as_ref().filter(|limit| !limit.is_zero());
            limit.is_some_and(|limit| request.0.as_ref().is_none_or(|request| request == limit))
        };
        let (requests, limits) = (&self.requests, &self.limits);
        in_full(&requests.cpu, &limits.cpu) && in_full(&requests.memory, &limits.memory)
    }
}
