//! Each wrong value, by its sentence; none says a secret.

use super::*;

fn parse(url: &str) -> Result<Settings, SettingsError> {
    Settings::parse(url, None)
}

#[test]
fn a_url_names_place_role_database_and_tls() {
    let settings = parse(
        "postgres://broker:p%40ss@db.example:6432/agent%2Fwrit?sslrootcert=/ca.crt&sslcert=/c.crt&sslkey=/c.key\
         &pool_size=3&pool_wait_seconds=7",
    )
    .unwrap();
    assert_eq!(settings.place, Place::Host("db.example".to_owned(), 6432));
    assert_eq!(
        (settings.user.as_str(), settings.database.as_str()),
        ("broker", "agent/writ")
    );
    assert_eq!(settings.password.as_ref().unwrap().expose(), "p@ss");
    let client = Some(("/c.crt".into(), "/c.key".into()));
    assert_eq!(
        settings.transport,
        Transport::Tls {
            ca: "/ca.crt".into(),
            client
        }
    );
    assert_eq!((settings.pool, settings.pool_wait), (3, Duration::from_secs(7)));
}

#[test]
fn what_is_left_out_has_a_default() {
    let settings = parse("postgresql://broker@db.example/aw?sslmode=disable").unwrap();
    assert_eq!(settings.place, Place::Host("db.example".to_owned(), 5432));
    assert_eq!(settings.transport, Transport::Plain);
    assert!(settings.password.is_none());
    assert_eq!((settings.pool, settings.pool_wait), (8, Duration::from_secs(2)));
}

#[test]
fn a_socket_is_named_by_its_folder_and_speaks_no_tls() {
    for url in ["postgres://a@/d?host=/run/pg", "postgres://a@%2Frun%2Fpg/d"] {
        let settings = parse(url).unwrap();
        assert_eq!(settings.place, Place::Socket("/run/pg".into(), 5432), "{url}");
        assert_eq!(settings.transport, Transport::Plain);
    }
}

#[test]
fn an_address_of_ipv6_stands_in_brackets() {
    for (url, port) in [
        ("postgres://a@[::1]/d?sslmode=disable", 5432),
        ("postgres://a@[::1]:1/d?sslmode=disable", 1),
    ] {
        assert_eq!(parse(url).unwrap().place, Place::Host("::1".to_owned(), port));
    }
}

#[test]
fn each_wrong_value_is_told_what_would_be_right() {
    use SettingsError as E;
    let plain = "sslmode=disable";
    for (url, wanted) in [
        ("", E::Scheme),
        ("mysql://a@h/d", E::Scheme),
        ("data.db", E::Scheme),
        ("postgres://h/d", E::NoUser),
        ("postgres://@h/d?sslmode=disable", E::NoUser),
        ("postgres://a@/d", E::NoHost),
        ("postgres://a@h,i/d", E::ManyHosts),
        ("postgres://a@h?sslmode=disable", E::NoDatabase),
        ("postgres://a@h/?sslmode=disable", E::NoDatabase),
        ("postgres://a@h:0/d", E::Port),
        ("postgres://a@h:x/d", E::Port),
        ("postgres://a@h:70000/d", E::Port),
        ("postgres://a@[::1]5/d", E::Port),
        ("postgres://a@h%/d", E::Encoding("host")),
        ("postgres://a:%zz@h/d", E::Encoding("password")),
        ("postgres://a:%ff@h/d", E::Encoding("password")),
        ("postgres://a@h/%f", E::Encoding("database")),
        ("postgres://a%00@h/d", E::Nul("role")),
        ("postgres://a@h/d?sslmode=require", E::SslMode),
        ("postgres://a@h/d?sslmode=prefer", E::SslMode),
        ("postgres://a@h/d", E::NoAuthority),
        ("postgres://a@h/d?sslmode=verify-full", E::NoAuthority),
        ("postgres://a@h/d?sslrootcert=/c&sslcert=/c", E::HalfClient),
        ("postgres://a@h/d?sslrootcert=/c&sslkey=/c", E::HalfClient),
        (
            "postgres://a@h/d?sslmode=disable&sslrootcert=/c",
            E::Unused("sslrootcert"),
        ),
        ("postgres://a@h/d?sslmode=disable&sslkey=/c", E::Unused("sslkey")),
        ("postgres://a@/d?host=/s&sslmode=verify-full", E::SocketTls),
        ("postgres://a@/d?host=s", E::SocketFolder),
        ("postgres://a@h/d?host=/s", E::SocketFolder),
        ("postgres://a@h/d?sslmode=disable&sslmode=disable", E::Twice("sslmode")),
        ("postgres://a@h:p?w@h/d", E::NoOption),
        ("postgres://a@h/d?sslmode=", E::Empty("sslmode")),
        ("postgres://a@h/d?sslmode", E::Empty("sslmode")),
    ] {
        assert_eq!(parse(url).unwrap_err(), wanted, "{url}");
    }
    for (option, most) in [("pool_size", 100), ("pool_wait_seconds", 60)] {
        for value in ["0", "-1", "x", "101"] {
            let error = parse(&format!("postgres://a@h/d?{plain}&{option}={value}")).unwrap_err();
            assert_eq!(error, E::Number { option, most });
            assert!(error.to_string().contains(option), "{error}");
        }
    }
    for name in ["connect_timeout", "application_name", "channel_binding", "sslMode"] {
        let error = parse(&format!("postgres://a@h/d?{name}=1")).unwrap_err();
        assert_eq!(error, E::UnknownOption(name.to_owned()));
        assert!(
            error.to_string().contains(name) && error.to_string().contains("sslrootcert"),
            "{error}"
        );
    }
}

#[test]
fn a_password_stands_in_the_url_or_in_a_file() {
    let file = Some(Path::new("/run/secrets/db"));
    let settings = Settings::parse("postgres://a@h/d?sslmode=disable", file).unwrap();
    assert_eq!(settings.password_file.as_deref(), file);
    let both = Settings::parse("postgres://a:b@h/d?sslmode=disable", file);
    assert_eq!(both.unwrap_err(), SettingsError::TwoPasswords);
}

#[test]
fn neither_an_error_nor_debug_says_the_password() {
    const SECRET: &str = "hunter2";
    for url in [
        "postgres://a:hunter2@h/d?sslmode=disable",
        "postgres://a:hunter2@h:x/d",
        "postgres://a:hunter2",
        "postgres//a:hunter2@h/d",
        "postgres://a:hunter2@h/d?sslmode=hunter2",
        "postgres://a:hunter2@h,hunter2/d",
        "postgres://a@b:?hunter2@h/d",
        "postgres://a:?hunter2@h/d",
    ] {
        let text = match parse(url) {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!text.contains(SECRET), "{url}: {text}");
    }
}
