//! What a figure is held against, from the same run and core: raw signatures, an empty route, fsyncs.

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use agentwrit_testkit::load::process::{Usage, pin, usage};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use ed25519_dalek::{Signer, SigningKey};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::database::Counters;
use crate::measure::{Idle, Sample, Server, window};
use crate::operations::Repeat;

/// How long each raw rate is measured.
const RAW: Duration = Duration::from_millis(100);
/// As the broker's front has it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of what is signed: the first two parts of a usual token.
const MESSAGE: usize = 500;
/// PKCS#8 v1 of an Ed25519 seed (RFC 8410 §7), up to the seed.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A rate by the clock on the wall, and by CPU time, which doesn't suffer from neighbours.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Rate {
    /// A second.
    pub wall: f64,
    /// A second of CPU time.
    pub cpu: f64,
}

/// Raw rates on the broker's core.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Raw {
    /// aws-lc-rs with a prepared key.
    pub sign_aws: Rate,
    /// aws-lc-rs.
    pub verify_aws: Rate,
    /// `jsonwebtoken::crypto::sign`, which is aws-lc-rs with what it does around.
    pub sign_jwt: Rate,
    /// `jsonwebtoken::crypto::verify`.
    pub verify_jwt: Rate,
    /// ed25519-dalek.
    pub sign_dalek: Rate,
    /// ed25519-dalek, `verify_strict`.
    pub verify_dalek: Rate,
    /// 4 KiB written and `fdatasync`.
    pub fsync: Rate,
}

impl Raw {
    /// The better of the libraries: what a broker could have at best.
    pub fn sign(&self) -> Rate {
        best(self.sign_aws, self.sign_dalek)
    }

    /// The better of the libraries.
    pub fn verify(&self) -> Rate {
        best(self.verify_aws, self.verify_dalek)
    }
}

fn best(a: Rate, b: Rate) -> Rate {
    if a.cpu >= b.cpu { a } else { b }
}

/// What was measured right before a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// Signatures and fsync.
    pub raw: Raw,
    /// An empty POST route, same clients, same bodies.
    pub empty: Sample,
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn measure(mut work: impl FnMut()) -> Rate {
    let (begun, cpu) = (moment::now(), thread_cpu());
    let mut count = 0_u64;
    while begun.elapsed() < RAW {
        for _ in 0..16 {
            work();
        }
        count += 16;
    }
    Rate {
        wall: moment::rate(count, begun.elapsed()),
        cpu: moment::rate(count, thread_cpu().saturating_sub(cpu)),
    }
}

fn fsync(path: &Path) -> std::io::Result<Rate> {
    let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
    let (begun, cpu) = (moment::now(), thread_cpu());
    let mut count = 0_u64;
    while begun.elapsed() < RAW * 2 {
        if count.is_multiple_of(256) {
            file.rewind()?;
        }
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(Rate {
        wall: moment::rate(count, begun.elapsed()),
        cpu: moment::rate(count, thread_cpu().saturating_sub(cpu)),
    })
}

/// All raw rates, measured here and now; takes most of a second.
///
/// # Errors
/// When a library refuses its own key, or the disk fails.
pub fn raw(scratch: &Path) -> Result<Raw> {
    let broken = |what: &str| Failure::Broker(format!("raw rates: {what}"));
    let message = [b'a'; MESSAGE];
    let seed = [9_u8; 32];
    let dalek = SigningKey::from_bytes(&seed);
    let dalek_public = dalek.verifying_key();
    let signature = dalek.sign(&message);
    let aws = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| broken("aws-lc-rs key"))?;
    let aws_public = UnparsedPublicKey::new(&ED25519, dalek_public.to_bytes());
    let mut der = PKCS8.to_vec();
    der.extend_from_slice(&seed);
    let (encoding, decoding) = (
        EncodingKey::from_ed_der(&der),
        DecodingKey::from_ed_der(dalek_public.as_bytes()),
    );
    let text = jsonwebtoken::crypto::sign(&message, &encoding, Algorithm::EdDSA).map_err(|_| broken("jsonwebtoken"))?;
    if !jsonwebtoken::crypto::verify(&text, &message, &decoding, Algorithm::EdDSA).unwrap_or(false)
        || aws_public.verify(&message, signature.to_bytes().as_slice()).is_err()
        || dalek_public.verify_strict(&message, &signature).is_err()
    {
        return Err(broken("the libraries disagree"));
    }
    Ok(Raw {
        sign_aws: measure(|| {
            black_box(aws.sign(black_box(&message)));
        }),
        verify_aws: measure(|| {
            black_box(aws_public.verify(black_box(&message), signature.to_bytes().as_slice())).ok();
        }),
        sign_jwt: measure(|| {
            black_box(jsonwebtoken::crypto::sign(
                black_box(&message),
                &encoding,
                Algorithm::EdDSA,
            ))
            .ok();
        }),
        verify_jwt: measure(|| {
            black_box(jsonwebtoken::crypto::verify(
                &text,
                black_box(&message),
                &decoding,
                Algorithm::EdDSA,
            ))
            .ok();
        }),
        sign_dalek: measure(|| {
            black_box(dalek.sign(black_box(&message)));
        }),
        verify_dalek: measure(|| {
            black_box(dalek_public.verify_strict(black_box(&message), &signature)).ok();
        }),
        fsync: fsync(scratch).map_err(Failure::system("fsync"))?,
    })
}

