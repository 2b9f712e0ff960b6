//! Brokers that `awrit` is run against: a real one, and one that answers as the test says.

use std::ops::Deref;
use std::sync::Arc;

use agentwrit_client::{BrokerClient, ClientConfig};
use agentwrit_protocol::Sensitive;
use agentwrit_testkit::{ADMIN_SECRET, Call, FakeReply, Setup, ThreadedBroker};
use tempfile::TempDir;

use super::support::{Ended, awrit};

pub(crate) const ADMIN_TOKEN: &str = "admin-token-0123456789";

/// The broker itself, on the machine's clock.
pub(crate) struct RealBroker(ThreadedBroker);

impl Deref for RealBroker {
    type Target = ThreadedBroker;

    fn deref(&self) -> &ThreadedBroker {
        &self.0
    }
}

impl RealBroker {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With these settings; see [`Setup::set`].
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        Self::start(Setup::new(settings))
    }

    /// With these settings in a folder that exists.
    pub(crate) fn in_folder(folder: TempDir, settings: &[(&str, &str)]) -> Self {
        Self::start(Setup::in_folder(Arc::new(folder), settings))
    }

    pub(crate) fn start(mut setup: Setup) -> Self {
        setup.system_clock = true;
        Self(ThreadedBroker::start(setup))
    }

    /// Runs `awrit` as its admin; neither secret nor token may show.
    pub(crate) fn awrit(&self, arguments: &[&str]) -> Ended {
        awrit_as_admin(&self.url, arguments, "eyJ")
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        environment(&self.url)
    }

    /// Asks it something in the test's own runtime.
    pub(crate) fn ask<T>(&self, work: impl AsyncFnOnce(BrokerClient) -> T) -> T {
        let client = BrokerClient::new(ClientConfig::new(&self.url)).unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work(client))
    }

    /// A token of the admin's.
    pub(crate) fn admin_token(&self) -> Sensitive {
        self.ask(async |client| client.admin_auth(&ADMIN_SECRET.into()).await.unwrap().access_token)
    }
}

/// A broker that lets the admin log in, and answers everything else as the test says.
pub(crate) struct FakeBroker {
    broker: agentwrit_testkit::FakeBroker,
    pub(crate) url: String,
}

/// `METHOD path?query`, bearer and body of a request, and the answer to it.
type Reply = fn(&str, &str, &str) -> (u16, String);

impl FakeBroker {
    pub(crate) fn plain(reply: Reply) -> Self {
        Self::start(move |call| answer(call, reply))
    }

    /// One that says that it is this date.
    pub(crate) fn dated(date: &'static str, reply: Reply) -> Self {
        Self::start(move |call| answer(call, reply).header("date", date))
    }

    fn start(answer: impl Fn(&Call) -> FakeReply + Send + Sync + 'static) -> Self {
        let broker = agentwrit_testkit::FakeBroker::in_thread(answer);
        Self {
            url: broker.url(),
            broker,
        }
    }

    /// Runs `awrit` as its admin; neither secret nor token may show.
    pub(crate) fn awrit(&self, arguments: &[&str]) -> Ended {
        awrit_as_admin(&self.url, arguments, ADMIN_TOKEN)
    }

    /// What it was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.broker.calls().iter().map(Call::line).collect()
    }
}

fn answer(call: &Call, reply: Reply) -> FakeReply {
    let (status, body) = if call.line() == "POST /v1/admin/auth" {
        login(&call.body)
    } else {
        reply(&call.line(), call.bearer(), &call.body)
    };
    FakeReply::text(status, body)
}

fn login(body: &str) -> (u16, String) {
    if body == format!(r#"{{"secret":"{ADMIN_SECRET}"}}"#) {
        let token = format!(r#"{{"access_token":"{ADMIN_TOKEN}","expires_in":300,"token_type":"Bearer"}}"#);
        return (200, token);
    }
    let refusal = r#"{"status":401,"detail":"invalid credentials","error_code":"unauthorized"}"#;
    (401, refusal.to_owned())
}

fn environment(url: &str) -> [(&str, &str); 2] {
    [("AACTL_BROKER_URL", url), ("AACTL_ADMIN_SECRET", ADMIN_SECRET)]
}

fn awrit_as_admin(url: &str, arguments: &[&str], token: &str) -> Ended {
    let ended = awrit(&environment(url), arguments);
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains(ADMIN_SECRET) && !text.contains(token), "{ended:?}");
    }
    ended
}
