//! The one table from the SDK's errors to [`StoreError`]. Conditions are told by S3 code, status and error
//! type, never by the text of a message.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::ByteStreamError;

use crate::store::error::{ErrorKind, StoreError};

/// Header in which AWS names the region of a bucket.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// What a failed request means.
pub(super) fn from_sdk<E>(
    operation: &'static str,
    target: impl Display,
    error: SdkError<E, HttpResponse>,
) -> StoreError
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let mut mapped = match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code();
            let kind = code.and_then(kind_of_code).unwrap_or_else(|| kind_of_status(operation, status));
            let message = match service.err().message() {
                Some(message) => message.to_owned(),
                None => format!("HTTP status {status}"),
            };
            let mut mapped = StoreError::new(kind, operation, target, message);
            mapped.code = code.map(str::to_owned);
            mapped.region = service.raw().headers().get(REGION_HEADER).map(str::to_owned);
            if mapped.region.is_some() && matches!(status, 301 | 307) {
                mapped.kind = ErrorKind::WrongRegion;
            }
            mapped
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let kind = match status {
                200..=299 => broken_answer(&error),
                _ => kind_of_status(operation, status),
            };
            StoreError::new(kind, operation, target, context(&error))
        }
        SdkError::TimeoutError(_) => {
            StoreError::new(ErrorKind::Timeout, operation, target, "no answer within the time allowed")
        }
        SdkError::DispatchFailure(failure) => {
            let kind = if failure.is_timeout() {
                ErrorKind::Timeout
            } else if find::<CredentialsError>(&error).is_some() {
                ErrorKind::Credentials
            } else if failure.is_user() {
                ErrorKind::InvalidRequest
            } else {
                ErrorKind::Unreachable
            };
            StoreError::new(kind, operation, target, context(&error))
        }
        SdkError::ConstructionFailure(_) => {
            let kind = match find::<CredentialsError>(&error) {
                Some(_) => ErrorKind::Credentials,
                None => ErrorKind::InvalidRequest,
            };
            StoreError::new(kind, operation, target, context(&error))
        }
        // The SDK reserves the right to new variants; nothing is known of them.
        _ => StoreError::new(ErrorKind::Protocol, operation, target, context(&error)),
    };
    mapped.request_id = request_id(&error);
    mapped.source = Some(Arc::new(error));
    mapped
}

/// What a body that broke on its way means.
pub(super) fn from_body(operation: &'static str, target: impl Display, error: ByteStreamError) -> StoreError {
    let kind = match find::<io::Error>(&error).map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => ErrorKind::Timeout,
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe,
        ) => ErrorKind::Unreachable,
        // An early end, a checksum that is wrong, a rate below the minimum.
        _ => ErrorKind::Corrupt,
    };
    let mut mapped = StoreError::new(kind, operation, target, context(&error));
    mapped.source = Some(Arc::new(error));
    mapped
}

/// The kind of one error of a DeleteObjects answer.
pub(super) fn kind_of_entry(code: Option<&str>) -> ErrorKind {
    code.and_then(kind_of_code).unwrap_or(ErrorKind::Protocol)
}

fn request_id<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    error.raw_response().and_then(|response| response.request_id()).map(str::to_owned)
}

/// The error and its causes in words. They speak of hosts and sockets; requests, and with them signatures, are
/// not part of them.
fn context(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = inner(error);
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = inner(error);
    }
    text
}

/// A success whose body could not be read: cut off on its way, or not what S3 sends.
fn broken_answer(error: &(dyn StdError + 'static)) -> ErrorKind {
    match find::<io::Error>(error) {
        Some(_) => ErrorKind::Corrupt,
        None => ErrorKind::Protocol,
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = inner(error);
    }
    None
}

/// The next error of the chain. `io::Error` leaves out its own payload, so that is asked for.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(payload) => Some(payload as &(dyn StdError + 'static)),
        None => error.source(),
    }
}