/// Serves the empty route and the raw rates, for ever: what `bench-broker stand-in` does.
///
/// # Errors
/// When it can't listen.
pub async fn serve(scratch: PathBuf) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(Failure::system("listen"))?;
    let address = listener.local_addr().map_err(Failure::system("listen"))?;
    let announced = scratch.with_extension("address");
    std::fs::write(&announced, address.to_string()).map_err(Failure::system("say where it listens"))?;
    let router = Router::new()
        .route("/empty", post(|body: Bytes| async move { drop(body) }))
        .route("/raw", get(rates))
        .with_state(Arc::new(scratch));
    loop {
        let (stream, _) = listener.accept().await.map_err(Failure::system("accept"))?;
        stream.set_nodelay(true).map_err(Failure::system("accept"))?;
        let router = router.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let router = router.clone();
                async move { router.oneshot(request.map(Body::new)).await }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // Clients that go are no error.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn rates(State(scratch): State<Arc<PathBuf>>) -> std::result::Result<String, String> {
    let raw = raw(&scratch).map_err(|error| error.to_string())?;
    serde_json::to_string(&raw).map_err(|error| error.to_string())
}

/// The other process, on the broker's core.
pub struct StandIn {
    child: Child,
    address: SocketAddr,
    apart: bool,
}

impl StandIn {
    /// Starts it, with a scratch file in this folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start(folder: &Path, cores: Option<(usize, usize)>) -> Result<Self> {
        let scratch = folder.join("stand-in.scratch");
        let announced = scratch.with_extension("address");
        let program = std::env::current_exe().map_err(Failure::system("find this program"))?;
        if let Some((theirs, _)) = cores {
            pin(theirs)?;
        }
        let spawned = Command::new(program)
            .arg("stand-in")
            .arg(&scratch)
            .stdin(Stdio::null())
            .spawn();
        if let Some((_, ours)) = cores {
            pin(ours)?;
        }
        let child = spawned.map_err(Failure::system("start the stand-in"))?;
        let mut stand_in = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            apart: cores.is_some(),
        };
        for _ in 0..1000 {
            if let Some(address) = std::fs::read_to_string(&announced)
                .ok()
                .and_then(|text| text.parse().ok())
            {
                stand_in.address = address;
                return Ok(stand_in);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Failure::Broker("the stand-in did not start".into()))
    }

    /// Raw rates now, and the empty route with this many clients and these bodies.
    ///
    /// # Errors
    /// When it fails.
    pub async fn beside(&self, clients: usize, body: &str, length: Duration) -> Result<Beside> {
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.send(&request("GET", "/raw", "", "")).await?;
        let raw: Raw = answer.expect("raw rates", 200)?;
        let requests = Arc::new(vec![request("POST", "/empty", "", body)]);
        let mut loads = Vec::new();
        for _ in 0..clients {
            loads.push(Repeat::rotate(
                Connection::open(self.address).await?,
                "empty route",
                &requests,
                0,
            ));
        }
        let empty = window(loads, length, self, Idle::Spins).await?;
        Ok(Beside { raw, empty })
    }
}

impl Server for StandIn {
    fn usage(&self) -> Result<Usage> {
        usage(&self.child.id().to_string())
    }

    fn apart(&self) -> bool {
        self.apart
    }

    async fn commits(&self) -> Result<u64> {
        Ok(0)
    }

    fn database(&self) -> Result<Option<Counters>> {
        Ok(None)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Gone already, at worst.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
