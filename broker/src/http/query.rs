//! Query strings.

use percent_encoding::percent_decode_str;

use agentwrit_store::FilterColumn;

/// The endpoints that read a query string, each with the parameters that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryEndpoint {
    /// The audit query.
    AuditEvents,
    /// The removal of a policy.
    RemovePolicy,
    /// The newest refusals.
    Denials,
}

impl QueryEndpoint {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::AuditEvents, Self::RemovePolicy, Self::Denials];

    /// Every parameter that it reads: no other gets through to its handler.
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Self::AuditEvents => {
                let filters = FilterColumn::ALL.iter().map(|column| column.as_str());
                filters.chain(["since", "until", "limit", "offset", "cursor"]).collect()
            }
            Self::RemovePolicy => vec!["uid", "lease_epoch", "sequence", "revoke"],
            Self::Denials => vec!["after"],
        }
    }
}

/// The parameters that `endpoint` reads, in order, decoded; `+` is a space, as in HTML forms.
pub fn parameters(query: &str, endpoint: QueryEndpoint) -> Vec<(&'static str, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    let names = endpoint.names();
    query
        .split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name);
            let name = names.iter().find(|known| **known == name)?;
            Some((*name, decode(value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_ignored() {
        assert_eq!(
            parameters(
                "uid=1&&%73equence=x%3Dy+z&revoke&lease_epoch=%ff&after=7",
                QueryEndpoint::RemovePolicy
            ),
            [
                ("uid", "1"),
                ("sequence", "x=y z"),
                ("revoke", ""),
                ("lease_epoch", "\u{fffd}")
            ]
            .map(|(name, value)| (name, value.to_owned()))
        );
    }
}
