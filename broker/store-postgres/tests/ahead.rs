//! What the commands of a batch foresee is asked for at once; what they decide is as if each had asked by itself.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentwrit_protocol::UnixSeconds;
use agentwrit_store::testing::START;
use agentwrit_store::testing::suite::Bench;
use agentwrit_store::testing::suite::rows::{launch_token, session};
use agentwrit_store::{Command, EndReason, Foreseen, LaunchTokenHash, Renewal, Result, Tx};
use agentwrit_store_postgres::testing::Database;
use async_trait::async_trait;
use futures_util::future::join_all;

const SID: &str = "000010000000000100000000000000aa";
const FIRST: &str = "000010000000000100000000000000bb";
const NEXT: &str = "000010000000000100000000000000cc";
/// Commands that are sent before the committer has its turn: one batch.
const MANY: usize = 20;

fn in_a_minute() -> UnixSeconds {
    UnixSeconds::new(START + 60)
}

/// What one of the commands of a batch does.
#[derive(Clone, Copy)]
enum Act {
    Burn,
    Use,
    Renew,
    End,
    /// Says nothing of what it will ask for, and bars the agent.
    Bar,
    Look,
}

#[async_trait]
impl Command for Act {
    /// Whether it did it; of a look, whether the agent is barred.
    type Outcome = bool;

    fn foresees(&self) -> Vec<Foreseen> {
        match self {
            Self::Burn => vec![Foreseen::Nonce("nonce".into(), in_a_minute().start())],
            Self::Use => vec![Foreseen::LaunchToken(LaunchTokenHash::of("launch"))],
            Self::Renew | Self::End | Self::Look => vec![Foreseen::Session(SID.into())],
            Self::Bar => vec![],
        }
    }

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        match self {
            Self::Burn => tx.consume_nonce("nonce", in_a_minute().start()).await,
            Self::Use => {
                let token = tx.launch_token(&LaunchTokenHash::of("launch")).await?.unwrap();
                Ok(token.consumed_at.is_none() && tx.consume_launch_token(&token.hash).await?)
            }
            Self::Bar => {
                let session = tx.session(&SID.into()).await?.unwrap();
                tx.bar_agent(&session.agent_id).await.map(|()| true)
            }
            Self::Look => Ok(tx.session(&SID.into()).await?.unwrap().barred),
            Self::End => {
                let session = tx.session(&SID.into()).await?.unwrap();
                let now = tx.now_millis();
                tx.end_session(&session, EndReason::Released, now).await
            }
            Self::Renew => {
                let session = tx.session(&SID.into()).await?.unwrap();
                if session.jti != *FIRST || session.ended_at.is_some() {
                    return Ok(false);
                }
                let previous = Renewal {
                    jti: session.jti.clone(),
                    until: tx.now_millis(),
                    exp: session.exp,
                    key: None,
                };
                tx.renew_session(&session, &NEXT.into(), session.iat, session.exp, &previous)
                    .await
            }
        }
    }
}

/// A store with a session and a launch token, and what came of these commands in one batch.
async fn outcomes(acts: &[Act]) -> (Bench, Vec<bool>) {
    let bench = Bench::open(&Database::new()).await;
    bench
        .commit(|tx| {
            Box::pin(async move {
                tx.insert_launch_token(&launch_token("launch")).await?;
                tx.insert_session(&mut session(SID, FIRST)).await
            })
        })
        .await
        .unwrap();
    let done = join_all(acts.iter().map(|act| bench.store.commit(*act))).await;
    (bench, done.into_iter().map(Result::unwrap).collect())
}

fn only_the_first() -> Vec<bool> {
    (0..MANY).map(|number| number == 0).collect()
}

#[tokio::test]
async fn of_a_batch_one_burns_a_nonce() {
    let (bench, done) = outcomes(&[Act::Burn; MANY]).await;
    assert_eq!(done, only_the_first());
    assert!(!bench.store.commit(Act::Burn).await.unwrap(), "nor does a later one");
}

#[tokio::test]
async fn of_a_batch_one_uses_a_launch_token() {
    let (_, done) = outcomes(&[Act::Use; MANY]).await;
    assert_eq!(done, only_the_first());
}

#[tokio::test]
async fn of_a_batch_one_renews_a_token() {
    let (bench, done) = outcomes(&[Act::Renew; MANY]).await;
    assert_eq!(done, only_the_first());
    let read = bench
        .commit(|tx| Box::pin(async move { tx.session(&SID.into()).await }))
        .await;
    assert_eq!(read.unwrap().unwrap().jti, *NEXT);
}

#[tokio::test]
async fn an_end_in_a_batch_is_seen_by_what_follows() {
    let (_, done) = outcomes(&[Act::Burn, Act::End, Act::Renew, Act::End, Act::Look]).await;
    assert_eq!(done, [true, true, false, false, false]);
}

#[tokio::test]
async fn what_says_nothing_of_its_reads_may_write_anything() {
    let (_, done) = outcomes(&[Act::Look, Act::Bar, Act::Look, Act::Renew, Act::Look]).await;
    assert_eq!(done, [false, true, true, true, true]);
}
