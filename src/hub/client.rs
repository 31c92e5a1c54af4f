//! Requests to the hub, with patience that ends.
//!
//! A server that says when to ask again is asked then; one that fails now and then is asked again soon; one from which nothing comes is given
//! up after [`GIVE_UP`].

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};
use serde_json::Value;
use tokio::time::sleep;

use super::environment::Environment;
use super::failure::{Failure, Refusal};

/// How long an answer may take to begin, and its next bytes to come. The hub takes its time over a listing of 100,000 files.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How long nothing at all may come forward, at several attempts, before the hub counts as gone.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The longest that is waited for a server that says when to ask again, at once and in all.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const REDIRECTS: usize = 8;
/// Bytes of the longest answer to a question: a listing of 100,000 files is a third of it.
const LONGEST: usize = 64 << 20;

/// Who asks, and whom. One for each thread.
pub struct Client<'e> {
    pub environment: &'e Environment,
    http: reqwest::Client,
    note: &'e (dyn Fn(&str) + Sync),
}

/// What came of a request.
pub enum Problem {
    Refused(Refusal),
    Failed(Failure),
}

impl<'e> Client<'e> {
    /// `note` is told what the user should know.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(environment: &'e Environment, note: &'e (dyn Fn(&str) + Sync)) -> Result<Client<'e>, Failure> {
        // What was asked for under TLS is not taken without it.
        let redirects = redirect::Policy::custom(|attempt| {
            let secure = attempt.previous().first().is_some_and(|first| first.scheme() == "https");
            if attempt.previous().len() > REDIRECTS {
                attempt.error("too many redirects")
            } else if secure && attempt.url().scheme() != "https" {
                attempt.error("a redirect from https to http")
            } else {
                attempt.follow()
            }
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(PATIENCE)
            .redirect(redirects)
            .build()
            .map_err(|error| Failure::Unreachable(format!("no requests can be made: {}", words(&error))))?;
        Ok(Client { environment, http, note })
    }

    /// The JSON at a path below the hub's address.
    pub async fn json(&self, path: &str) -> Result<Value, Problem> {
        let mut pauses = Pauses::new();
        loop {
            let mut answer = self.get(path, 0, &mut pauses).await?;
            let mut bytes = Vec::new();
            let cut = loop {
                match answer.chunk().await {
                    Ok(None) => break None,
                    Ok(Some(piece)) if bytes.len() + piece.len() <= LONGEST => bytes.extend_from_slice(&piece),
                    Ok(Some(_)) => {
                        let text =
                            format!("{}{path} answers with more than {LONGEST} bytes", self.environment.endpoint);
                        return Err(Problem::Failed(Failure::Unreachable(text)));
                    }
                    Err(error) => break Some(words(&error)),
                }
            };
            let wrong = match cut {
                Some(wrong) => wrong,
                None => match serde_json::from_slice(&bytes) {
                    Ok(value) => return Ok(value),
                    Err(_) => "the answer is no JSON".to_string(),
                },
            };
            pauses.wait(self, wrong).await.map_err(Problem::Failed)?;
        }
    }

    /// An answer whose body is to be read: of a file, from a byte on.
    pub async fn get(&self, path: &str, from: u64, pauses: &mut Pauses) -> Result<Response, Problem> {
        let url = format!("{}{path}", self.environment.endpoint);
        loop {
            let mut request = self.http.get(&url);
            if let Some(token) = self.environment.token() {
                // reqwest leaves it out where a redirect leads to another host.
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let wrong = match tokio::time::timeout(PATIENCE + CONNECT, request.send()).await {
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
                Ok(Err(error)) if error.is_builder() => {
                    let text = format!("{url} cannot be asked: {}; HF_ENDPOINT is http:// or https://", words(&error));
                    return Err(Problem::Failed(Failure::Unreachable(text)));
                }
                Ok(Err(error)) if error.is_redirect() => {
                    return Err(Problem::Failed(Failure::Unreachable(format!("{url}: {}", words(&error)))));
                }
                Ok(Err(error)) => words(&error),
                Ok(Ok(answer)) => match answer.status() {
                    status if status.is_success() => return Ok(answer),
                    StatusCode::TOO_MANY_REQUESTS => {
                        let after = retry_after(answer.headers());
                        pauses.as_told(self, after).await.map_err(Problem::Failed)?;
                        continue;
                    }
                    status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                        format!("it answered {status}")
                    }
                    _ => return Err(Problem::Refused(refusal(answer))),
                },
            };
            pauses.wait(self, wrong).await.map_err(Problem::Failed)?;
        }
    }
}

/// The pauses between attempts at one thing.
pub struct Pauses {
    attempts: usize,
    since: Instant,
    next: Duration,
    waited: Duration,
}

impl Pauses {
    pub fn new() -> Pauses {
        Pauses { attempts: 0, since: Instant::now(), next: Duration::from_millis(100), waited: Duration::ZERO }
    }

    /// Something moved.
    pub fn reset(&mut self) {
        *self = Pauses::new();
    }

    /// # Errors
    /// When nothing has moved for too long: with what went wrong last.
    pub async fn wait(&mut self, client: &Client<'_>, wrong: String) -> Result<(), Failure> {
        self.attempts += 1;
        if self.attempts > 1 && self.since.elapsed() + self.next > GIVE_UP {
            let (endpoint, seconds) = (&client.environment.endpoint, self.since.elapsed().as_secs());
            return Err(Failure::Unreachable(format!("nothing came of asking {endpoint} for {seconds} s: {wrong}")));
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(2));
        Ok(())
    }

    /// Waits as long as the server says.
    async fn as_told(&mut self, client: &Client<'_>, after: Option<Duration>) -> Result<(), Failure> {
        let endpoint = &client.environment.endpoint;
        let pause = after.unwrap_or(self.next.max(Duration::from_secs(1)));
        if self.waited + pause > LONGEST_WAIT {
            let seconds = pause.as_secs();
            return Err(Failure::Unreachable(format!(
                "{endpoint} takes no more requests (429) and says to come back in {seconds} s; with HF_TOKEN it takes more"
            )));
        }
        if pause >= Duration::from_secs(1) {
            let seconds = pause.as_secs_f64().ceil();
            (client.note)(&format!("{endpoint} takes no more requests for now (429): waiting {seconds} s"));
        }
        sleep(pause).await;
        self.waited += pause;
        self.since = Instant::now();
        self.next *= 2;
        Ok(())
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = match text.trim().parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let then = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
            (then.timestamp() - chrono::Utc::now().timestamp()) as f64
        }
    };
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e6)).ok()
}

fn refusal(answer: Response) -> Refusal {
    let header = |name: &str| {
        let text = answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        plain(text)
    };
    Refusal { status: answer.status().as_u16(), code: header("x-error-code"), said: header("x-error-message") }
}

/// A server's words, short and without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What was wrong, from its deepest cause.
pub fn words(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if error.is_timeout() {
        return format!("nothing came for {} s", PATIENCE.as_secs());
    }
    plain(&deepest.to_string())
}

/// A text as part of an address; `/` stays where it divides a file's folders.
pub fn encoded(text: &str, keep_slash: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
