//! One request before anything is mounted, and what to tell the user when it fails.
//!
//! A LIST of one key, because its answers name what is wrong; HeadBucket's errors have no body.

use crate::config::resolve::Connection;
use crate::config::target::Target;
use crate::failure::{Exit, Failure};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::object_store::ObjectStore;
use crate::store::types::ListRequest;

/// Most buckets named when the wanted one is not there.
const SUGGESTIONS_MAX: usize = 8;

/// Asks the store for one key of what is to be mounted.
///
/// # Errors
/// [`Failure`] that says what is wrong and what to do.
pub async fn check(store: &dyn ObjectStore, target: &Target, connection: &Connection) -> Result<(), Failure> {
    let error = match target {
        Target::AllBuckets => match store.list_buckets().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        },
        Target::Bucket { bucket, prefix } => {
            let request = ListRequest {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                max_keys: 1,
                ..ListRequest::default()
            };
            match store.list(request).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            }
        }
    };
    let failure = explain(&error, target, connection);
    match (error.kind, target) {
        (ErrorKind::NoSuchBucket | ErrorKind::NotFound, Target::Bucket { bucket, .. }) => {
            Err(suggest_buckets(failure, store, bucket).await)
        }
        _ => Err(failure),
    }
}

/// The screen for a failed first request.
pub fn explain(error: &StoreError, target: &Target, connection: &Connection) -> Failure {
    let endpoint = match (&connection.endpoint_url, &connection.region) {
        (Some(url), _) => url.clone(),
        (None, Some(region)) => format!("AWS in region {region}"),
        (None, None) => "AWS".to_owned(),
    };
    let failure = match error.kind {
        ErrorKind::NoSuchBucket | ErrorKind::NotFound | ErrorKind::InvalidBucketName => {
            Failure::new(Exit::NoInput, format!("there is no bucket {} at {endpoint}", bucket_of(target)))
                .advise("check its name and, for a store other than AWS, --endpoint-url")
        }
        ErrorKind::Credentials if error.code.is_none() => no_credentials(connection),
        ErrorKind::Credentials => {
            Failure::new(Exit::Denied, format!("{endpoint} does not accept these credentials"))
                .advise("check access key and secret; temporary ones expire and need their session token")
                .advise(profile_advice(connection))
        }
        ErrorKind::AccessDenied => {
            let what = match target {
                Target::AllBuckets => "these credentials may not list the buckets".to_owned(),
                Target::Bucket { .. } => format!("these credentials may not list {target}"),
            };
            if connection.anonymous {
                return Failure::new(Exit::Denied, format!("{target} is not public"))
                    .detail(error.to_string())
                    .advise("leave out --no-sign-request to use your credentials");
            }
            let permission =
                if *target == Target::AllBuckets { "s3:ListAllMyBuckets" } else { "s3:ListBucket" };
            Failure::new(Exit::Denied, what)
                .advise(format!(
                    "allow {permission}, and s3:GetObject, s3:PutObject, s3:DeleteObject to work in it"
                ))
                .advise(profile_advice(connection))
        }
        ErrorKind::WrongRegion => wrong_region(error, target, connection),
        ErrorKind::ClockSkew => {
            Failure::new(Exit::Config, "the clock of this machine is off: S3 refuses the signature").advise(
                "set it, for example with 'timedatectl set-ntp true'; 'date -u' shows what it says now",
            )
        }
        ErrorKind::Unreachable | ErrorKind::Timeout => {
            Failure::new(Exit::Unavailable, format!("{endpoint} does not answer")).advise(
                match &connection.endpoint_url {
                    Some(url) => format!("see whether the server runs and is reached: curl -sSI {url}"),
                    None => "check the network, DNS and proxy settings, and the region".to_owned(),
                },
            )
        }
        ErrorKind::Throttled | ErrorKind::ServerFault | ErrorKind::QuotaExceeded => {
            Failure::new(Exit::Unavailable, format!("{endpoint} cannot serve requests now"))
                .advise("try again later")
        }
        ErrorKind::UploadGone
        | ErrorKind::Precondition
        | ErrorKind::Conflict
        | ErrorKind::NotModified
        | ErrorKind::InvalidRange
        | ErrorKind::InvalidRequest
        | ErrorKind::TooLarge
        | ErrorKind::Archived
        | ErrorKind::Unsupported
        | ErrorKind::Corrupt
        | ErrorKind::Protocol => {
            Failure::new(Exit::Unavailable, format!("{endpoint} does not answer as an S3 server does"))
                .advise("check --endpoint-url, and --force-path-style for servers without a name per bucket")
        }
    };
    failure.detail(error.to_string())
}

fn bucket_of(target: &Target) -> &str {
    match target {
        Target::Bucket { bucket, .. } => bucket,
        Target::AllBuckets => "list",
    }
}

