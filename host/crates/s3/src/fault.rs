//! What an S3 server's answers mean.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use forebay_model::{Error, ErrorClass};

use crate::address::S3Address;

/// What was tried, for messages, and the right that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doing {
    /// As it begins a message: `reading`.
    pub verb: &'static str,
    /// As policies name it: `s3:GetObject`.
    pub right: &'static str,
}

/// What the caller may have to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no such object.
    Missing,
    /// There is no such upload of parts.
    MissingUpload,
    /// The object is not the one that was meant: a condition does not hold.
    Condition,
    /// Two writers met.
    Conflict,
    /// Whether it was carried out is not known.
    Unclear,
    /// It was not carried out.
    Refused,
}

/// An answer that is none.
#[derive(Debug)]
pub struct Fault {
    /// What the caller may have to do with it.
    pub kind: FaultKind,
    /// What it is for everybody else.
    pub error: Error,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// What the server said.
struct Answer<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    /// The region that the bucket lies in, where it says so.
    region: Option<&'a str>,
}

/// What a request's error means; `name` is what it was about, below the address.
pub fn fault<E>(address: &S3Address, doing: Doing, name: &str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let what = if name.is_empty() { address.to_string() } else { address.url(name) };
    let verb = doing.verb;
    if let SdkError::ServiceError(service) = &error {
        let metadata = service.err().meta();
        let answer = Answer {
            status: service.raw().status().as_u16(),
            code: metadata.code().unwrap_or_default(),
            message: metadata.message().unwrap_or_default(),
            region: service.raw().headers().get("x-amz-bucket-region"),
        };
        let (kind, class, words, hint) = meaning(address, doing, &answer);
        let said = match (answer.code, answer.message) {
            ("", "") => format!("status {}", answer.status),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {}", message.trim_end_matches('.')),
        };
        let error = Error::new(class, format!("{verb} {what}: {words} ({said})"));
        return Fault { kind, error: hinted(error, hint) };
    }
    if let Some(credentials) = credentials_error(&error) {
        return Fault { kind: FaultKind::Refused, error: without_credentials(address, verb, &what, credentials) };
    }
    let server = address.server();
    let reach = format!("check that {server} runs and is reached from here; forebay tries again");
    let unclear = |words: &str, error: Option<Box<dyn StdError + Send + Sync>>| {
        let told = Error::retry(format!("{verb} {what}: {words}")).with_hint(reach);
        Fault { kind: FaultKind::Unclear, error: with_source(told, error) }
    };
    match error {
        SdkError::ConstructionFailure(_) => {
            let told = Error::operator(format!("{verb} {what}: the request cannot be made"))
                .with_hint("correct landing.url, its region and its endpoint");
            Fault { kind: FaultKind::Refused, error: with_source(told, error.into_source().ok()) }
        }
        SdkError::TimeoutError(_) => unclear(&format!("no answer from {server} in time"), None),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            unclear(&format!("no answer from {server} in time"), None)
        }
        SdkError::DispatchFailure(_) => unclear(&format!("{server} is not reached"), error.into_source().ok()),
        SdkError::ResponseError(_) | SdkError::ServiceError(_) | _ => {
            unclear(&format!("the answer of {server} cannot be read"), error.into_source().ok())
        }
    }
}

fn hinted(error: Error, hint: Option<String>) -> Error {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn with_source(error: Error, source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}

type Meaning = (FaultKind, ErrorClass, &'static str, Option<String>);

/// What can be done about an answer. The codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn meaning(address: &S3Address, doing: Doing, answer: &Answer<'_>) -> Meaning {
    let (bucket, server) = (address.bucket(), address.server());
    let operator = |words, hint: String| (FaultKind::Refused, ErrorClass::Operator, words, Some(hint));
    let Answer { status, code, message: _, region } = answer;
    match (*code, *status) {
        ("NoSuchBucket", _) => operator(
            "there is no such bucket",
            format!("make bucket {bucket} on {server}, or correct its name in the url"),
        ),
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidClientTokenId", _) => operator(
            "the credentials are refused",
            format!(
                "check the access key and its secret for {server}: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or the role"
            ),
        ),
        ("ExpiredToken" | "TokenRefreshRequired", _) => {
            operator("the credentials have expired", "get new ones, for example with `aws sso login`".to_owned())
        }
        ("RequestTimeTooSkewed" | "RequestExpired", _) => operator(
            "this machine's clock is not the server's",
            "set this machine's clock, and keep it right by NTP".to_owned(),
        ),
        (
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
            _,
        )
        | (_, 301 | 307) => operator(
            "the bucket lies in another region",
            match region {
                Some(region) => format!("set `region = \"{region}\"` beside the url"),
                None => "set `region` beside the url to the bucket's".to_owned(),
            },
        ),
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden", _) | ("", 401 | 403) => operator(
            "access is denied",
            format!(
                "give these credentials the right {} on bucket {bucket}, and on its KMS key where it has one",
                doing.right
            ),
        ),
        ("InvalidObjectState", _) => operator(
            "the object is archived",
            "restore it: objects of forebay must not go to Glacier by a lifecycle rule".to_owned(),
        ),
        ("NotImplemented", _) | (_, 501) => operator(
            "the server does not know how to do that",
            format!("{server} must know conditional writes (If-None-Match) and uploads in parts: use one that does"),
        ),
        ("NoSuchUpload", _) => {
            let hint = "it was aborted, by a sweep or a lifecycle rule; it lands anew".to_owned();
            (FaultKind::MissingUpload, ErrorClass::Retry, "the upload is not there any more", Some(hint))
        }
        ("NoSuchKey" | "NotFound", _) | (_, 404) => {
            (FaultKind::Missing, ErrorClass::Operator, "there is no such object", None)
        }
        (_, 412) => (FaultKind::Condition, ErrorClass::Operator, "another object is there", None),
        (_, 409) => (FaultKind::Conflict, ErrorClass::Retry, "two writers met", None),
        ("SlowDown" | "TooManyRequests" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded", _)
        | (_, 429) => {
            let hint = "forebay tries again; where it goes on, ask for fewer requests or more partitions of the bucket"
                .to_owned();
            (FaultKind::Unclear, ErrorClass::Retry, "the server is asked too much", Some(hint))
        }
        ("RequestTimeout" | "InternalError" | "ServiceUnavailable", _) | (_, 408 | 500..=599) => {
            (FaultKind::Unclear, ErrorClass::Retry, "the server failed", Some("forebay tries again".to_owned()))
        }
        (code, _) if code.starts_with("KMS") => operator(
            "the key of the encryption cannot be used",
            "check `kms_key`, that it is enabled, and that these credentials may use it".to_owned(),
        ),
        _ => operator("the server refuses it", format!("check the settings of bucket {bucket} on {server}")),
    }
}

