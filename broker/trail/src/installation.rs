//! Whose a store is. The first broker that opens it writes its installation and its trust domain into it; one of another
//! is refused, since it would take the agents of the first for its own.

use agentwrit_protocol::excerpt::excerpt;
use agentwrit_store::{Installation, MetaKey, Result, StoreError};

/// What a store says of whose it is; a new one, or one of an earlier build, says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Under [`MetaKey::Installation`].
    pub installation: Option<String>,
    /// Under [`MetaKey::TrustDomain`].
    pub trust_domain: Option<String>,
}

/// What opening the store changes in whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// What is to be written.
    pub writes: Vec<(MetaKey, String)>,
    /// The detail of the event that tells of it, when the store was another's.
    pub adopted: Option<String>,
}

impl Claim {
    /// That of brokers of `ours` on a store of `owner`; `adopts` is a person's word that it is theirs now.
    ///
    /// # Errors
    /// [`StoreError::OtherInstallation`] when it is another's and nobody said that it is theirs now.
    pub fn of(owner: &Owner, ours: &Installation, adopts: bool) -> Result<Self> {
        let mut claim = Self::default();
        let (mut differences, mut adopted) = (Vec::new(), Vec::new());
        let name = ours.name.as_deref();
        for (setting, what, key, stored, wanted) in [
            (
                "AA_INSTALLATION",
                "installation",
                MetaKey::Installation,
                &owner.installation,
                name,
            ),
            (
                "AA_TRUST_DOMAIN",
                "trust domain",
                MetaKey::TrustDomain,
                &owner.trust_domain,
                Some(ours.trust_domain.as_str()),
            ),
        ] {
            let Some(wanted) = wanted.filter(|wanted| stored.as_deref() != Some(*wanted)) else {
                continue;
            };
            claim.writes.push((key, wanted.to_owned()));
            if let Some(stored) = stored {
                let stored = excerpt(stored);
                differences.push(format!(
                    "{setting} is {wanted:?}, but the store is that of {what} {stored:?}"
                ));
                adopted.push(format!("{what} {stored:?} becomes {wanted:?}"));
            }
        }
        if differences.is_empty() {
            if adopts {
                tracing::warn!(target: "STORE", component = "Installation",
                    "--adopt-installation changes nothing: the store is no other installation's");
            }
        } else if adopts {
            claim.adopted = Some(adopted.join("; "));
        } else {
            return Err(StoreError::OtherInstallation {
                differences: differences.join("; "),
            });
        }
        Ok(claim)
    }

    /// Says that the store was taken over, after the commit of it.
    pub fn tell(&self) {
        if let Some(detail) = &self.adopted {
            tracing::warn!(target: "STORE", component = "Installation", detail, "the store is taken over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(installation: Option<&str>, trust_domain: Option<&str>) -> Owner {
        Owner {
            installation: installation.map(str::to_owned),
            trust_domain: trust_domain.map(str::to_owned),
        }
    }

    fn ours(name: Option<&str>) -> Installation {
        Installation {
            name: name.map(str::to_owned),
            trust_domain: "b.example".to_owned(),
        }
    }

    #[test]
    fn a_store_without_an_owner_takes_the_first() {
        let domain = (MetaKey::TrustDomain, "b.example".to_owned());
        let name = (MetaKey::Installation, "b/agentwrit".to_owned());
        let claim = |owner: Owner, name| Claim::of(&owner, &ours(name), false).unwrap();
        let named = claim(Owner::default(), Some("b/agentwrit"));
        assert_eq!(named.writes, [name.clone(), domain.clone()]);
        assert_eq!(claim(Owner::default(), None).writes, [domain]);
        assert_eq!(
            claim(owner(None, Some("b.example")), Some("b/agentwrit")).writes,
            [name]
        );
        let same = owner(Some("b/agentwrit"), Some("b.example"));
        assert_eq!(claim(same.clone(), Some("b/agentwrit")), Claim::default());
        assert_eq!(claim(same, None), Claim::default(), "an unset name is not compared");
    }

    #[test]
    fn another_owner_is_refused_until_the_store_is_adopted() {
        let theirs = owner(Some("a/agentwrit"), Some("a.example"));
        let refused = Claim::of(&theirs, &ours(Some("b/agentwrit")), false).unwrap_err();
        assert_eq!(refused.kind(), "installation");
        let text = refused.to_string();
        for part in [
            "AA_INSTALLATION is \"b/agentwrit\", but the store is that of installation \"a/agentwrit\"",
            "AA_TRUST_DOMAIN is \"b.example\", but the store is that of trust domain \"a.example\"",
            "AA_DATABASE_URL",
            "--adopt-installation",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let alone = Claim::of(&owner(None, Some("a.example")), &ours(None), false).unwrap_err();
        assert!(!alone.to_string().contains("AA_INSTALLATION"), "{alone}");
        let claim = Claim::of(&theirs, &ours(Some("b/agentwrit")), true).unwrap();
        assert_eq!(claim.writes.len(), 2);
        assert_eq!(
            claim.adopted.as_deref(),
            Some(
                "installation \"a/agentwrit\" becomes \"b/agentwrit\"; trust domain \"a.example\" becomes \"b.example\""
            )
        );
    }

    #[test]
    fn adopting_what_is_ours_changes_nothing() {
        let same = owner(Some("b/agentwrit"), Some("b.example"));
        let claim = Claim::of(&same, &ours(Some("b/agentwrit")), true).unwrap();
        assert_eq!(claim, Claim::default());
        let fresh = Claim::of(&Owner::default(), &ours(Some("b/agentwrit")), true).unwrap();
        assert_eq!(fresh.adopted, None);
    }
}
