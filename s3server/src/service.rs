//! What happens to a request before and after s3s: counting, faults, the region check, latency and rate.
//!
//! The order: name it, count it, meet it with a fault, check the region, let s3s serve it, delay the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use s3s::Body;
use s3s::service::S3Service;

use crate::classify::{Classified, classify};
use crate::config::WrongRegion;
use crate::control;
use crate::counters::{InFlight, Tally};
use crate::knobs::{FaultKind, Knobs};
use crate::wire::{Damage, Hangup, ReplyBody, RequestBody};

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) s3: S3Service,
    pub(crate) knobs: Arc<Knobs>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) region: Option<(String, WrongRegion)>,
    pub(crate) request_ids: AtomicU64,
}

/// An error answer in S3's form.
pub(crate) fn error_answer(status: StatusCode, code: &str, message: &str, extra: &str) -> Response<Body> {
    let code = code.replace(['<', '>', '&'], "");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    );
    let mut answer = Response::new(Body::from(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

fn internal_error() -> Response<Body> {
    let message = "We encountered an internal error. Please try again.";
    error_answer(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message, "")
}

/// The region for which a request is signed: from its Authorization header or its presigned query.
fn signed_region(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let of_scope = |scope: &str| scope.split('/').nth(2).map(str::to_owned);
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let (_, rest) = authorization.to_str().ok()?.split_once("Credential=")?;
        return of_scope(rest.split(',').next()?);
    }
    let credential = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    of_scope(&percent_encoding::percent_decode_str(credential).decode_utf8().ok()?)
}

impl Shared {
    /// Serves one request on a connection.
    pub(crate) async fn serve(
        self: Arc<Self>,
        hangup: Arc<Hangup>,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Infallible> {
        if let Some(path) = request.uri().path().strip_prefix(control::PREFIX) {
            let path = path.to_owned();
            let answer = control::serve(&self, &path, request).await;
            return Ok(self.finished(answer, None, None, None));
        }
        let asked =
            classify(request.method(), request.uri().path(), request.uri().query(), request.headers());
        let in_flight = self.tally.arrived(asked.operation);
        let rate = self.knobs.rate();
        let is_head = request.method() == Method::HEAD;
        let fault = self.fault(&asked, &hangup).await;
        let mut answer = self.answer(request, rate, fault.as_ref()).await;
        let latency = self.knobs.latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let id = self.request_ids.fetch_add(1, Ordering::Relaxed);
        if let Ok(id) = HeaderValue::try_from(format!("PAILFS{id:010X}")) {
            answer.headers_mut().insert("x-amz-request-id", id);
        }
        let damage = match fault {
            Some(FaultKind::TruncatedBody) => Some(Damage::Truncate),
            Some(FaultKind::CorruptBody) => Some(Damage::Corrupt),
            _ => None,
        };
        let empty = is_head || answer.body().is_end_stream();
        if damage == Some(Damage::Truncate) && empty {
            hangup.close_when_flushed();
        }
        Ok(self.finished(answer, rate, damage.map(|damage| (damage, hangup)), Some(in_flight)))
    }

    fn finished(
        &self,
        answer: Response<Body>,
        rate: Option<u64>,
        damage: Option<(Damage, Arc<Hangup>)>,
        in_flight: Option<InFlight>,
    ) -> Response<ReplyBody> {
        let declared = answer.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        let len = declared.or(answer.body().size_hint().exact());
        let request = in_flight.map(|in_flight| (Arc::clone(&self.tally), in_flight));
        answer.map(|body| ReplyBody::new(body, len, request, rate, damage))
    }

    /// The fault that meets this request; those that give no answer do not return from here.
    async fn fault(&self, asked: &Classified, hangup: &Hangup) -> Option<FaultKind> {
        let mut cleared = self.knobs.watch_cleared();
        match self.knobs.take_fault(asked.operation, asked.key.as_deref())? {
            FaultKind::Reset => {
                hangup.reset();
                std::future::pending().await
            }
            FaultKind::Stall => {
                // An error means that the server is gone, and this future with it.
                let _ = cleared.changed().await;
                None
            }
            other => Some(other),
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        rate: Option<u64>,
        fault: Option<&FaultKind>,
    ) -> Response<Body> {
        let wrong_region = self.wrong_region(request.headers(), request.uri());
        // A client that waits for a go-ahead has not sent its body, and need not.
        let waits = request.headers().contains_key(header::EXPECT);
        let (parts, incoming) = request.into_parts();
        let (body, remainder) = RequestBody::new(incoming, Arc::clone(&self.tally), rate);
        let refused = match fault {
            Some(FaultKind::SlowDown) => Some(error_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "Please reduce your request rate.",
                "",
            )),
            Some(FaultKind::InternalError) => Some(internal_error()),
            Some(FaultKind::Status { code, s3_code }) => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Some(error_answer(status, s3_code, "A fault of the test server.", ""))
            }
            _ => wrong_region,
        };
        let answer = match refused {
            Some(answer) => answer,
            None => {
                let served = self.s3.call(Request::from_parts(parts, Body::http_body_unsync(body))).await;
                match (served, fault) {
                    (Ok(_), Some(FaultKind::DoneButError)) => internal_error(),
                    (Ok(answer), _) => answer,
                    (Err(error), _) => {
                        tracing::error!(?error, "the protocol layer failed");
                        internal_error()
                    }
                }
            }
        };
        if !waits {
            remainder.drain().await;
        }
        answer
    }

    fn wrong_region(&self, headers: &HeaderMap, uri: &Uri) -> Option<Response<Body>> {
        let (region, reply) = self.region.as_ref()?;
        let signed = signed_region(headers, uri)?;
        if signed == *region {
            return None;
        }
        let extra = format!("<Region>{region}</Region>");
        let mut answer = match reply {
            WrongRegion::Malformed => {
                let message = format!(
                    "The authorization header is malformed; the region is wrong; expecting '{region}'"
                );
                error_answer(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", &message, &extra)
            }
            WrongRegion::Redirect => {
                let message = "The bucket you are attempting to access must be addressed using the specified \
                               endpoint. Please send all future requests to this endpoint.";
                error_answer(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect", message, &extra)
            }
        };
        if let Ok(value) = HeaderValue::try_from(region) {
            answer.headers_mut().insert("x-amz-bucket-region", value);
        }
        Some(answer)
    }
}
