//! TLS files that change while the broker runs.

use agentwrit_server::tls::Tls;
use tokio::signal::unix::Signal;

use super::reload::check_regularly;

/// Reads the TLS files again, for ever.
pub(super) async fn watch(tls: Option<&Tls>, hangup: Option<Signal>) {
    let Some(tls) = tls else {
        return std::future::pending().await;
    };
    let found = |changed| {
        if changed {
            tracing::info!(target: "HTTP", component = "TLS", "certificate files have changed");
        }
    };
    let report = |problem: &str| {
        tracing::warn!(target: "HTTP", component = "TLS", error = %problem, "keeping the last good certificate");
    };
    check_regularly(hangup, || tls.refresh(), found, report).await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use agentwrit_server::tls::TlsFiles;
    use rcgen::generate_simple_self_signed;

    use super::*;
    use crate::process::reload::CHECK_EVERY;

    fn write(folder: &Path) {
        let made = generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
        std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_every_ten_seconds() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let files = TlsFiles {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            client_ca: None,
        };
        let tls = Tls::load(files).unwrap();
        let work = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            write(folder.path());
            tokio::time::sleep(CHECK_EVERY).await;
            assert!(!tls.refresh().unwrap(), "they were read already");
            std::fs::write(folder.path().join("tls.crt"), "broken").unwrap();
            tokio::time::sleep(CHECK_EVERY).await;
            write(folder.path());
            tokio::time::sleep(CHECK_EVERY).await;
            assert!(!tls.refresh().unwrap(), "a broken file ends nothing");
        };
        tokio::select! {
            () = watch(Some(&tls), None) => {}
            () = work => return,
        }
        panic!("it works for ever");
    }
}
