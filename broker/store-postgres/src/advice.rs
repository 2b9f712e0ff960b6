//! What to do when the database can't be used: the setting that is wrong, and what would be right.

use std::io::ErrorKind;

use tokio_postgres::Error;

pub(crate) const SERVER: &str =
    "AA_DATABASE_URL must name the host and port of a PostgreSQL that runs and can be reached from here";
const PASSWORD: &str =
    "the password in the file of AA_DATABASE_PASSWORD_FILE, or in AA_DATABASE_URL, must be that of the role";
const NO_PASSWORD: &str = "the server asks for a password: name its file in AA_DATABASE_PASSWORD_FILE";
const LOGIN: &str = "pg_hba.conf of the server must let the role of AA_DATABASE_URL in from here, in the way that sslmode and sslcert say";
const DATABASE: &str = "AA_DATABASE_URL must name a database that is there, or one must be made: CREATE DATABASE";
const RIGHTS: &str =
    "the role of AA_DATABASE_URL must own the database, or its owner must call SELECT agentwrit.grant_broker('role')";
const CONNECTIONS: &str = "max_connections of the server must leave 2 + pool_size connections for each replica";
pub(crate) const PRIMARY: &str = "AA_DATABASE_URL must name the primary, which takes writes";
const NO_TLS: &str =
    "the server must speak TLS (ssl = on), or AA_DATABASE_URL must say sslmode=disable, which encrypts nothing";
const CERTIFICATE: &str = "sslrootcert must hold the authority of the server's certificate, and the host of AA_DATABASE_URL be a name in that";
const CLIENT: &str =
    "sslcert and sslkey of AA_DATABASE_URL must be a certificate that the server's authority has signed, and its key";
pub(crate) const VERSION: &str = "AA_DATABASE_URL must name a PostgreSQL 13 or newer";
pub(crate) const ENCODING: &str = "AA_DATABASE_URL must name a database made with ENCODING 'UTF8'";

/// For an error of the driver; empty when there is nothing that a setting could mend.
pub(crate) fn of(error: &Error) -> &'static str {
    if let Some(code) = error.code() {
        return of_state(code.code());
    }
    of_chain(error)
}

/// Whether the server could be reached, and what we have doesn't do for it, or what it has for us.
pub(crate) fn is_about_access(advice: &str) -> bool {
    [NO_PASSWORD, NO_TLS, CERTIFICATE, CLIENT].contains(&advice)
}

/// SQLSTATE (PostgreSQL, appendix A).
fn of_state(code: &str) -> &'static str {
    match code {
        "28P01" => PASSWORD,
        "28000" => LOGIN,
        "3D000" => DATABASE,
        "42501" => RIGHTS,
        "53300" => CONNECTIONS,
        "25006" => PRIMARY,
        _ => "",
    }
}

/// Errors that the server has not sent: the driver gives them no codes, so some are known by their words.
fn of_chain(error: &(dyn std::error::Error + 'static)) -> &'static str {
    const WORDS: [(&str, &str); 6] = [
        ("password missing", NO_PASSWORD),
        ("does not support TLS", NO_TLS),
        ("invalid peer certificate", CERTIFICATE),
        ("received fatal alert", CLIENT),
        ("failed to lookup address", SERVER),
        ("error connecting to server", SERVER),
    ];
    let mut next = Some(error);
    let mut found = "";
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::TimedOut | ErrorKind::NotFound
            )
        {
            return SERVER;
        }
        let text = error.to_string();
        // The innermost says most.
        if let Some((_, advice)) = WORDS.iter().find(|(words, _)| text.contains(words)) {
            found = advice;
        }
        next = error.source();
    }
    found
}