/// S3's codes, those of other stores included.
fn kind_of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" => ErrorKind::NotFound,
        "NoSuchBucket" => ErrorKind::NoSuchBucket,
        "NoSuchUpload" => ErrorKind::UploadGone,
        "PreconditionFailed" => ErrorKind::Precondition,
        "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Conflict,
        "NotModified" => ErrorKind::NotModified,
        "InvalidRange" => ErrorKind::InvalidRange,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "NotSignedUp" | "MethodNotAllowed"
        | "InvalidPayer" | "InvalidSecurity" | "Forbidden" | "UnauthorizedAccess" | "AccessForbidden" => {
            ErrorKind::AccessDenied
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "AuthorizationQueryParametersError"
        | "CredentialsNotSupported" => ErrorKind::Credentials,
        "RequestTimeTooSkewed" | "RequestExpired" => ErrorKind::ClockSkew,
        "PermanentRedirect"
        | "Redirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint"
        | "InvalidRegion" => ErrorKind::WrongRegion,
        "InvalidBucketName" => ErrorKind::InvalidBucketName,
        "InvalidArgument"
        | "InvalidRequest"
        | "InvalidURI"
        | "InvalidTag"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "InvalidPartNumber"
        | "InvalidEncryptionAlgorithmError"
        | "InvalidStorageClass"
        | "InvalidTargetBucketForLogging"
        | "EntityTooSmall"
        | "KeyTooLongError"
        | "KeyTooLong"
        | "MalformedXML"
        | "MalformedPOSTRequest"
        | "MetadataTooLarge"
        | "MissingContentLength"
        | "MissingRequestBodyError"
        | "MissingSecurityHeader"
        | "BadRequest"
        | "UnexpectedContent"
        | "XMinioInvalidObjectName" => ErrorKind::InvalidRequest,
        "EntityTooLarge" | "MaxMessageLengthExceeded" | "TooManyParts" => ErrorKind::TooLarge,
        "QuotaExceeded"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientStorage"
        | "InsufficientCapacity"
        | "QuotaExceededException" => ErrorKind::QuotaExceeded,
        "InvalidObjectState" | "ObjectNotInActiveTierError" | "RestoreAlreadyInProgress" => {
            ErrorKind::Archived
        }
        "NotImplemented" | "UnsupportedOperation" => ErrorKind::Unsupported,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "RequestThrottled"
        | "ServiceUnavailable" => ErrorKind::Throttled,
        "InternalError" | "InternalServerError" | "InternalFailure" | "BadGateway" => ErrorKind::ServerFault,
        "RequestTimeout" | "RequestTimeoutException" => ErrorKind::Timeout,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "IncompleteBody"
        | "XAmzContentChecksumMismatch" => ErrorKind::Corrupt,
        _ => return None,
    })
}

/// What a status means when there is no code, as with HEAD, or one that is not known.
fn kind_of_status(operation: &'static str, status: u16) -> ErrorKind {
    match status {
        301 | 302 | 307 | 308 => ErrorKind::WrongRegion,
        304 => ErrorKind::NotModified,
        400 | 405 | 411 | 413 | 414 | 431 => ErrorKind::InvalidRequest,
        401 => ErrorKind::Credentials,
        403 => ErrorKind::AccessDenied,
        404 => match operation {
            "HeadBucket" | "ListObjectsV2" | "ListMultipartUploads" | "DeleteObjects" => {
                ErrorKind::NoSuchBucket
            }
            _ => ErrorKind::NotFound,
        },
        408 => ErrorKind::Timeout,
        409 => ErrorKind::Conflict,
        412 => ErrorKind::Precondition,
        416 => ErrorKind::InvalidRange,
        429 | 503 => ErrorKind::Throttled,
        501 => ErrorKind::Unsupported,
        507 => ErrorKind::QuotaExceeded,
        500..=599 => ErrorKind::ServerFault,
        _ => ErrorKind::Protocol,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_404_of_head_is_the_object_or_the_bucket() {
        assert_eq!(kind_of_status("HeadObject", 404), ErrorKind::NotFound);
        assert_eq!(kind_of_status("HeadBucket", 404), ErrorKind::NoSuchBucket);
    }

    #[test]
    fn the_chain_passes_through_io_errors() {
        let inner = io::Error::new(io::ErrorKind::UnexpectedEof, "early end");
        let outer = io::Error::other(inner);
        let found = find::<io::Error>(&outer).unwrap();
        assert_eq!(found.kind(), io::ErrorKind::Other);
        assert!(context(&outer).contains("early end"));
    }
}
