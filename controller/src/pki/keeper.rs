//! Who knows what is trusted: the keeper of the installation's own CA, or of those by which cert-manager signs.

use std::time::Duration;

use super::ca_keeper::CaKeeper;
use super::issued::keeper::IssuedKeeper;
use super::trust::{Trust, Trusted};
use crate::leader::leadership::Leadership;

/// Between two looks that came to nothing.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) enum Keeper {
    Own(Box<CaKeeper>),
    Issued(Box<IssuedKeeper>),
}

impl Keeper {
    async fn look(&mut self) -> Option<Trusted> {
        match self {
            Self::Own(keeper) => keeper.look().await,
            Self::Issued(keeper) => keeper.look().await,
        }
    }

    /// Waits until there is a CA.
    pub(crate) async fn first(&mut self) -> Trusted {
        loop {
            if let Some(trusted) = self.look().await {
                return trusted;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps `trust` up to date; runs for ever.
    pub(crate) async fn run(mut self, trust: Trust, leadership: Leadership) {
        let overlap = match &self {
            Self::Own(keeper) => keeper.overlap(),
            Self::Issued(keeper) => keeper.overlap(),
        };
        // Several times within an overlap.
        let pause = (overlap / 10).clamp(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let as_of = trust.now().as_of;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Nothing is published before who begins to lead has looked.
                () = leadership.led_anew(as_of.unwrap_or(0)) => {}
            }
            match self.look().await {
                Some(trusted) => {
                    if trust.set(trusted) {
                        tracing::info!("the CA certificates that are trusted, or the one that signs, have changed");
                    }
                }
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }
}
