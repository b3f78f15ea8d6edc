//! Where a bucket is.

use std::fmt;

use forebay_model::{Error, Result};
use url::Url;

/// A key has 1024 bytes at most, and names below the prefix need their part of them.
const PREFIX: usize = 512;
const EXAMPLE: &str = "use \"s3://<bucket>/<prefix>\", for example \"s3://acme-raw/forebay\"";

/// How a server is reached, where it is not told by the bucket alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// The server, where it is not Amazon's: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region; where it is not said, what the environment or the profile says.
    pub region: Option<String>,
    /// The profile of `~/.aws` that credentials and region are taken from.
    pub profile: Option<String>,
    /// Whether the bucket stands in the path, and not in the server's name. Where it is not said: with an endpoint.
    pub path_style: Option<bool>,
}

impl S3Settings {
    /// All that is wrong: its key, and an error of class operator.
    #[must_use]
    pub fn wrong(&self) -> Vec<(&'static str, Error)> {
        let Self { endpoint, region, profile, path_style: _ } = self;
        let mut found = Vec::new();
        if let Some(Err(error)) = endpoint.as_deref().map(check_endpoint) {
            found.push(("endpoint", error));
        }
        let is_region = |region: &String| {
            let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            !region.is_empty() && region.chars().all(plain)
        };
        if region.as_ref().is_some_and(|region| !is_region(region)) {
            found.push(("region", wrong("`region` is no name of a region", "write it as in \"eu-central-1\"")));
        }
        if profile.as_ref().is_some_and(String::is_empty) {
            found.push(("profile", wrong("`profile` is empty", "name a profile of ~/.aws/config, or leave it away")));
        }
        found
    }
}

/// A bucket, or what lies under a prefix of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    prefix: String,
    settings: S3Settings,
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::operator(what).with_hint(hint)
}

fn check_endpoint(text: &str) -> Result<()> {
    let example = "write scheme, host and port: \"https://s3.example.com\", \"http://127.0.0.1:9000\"";
    let url = Url::parse(text).map_err(|_| wrong("`endpoint` is no URL", example))?;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or name a profile";
        return Err(wrong("`endpoint` holds credentials, and the config never does", hint));
    }
    let plain = url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(wrong("`endpoint` is not the URL of an S3 server", example));
    }
    Ok(())
}

impl S3Address {
    /// Reads `s3://bucket/prefix`. The settings are taken as they are: see [`S3Settings::wrong`].
    ///
    /// # Errors
    /// Class operator: what is wrong with the url, and what would be right. What could be a secret is in none.
    pub fn parse(text: &str, settings: S3Settings) -> Result<Self> {
        let place = text.strip_prefix("s3://").ok_or_else(|| wrong("this is no url of S3", EXAMPLE))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            let hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or name a profile";
            return Err(wrong("a url of S3 holds no credentials", hint));
        }
        check_bucket(bucket)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        check_prefix(prefix)?;
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), settings })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Whether what lies at one may lie at the other too.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_within = |inner: &Self, outer: &Self| {
            outer.prefix.is_empty() || inner.prefix == outer.prefix || outer.name_of(&inner.prefix).is_some()
        };
        let server =
            |of: &Self| of.settings.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        self.bucket == other.bucket
            && server(self) == server(other)
            && (is_within(self, other) || is_within(other, self))
    }

    /// How its server is reached.
    #[must_use]
    pub fn settings(&self) -> &S3Settings {
        &self.settings
    }

    /// The key of a name below the prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// The name that a key has below the prefix; `None` where it lies elsewhere.
    #[must_use]
    pub fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// A name below the prefix, as people are told it.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(name))
    }

    /// Who is asked, for hints.
    #[must_use]
    pub fn server(&self) -> &str {
        self.settings.endpoint.as_deref().unwrap_or("Amazon S3")
    }
}

