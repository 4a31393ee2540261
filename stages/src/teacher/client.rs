//! The HTTP client: one exchange at a time, pinned address, no redirects, bounded replies, the key redacted.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use watershed_engine::StageError;

use crate::network::cause;

use super::endpoint::Endpoint;
use super::run_keys::TeacherRun;
use super::secret::Secret;
use super::verdict::{Answer, Exchange};

/// openai-python's limit for making the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// No chat completion is longer; more is a broken or hostile server.
const LONGEST_BODY: usize = 10 << 20;

/// Asks one endpoint.
pub struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
    secret: Option<Secret>,
}

impl Client {
    /// Resolves the endpoint, reads the key and makes the client. Sends nothing.
    ///
    /// # Errors
    /// When the endpoint may not be asked, the key is missing, or this machine has no certificates for https.
    pub fn new(endpoint: &Endpoint, run: &TeacherRun) -> Result<Client, StageError> {
        let addresses = endpoint.resolve(run.allow_private).map_err(StageError::Failed)?;
        let secret = run.api_key.as_ref().map(Secret::read).transpose()?;
        // Another part of the process may have installed a provider already; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .resolve_to_addrs(endpoint.host(), &addresses)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(run.request_timeout.duration()?);
        // Plain http needs no certificates, so a machine without any can still ask a local server.
        let builder = if endpoint.is_https() { builder.https_only(true) } else { builder.tls_certs_only([]) };
        let http = builder
            .build()
            .map_err(|e| StageError::Environment(format!("cannot make an https client: {}", cause(&e))))?;
        Ok(Client { http, url: endpoint.chat_url(), secret })
    }

    /// Sends one request and waits for all of its answer.
    pub async fn exchange(&self, body: &str) -> Exchange {
        match self.ask(body).await {
            Ok(answer) => Exchange::Answer(answer),
            Err(Lost::TooLong) => Exchange::Lost { why: "sends more than 10 MB".into(), sent: true },
            Err(Lost::Http(e)) => Exchange::Lost { why: self.redact(&describe(&e)), sent: !e.is_connect() },
        }
    }

    async fn ask(&self, body: &str) -> Result<Answer, Lost> {
        let mut request =
            self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body.to_string());
        if let Some(mut value) = self.secret.as_ref().and_then(|s| HeaderValue::from_str(&s.bearer()).ok()) {
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut response = request.send().await?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let mut answer = Answer {
            status: response.status().as_u16(),
            should_retry: header("x-should-retry"),
            retry_after_ms: header("retry-after-ms"),
            retry_after: header("retry-after"),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await? {
            if answer.body.len() + chunk.len() > LONGEST_BODY {
                return Err(Lost::TooLong);
            }
            answer.body.extend_from_slice(&chunk);
        }
        answer.body = self.redact(&String::from_utf8_lossy(&answer.body)).into_bytes();
        Ok(answer)
    }

    fn redact(&self, text: &str) -> String {
        self.secret.as_ref().map_or_else(|| text.to_string(), |s| s.redact(text))
    }
}

enum Lost {
    TooLong,
    Http(reqwest::Error),
}

impl From<reqwest::Error> for Lost {
    fn from(error: reqwest::Error) -> Lost {
        Lost::Http(error)
    }
}

fn describe(error: &reqwest::Error) -> String {
    match error {
        e if e.is_connect() && e.is_timeout() => format!("cannot be reached within {} s", CONNECT_TIMEOUT.as_secs()),
        e if e.is_timeout() => "does not answer within `run.request_timeout`".into(),
        e if e.is_connect() => format!("cannot be reached: {}", cause(e)),
        e => format!("breaks the connection: {}", cause(e)),
    }
}
