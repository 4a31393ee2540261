//! Brings the file behind an `https:` input into the store: what the engine makes a stage of for each of them.
//!
//! The digest decides whether the bytes are right, so redirects, mirrors and second tries are harmless; a body that does not
//! have it is refused whole. It is written where the engine publishes from, never held in memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::port::RecordType::Bytes;
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use crate::network::{block_on, cancelled, cause};

/// Longest time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest silence of a server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A file elsewhere.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Its address.
    pub url: String,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Name that it gets.
    pub file: String,
}

impl Stage for Fetch {
    const KIND: &'static str = "fetch";
    const VERSION: u32 = 1;
    const FETCHES: bool = true;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().writes("files", Bytes)
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        if job.spec().offline {
            let why = format!(
                "`{}` is not in the store and `--offline` forbids fetching it: run once without it",
                self.shown()
            );
            return Err(StageError::failed(why));
        }
        let folder = job.output("files");
        std::fs::create_dir(folder).map_err(|e| StageError::io("create", folder, &e))?;
        let path = folder.join(&self.file);
        let found = block_on(async {
            tokio::select! {
                fetched = self.fetch(&path, job) => fetched,
                () = cancelled(job) => Err(StageError::Cancelled),
            }
        })??;
        if found == self.sha256 {
            return Ok(());
        }
        let mend = "look at what is served there; if it is right, write its digest into the pipeline";
        let why = format!("`{}` has sha256 {found}, expected {}: {mend}", self.shown(), self.sha256);
        Err(StageError::failed(why))
    }
}

impl Fetch {
    /// Writes the body to `path`; returns its SHA-256.
    async fn fetch(&self, path: &Path, job: &Job<'_>) -> Result<String, StageError> {
        let mut response = self.client()?.get(&self.url).send().await.map_err(|e| self.lost(&e))?;
        let status = response.status();
        if !status.is_success() {
            let why = format!("`{}` cannot be fetched: the server answers {status}", self.shown());
            let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
            return Err(if may_pass { StageError::Retry(why) } else { StageError::Failed(why) });
        }
        let total = response.content_length().unwrap_or(0);
        let io = |verb: &'static str| move |e: std::io::Error| StageError::io(verb, path, &e);
        let mut file = BufWriter::new(File::create(path).map_err(io("create"))?);
        let (mut digest, mut done) = (Context::new(&SHA256), 0);
        while let Some(chunk) = response.chunk().await.map_err(|e| self.lost(&e))? {
            digest.update(&chunk);
            file.write_all(&chunk).map_err(io("write"))?;
            done += chunk.len() as u64;
            job.progress(done, total.max(done), "bytes", "");
        }
        file.flush().map_err(io("write"))?;
        Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Follows redirects, but never from https to anything else. Plain http is for servers on this machine.
    fn client(&self) -> Result<reqwest::Client, StageError> {
        // Another part of the process may have installed a provider already; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("watershed/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        let builder = if self.url.starts_with("https:") {
            builder.https_only(true).redirect(reqwest::redirect::Policy::limited(10))
        } else {
            // Needs no certificates, so it works on a machine without any.
            builder.no_proxy().redirect(reqwest::redirect::Policy::none()).tls_certs_only([])
        };
        builder.build().map_err(|e| StageError::Environment(format!("cannot make an https client: {}", cause(&e))))
    }

    fn lost(&self, error: &reqwest::Error) -> StageError {
        StageError::Retry(format!("`{}` cannot be fetched: {}", self.shown(), cause(error)))
    }

    /// The address without its query, which may hold more than a log should.
    fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}