fn check_bucket(bucket: &str) -> Result<()> {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.');
    let at_ends = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if (3..=63).contains(&bucket.len())
        && bucket.chars().all(plain)
        && bucket.starts_with(at_ends)
        && bucket.ends_with(at_ends)
        && !bucket.contains("..")
    {
        return Ok(());
    }
    let what = format!("{bucket:?} is no name of a bucket: it has 3 to 63 of a-z, 0-9, '-' and '.'");
    Err(wrong(
        what,
        if bucket.contains(':') { "give the alias of an access point instead of its ARN" } else { EXAMPLE },
    ))
}

fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        return Ok(());
    }
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    let bad_letter = |letter: char| letter.is_control() || matches!(letter, '\\' | '?' | '#');
    if prefix.len() > PREFIX || prefix.split('/').any(bad_part) || prefix.contains(bad_letter) {
        let what = format!("{prefix:?} cannot be a prefix");
        let hint = format!("use at most {PREFIX} bytes, without empty parts, '.', '..', '\\', '?' and '#': {EXAMPLE}");
        return Err(wrong(what, hint));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<S3Address> {
        S3Address::parse(url, S3Settings::default())
    }

    #[test]
    fn names_become_keys_and_back() {
        for (url, shown, key) in [
            ("s3://acme-raw/forebay/eu/", "s3://acme-raw/forebay/eu", "forebay/eu/s/a"),
            ("s3://acme-raw", "s3://acme-raw", "s/a"),
            ("s3://acme-raw/", "s3://acme-raw", "s/a"),
        ] {
            let address = parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.bucket()), (shown, "acme-raw"));
            assert_eq!(address.key("s/a"), key);
            assert_eq!(address.name_of(key), Some("s/a"));
            assert_eq!(address.url("s/a"), format!("s3://acme-raw/{key}"));
        }
        assert_eq!(parse("s3://acme-raw/forebay").unwrap().name_of("forebay2/a"), None);
    }

    #[test]
    fn places_overlap_where_one_is_within_the_other() {
        let overlap = |one: &str, other: &str| parse(one).unwrap().overlaps(&parse(other).unwrap());
        for (one, other) in
            [("s3://acme", "s3://acme/a"), ("s3://acme/a/b", "s3://acme/a"), ("s3://acme/a", "s3://acme/a/")]
        {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in
            [("s3://acme/a", "s3://acme/ab"), ("s3://acme/a", "s3://acne/a"), ("s3://acme/a/b", "s3://acme/a/c")]
        {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_secrets() {
        for (url, says) in [
            ("https://acme-raw", "no url of S3"),
            ("s3://AKIA:hunter2@acme-raw/x", "no credentials"),
            ("s3://Acme/x", "no name of a bucket"),
            ("s3://ab", "no name of a bucket"),
            ("s3://", "no name of a bucket"),
            ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "alias"),
            ("s3://acme-raw//x", "cannot be a prefix"),
            ("s3://acme-raw/a/../b", "cannot be a prefix"),
            ("s3://acme-raw/a?region=x", "cannot be a prefix"),
        ] {
            let error = parse(url).unwrap_err();
            let told = format!("{error} {:?}", error.hint());
            assert!(told.contains(says) && !told.contains("hunter2"), "{url}: {told}");
        }
    }

    #[test]
    fn settings_are_told_by_their_key() {
        let with = |endpoint: Option<&str>, region: Option<&str>, profile: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let settings = S3Settings {
                endpoint: owned(endpoint),
                region: owned(region),
                profile: owned(profile),
                path_style: None,
            };
            let wrong = settings.wrong().into_iter();
            wrong.map(|(key, error)| (key, format!("{error} {:?}", error.hint()))).collect::<Vec<_>>()
        };
        assert!(with(Some("http://127.0.0.1:9000"), Some("eu-central-1"), Some("raw")).is_empty());
        for endpoint in ["127.0.0.1:9000", "s3.example.com", "ftp://x", "http://x/?a=b", "http://me:hunter2@x"] {
            let (key, told) = with(Some(endpoint), None, None).remove(0);
            assert!(key == "endpoint" && !told.contains("hunter2"), "{endpoint}: {told}");
        }
        let all: Vec<_> = with(Some("x"), Some("EU west"), Some("")).into_iter().map(|(key, _)| key).collect();
        assert_eq!(all, ["endpoint", "region", "profile"]);
    }
}
