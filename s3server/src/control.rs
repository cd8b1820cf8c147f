//! The control interface under `/_pailfs/`: knobs and counters over HTTP, without signature and not counted.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use s3s::Body;

use crate::knobs::Fault;
use crate::service::Shared;

/// The path prefix of control requests; no bucket can have this name.
pub(crate) const PREFIX: &str = "/_pailfs/";

/// Longest body of a control request.
const BODY_BYTES_MAX: usize = 64 * 1024;

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut answer = Response::new(Body::from(text));
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, json);
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut answer = Response::new(Body::from(message.into()));
    *answer.status_mut() = status;
    answer
}

fn done() -> Response<Body> {
    text(StatusCode::NO_CONTENT, "")
}

/// A number from the query; an empty or missing one is None.
///
/// # Errors
/// What is wrong with it, as text.
fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.filter(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value).next() {
        None => Ok(None),
        Some(value) => value.parse().map(Some).map_err(|_| format!("{name} is not a number")),
    }
}

async fn add_fault(shared: &Shared, body: Incoming) -> Result<Response<Body>, String> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    let fault: Fault = serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?;
    shared.knobs.add_fault(fault);
    Ok(done())
}

/// Serves a control request; `path` is what follows [`PREFIX`].
pub(crate) async fn serve(shared: &Shared, path: &str, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query();
    let outcome = match (&parts.method, path) {
        (&Method::GET, "counters") => Ok(json(&shared.tally.snapshot())),
        (&Method::POST, "counters/reset") => {
            shared.tally.reset();
            Ok(done())
        }
        (&Method::PUT, "latency") => number(query, "ms").map(|ms| {
            shared.knobs.set_latency(std::time::Duration::from_millis(ms.unwrap_or(0)));
            done()
        }),
        (&Method::PUT, "rate") => number(query, "bytes_per_s").map(|rate| {
            shared.knobs.set_rate(rate);
            done()
        }),
        (&Method::GET, "faults") => Ok(json(&serde_json::json!({
            "faults": shared.knobs.faults(),
            "hit": shared.knobs.faults_hit(),
        }))),
        (&Method::POST, "faults") => add_fault(shared, body).await,
        (&Method::DELETE, "faults") => {
            shared.knobs.clear_faults();
            Ok(done())
        }
        _ => Ok(text(
            StatusCode::NOT_FOUND,
            "GET counters, POST counters/reset, PUT latency?ms=, PUT rate?bytes_per_s=, \
             GET, POST (JSON) and DELETE faults\n",
        )),
    };
    outcome.unwrap_or_else(|wrong| text(StatusCode::BAD_REQUEST, wrong + "\n"))
}