fn no_credentials(connection: &Connection) -> Failure {
    let profile = match &connection.profile {
        Some(name) => format!("profile '{name}'"),
        None => "the profile AWS_PROFILE names, or 'default',".to_owned(),
    };
    Failure::new(Exit::Denied, "no AWS credentials were found")
        .detail("tried: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;")
        .detail(format!("  {profile} of ~/.aws/config and ~/.aws/credentials, SSO and processes included;"))
        .detail("  web identity (AWS_WEB_IDENTITY_TOKEN_FILE), ECS, EC2 instance metadata")
        .advise(
            "log in or set them as for the aws command; 'aws sts get-caller-identity' tells what it finds",
        )
        .advise("name a profile with --profile")
        .advise("for a public bucket: --no-sign-request")
}

fn profile_advice(connection: &Connection) -> String {
    match &connection.profile {
        Some(name) => format!("profile '{name}' was used; choose another with --profile"),
        None => "choose a profile with --profile; 'aws sts get-caller-identity' tells who you are".to_owned(),
    }
}

fn wrong_region(error: &StoreError, target: &Target, connection: &Connection) -> Failure {
    let bucket = bucket_of(target);
    match (&error.region, &connection.region) {
        (Some(right), Some(wrong)) => {
            Failure::new(Exit::Config, format!("bucket {bucket} is in region {right}, not in {wrong}"))
                .advise(format!("use --region {right}"))
        }
        (Some(right), None) => Failure::new(Exit::Config, format!("bucket {bucket} is in region {right}"))
            .advise(format!("use --region {right}, or set AWS_REGION")),
        (None, _) => Failure::new(Exit::Config, format!("bucket {bucket} is in another region"))
            .advise(format!("ask for it: aws s3api get-bucket-location --bucket {bucket}"))
            .advise("then name it with --region"),
    }
}

async fn suggest_buckets(failure: Failure, store: &dyn ObjectStore, wanted: &str) -> Failure {
    // Not being allowed to list buckets is usual and no second error.
    let Ok(buckets) = store.list_buckets().await else { return failure };
    let mut names: Vec<String> = buckets.into_iter().map(|bucket| bucket.name).collect();
    if names.is_empty() {
        return failure.detail("these credentials have no bucket here at all");
    }
    let score = |name: &String| strsim::jaro_winkler(name, wanted);
    names.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let more = if names.len() > SUGGESTIONS_MAX { ", ..." } else { "" };
    names.truncate(SUGGESTIONS_MAX);
    failure.detail(format!("there are: {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connection() -> Connection {
        Connection {
            endpoint_url: None,
            region: None,
            profile: None,
            anonymous: false,
            force_path_style: None,
            max_connections: 1,
            max_attempts: 1,
            retry_adaptive: false,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            transfer_timeout: Duration::from_secs(1),
        }
    }

    fn screen(kind: ErrorKind, change: impl FnOnce(&mut StoreError, &mut Connection)) -> Failure {
        let mut error = StoreError::new(kind, "ListObjectsV2", "s3://data/", "words of the store");
        let mut connection = connection();
        change(&mut error, &mut connection);
        let target = Target::Bucket { bucket: "data".into(), prefix: String::new() };
        explain(&error, &target, &connection)
    }

    #[test]
    fn each_condition_has_its_screen() {
        let wrong_region = screen(ErrorKind::WrongRegion, |e, c| {
            e.region = Some("eu-west-1".into());
            c.region = Some("us-east-1".into());
        });
        assert_eq!(wrong_region.exit, Exit::Config);
        assert!(wrong_region.to_string().contains("--region eu-west-1"));

        let missing = screen(ErrorKind::Credentials, |_, c| c.profile = Some("work".into()));
        assert_eq!(missing.exit, Exit::Denied);
        for word in ["AWS_ACCESS_KEY_ID", "profile 'work'", "instance metadata", "--no-sign-request"] {
            assert!(missing.to_string().contains(word), "{word}");
        }

        let wrong = screen(ErrorKind::Credentials, |e, _| e.code = Some("InvalidAccessKeyId".into()));
        assert!(wrong.what.contains("does not accept"));
        assert!(wrong.to_string().contains("InvalidAccessKeyId"));

        let gone = screen(ErrorKind::NoSuchBucket, |_, _| {});
        assert_eq!((gone.exit, gone.what.contains("no bucket data")), (Exit::NoInput, true));

        let away = screen(ErrorKind::Unreachable, |_, c| c.endpoint_url = Some("http://h:1".into()));
        assert_eq!(away.exit, Exit::Unavailable);
        assert!(away.to_string().contains("curl -sSI http://h:1"));

        assert_eq!(screen(ErrorKind::ClockSkew, |_, _| {}).exit, Exit::Config);
        assert!(screen(ErrorKind::AccessDenied, |_, _| {}).to_string().contains("s3:ListBucket"));
    }
}
