//! Any sequence of steps: no copy that is put back revives a revoked token.

use super::*;

/// What may happen to a store.
#[derive(Debug, Clone, Copy)]
enum Step {
    Register,
    Revoke(usize),
    Copy,
    PutBack(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Register),
        3 => (0..8_usize).prop_map(Step::Revoke),
        2 => Just(Step::Copy),
        2 => (0..8_usize).prop_map(Step::PutBack),
        1 => Just(Step::Restart),
    ]
}

async fn no_revoked_token_stands_after(steps: &[Step]) {
    let mut harness = start().await;
    let (mut tokens, mut revoked, mut copies): (Vec<String>, Vec<String>, Vec<stores::Copy>) = Default::default();
    for step in steps {
        match *step {
            Step::Register => tokens.push(harness.agent(json!({})).await.1),
            Step::Revoke(index) => {
                if let Some(token) = tokens.get(index % tokens.len().max(1)) {
                    // One that the store refuses already can be revoked as well.
                    revoke_token(&harness, token).await;
                    revoked.push(token.clone());
                }
            }
            Step::Copy => {
                let (next, copy) = copied(harness).await;
                harness = next;
                copies.push(copy);
            }
            Step::PutBack(index) => {
                let copy = copies.get(index % copies.len().max(1));
                harness = reopened(harness, || copy.into_iter().for_each(stores::Copy::put_back)).await;
            }
            Step::Restart => harness = reopened(harness, || ()).await,
        }
        for token in &revoked {
            assert!(
                !harness.stands(token).await,
                "a revoked token stands after {step:?} of {steps:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_copy_that_is_put_back_revives_a_revoked_token(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(no_revoked_token_stands_after(&steps));
    }
}