/// That no credentials came, where an error says so.
fn credentials_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<CredentialsError>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn without_credentials(address: &S3Address, verb: &str, what: &str, error: &CredentialsError) -> Error {
    let hint = format!(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, name a `profile` beside the url, or give this machine a \
         role that may use bucket {}",
        address.bucket()
    );
    let of = |class: ErrorClass, words: &str| Error::new(class, format!("{verb} {what}: {words}"));
    // What lies below may show what a program or a file said, and that may be a secret.
    let mut causes = String::new();
    if let CredentialsError::InvalidConfiguration(_) = error
        && let Some(cause) = StdError::source(error)
    {
        causes = format!(": {cause}");
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            of(ErrorClass::Operator, "there are no credentials").with_hint(hint)
        }
        CredentialsError::InvalidConfiguration(_) => {
            of(ErrorClass::Operator, &format!("the settings of the credentials are wrong{causes}")).with_hint(hint)
        }
        CredentialsError::ProviderTimedOut(_) => {
            of(ErrorClass::Retry, "the credentials did not come in time").with_hint("forebay tries again")
        }
        CredentialsError::ProviderError(_) | CredentialsError::Unhandled(_) | _ => {
            of(ErrorClass::Retry, "the credentials cannot be got").with_hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::S3Settings;

    fn of(code: &str, status: u16) -> (FaultKind, ErrorClass) {
        let Ok(address) = S3Address::parse("s3://acme-raw/zone", S3Settings::default()) else { unreachable!() };
        let doing = Doing { verb: "reading", right: "s3:GetObject" };
        let answer = Answer { status, code, message: "", region: None };
        let (kind, class, words, hint) = meaning(&address, doing, &answer);
        assert!(!words.is_empty());
        assert!(hint.is_some() || kind != FaultKind::Refused, "{code} {status}: what to do");
        (kind, class)
    }

    #[test]
    fn codes_are_told_apart() {
        use ErrorClass::{Operator, Retry};
        use FaultKind::{Condition, Conflict, Missing, MissingUpload, Refused, Unclear};
        for (code, status, kind, class) in [
            ("NoSuchBucket", 404, Refused, Operator),
            ("NoSuchKey", 404, Missing, Operator),
            ("", 404, Missing, Operator),
            ("NoSuchUpload", 404, MissingUpload, Retry),
            ("PreconditionFailed", 412, Condition, Operator),
            ("ConditionalRequestConflict", 409, Conflict, Retry),
            ("SlowDown", 503, Unclear, Retry),
            ("InternalError", 500, Unclear, Retry),
            ("", 502, Unclear, Retry),
            ("RequestTimeout", 400, Unclear, Retry),
            ("AccessDenied", 403, Refused, Operator),
            ("", 403, Refused, Operator),
            ("SignatureDoesNotMatch", 403, Refused, Operator),
            ("RequestTimeTooSkewed", 403, Refused, Operator),
            ("PermanentRedirect", 301, Refused, Operator),
            ("", 301, Refused, Operator),
            ("KMS.DisabledException", 400, Refused, Operator),
            ("NotImplemented", 501, Refused, Operator),
            ("EntityTooLarge", 400, Refused, Operator),
        ] {
            assert_eq!(of(code, status), (kind, class), "{code} {status}");
        }
    }
}
