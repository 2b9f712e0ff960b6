//! Whether a presented token stands. Where replicas share a store, what this one may lack is asked for before a token is
//! refused.

use agentwrit_protocol::session::TokenState;
use agentwrit_store::Result as StoreResult;
use agentwrit_tokens::verifier::{TokenError, Verified, Verifier};

use super::signing_keys::KeyFollower;

#[derive(Clone, Copy)]
pub(crate) struct TokenCheck<'a> {
    pub(crate) verifier: &'a Verifier,
    pub(crate) keys: KeyFollower<'a>,
}

#[derive(Debug)]
pub(crate) enum Validity {
    Valid(Verified),
    Invalid,
    /// The store has not been loaded: nothing can be said.
    Unknown,
}

impl TokenCheck<'_> {
    /// Checks a token by a view that is no older than it may be, and once more where another replica may be ahead: it has
    /// renewed the token twice, and this one is newer than what the view has heard of; or it signs with a key that was
    /// published since the keys were last looked at.
    ///
    /// # Errors
    /// When the store has to be asked, and can't be.
    pub(crate) async fn verify(self, token: &str) -> StoreResult<Result<Verified, TokenError>> {
        let store = self.keys.store;
        store.current_view().await?;
        let verified = self.verifier.verify(token);
        let may_change = match &verified {
            Ok(verified) if verified.state == TokenState::Renewed => store.newest_view().await?,
            Err(error) if error.may_be_of_newer_key() => self.keys.look_again().await?,
            Ok(_) | Err(_) => false,
        };
        Ok(if may_change {
            self.verifier.verify(token)
        } else {
            verified
        })
    }

    /// Whether a token is valid now. The audience is not looked at.
    ///
    /// # Errors
    /// As for [`TokenCheck::verify`].
    pub(crate) async fn validate(self, token: &str) -> StoreResult<Validity> {
        Ok(match self.verify(token).await? {
            Ok(verified) => match verified.state {
                TokenState::Active => Validity::Valid(verified),
                TokenState::Unknown => Validity::Unknown,
                TokenState::Renewed | TokenState::Ended(_) | TokenState::IssuedBeforeStore => Validity::Invalid,
            },
            Err(_) => Validity::Invalid,
        })
    }
}
