//! TLS files that change while the broker runs.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use crate::tls::Tls;

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Reads the TLS files again, for ever: every 10 s, and at once on a hangup signal.
pub(super) async fn watch(tls: Option<&Tls>, mut hangup: Option<Signal>) {
    let Some(tls) = tls else {
        return std::future::pending().await;
    };
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = received(hangup.as_mut()) => told = None,
        }
        match tls.refresh() {
            Ok(changed) => {
                told = None;
                if changed {
                    tracing::info!(target: "HTTP", component = "TLS", "certificate files have changed");
                }
            }
            Err(error) => {
                let problem = error.to_string();
                // Once, not every ten seconds.
                if told.as_ref() != Some(&problem) {
                    tracing::warn!(target: "HTTP", component = "TLS", error = %error, "keeping the last good certificate");
                    told = Some(problem);
                }
            }
        }
    }
}

/// The next signal; never, when nobody listens for any.
async fn received(signal: Option<&mut Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::generate_simple_self_signed;

    use super::*;
    use crate::config::TlsMode;

    fn write(folder: &Path) {
        let made = generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
        std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_every_ten_seconds() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let mode = TlsMode::Tls {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            client_ca: None,
        };
        let tls = Tls::load(&mode).unwrap().unwrap();
        let work = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            write(folder.path());
            tokio::time::sleep(LOOK_EVERY).await;
            assert!(!tls.refresh().unwrap(), "they were read already");
            std::fs::write(folder.path().join("tls.crt"), "broken").unwrap();
            tokio::time::sleep(LOOK_EVERY).await;
            write(folder.path());
            tokio::time::sleep(LOOK_EVERY).await;
            assert!(!tls.refresh().unwrap(), "a broken file ends nothing");
        };
        tokio::select! {
            () = watch(Some(&tls), None) => {}
            () = work => return,
        }
        panic!("it works for ever");
    }
}
