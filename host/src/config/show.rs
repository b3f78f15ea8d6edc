//! The config as it is understood, for people: defaults filled in, secrets hidden.

use std::path::Path;

use forebay_landing::Encryption;
use forebay_model::revision::RouteTarget;
use forebay_s3::S3Settings;
use serde_json::{Value, json};

use super::{
    AlertsConfig, CommitConfig, Config, DeployConfig, HostConfig, HttpConfig, LandingConfig, LedgerConfig,
    MaintainConfig, ModulesConfig, PipelineConfig, StepConfig, StreamConfig, WarehouseConfig, format_duration,
    format_size,
};

impl Config {
    /// The whole config as JSON, in the shape of the file.
    pub(crate) fn to_json(&self) -> Value {
        let Self {
            path: _,
            file: _,
            root: _,
            landing,
            ledger,
            modules,
            warehouses,
            streams,
            pipelines,
            host,
            http,
            alerts,
            maintain,
        } = self;
        let ledger = match ledger {
            LedgerConfig::Sqlite(path) => format!("sqlite:{}", path.display()),
            LedgerConfig::Postgres(address) => address.to_string(),
        };
        let ModulesConfig { watch } = modules;
        let MaintainConfig { target_file, retention } = maintain;
        let warehouses = warehouses.iter().map(|(name, warehouse)| {
            let shown = match warehouse {
                WarehouseConfig::Delta { folder } => json!({ "type": "delta", "url": path(folder) }),
                WarehouseConfig::Postgres(address) => json!({ "type": "postgres", "url": address.to_string() }),
            };
            (name.to_string(), shown)
        });
        let streams = streams.iter().map(|(name, StreamConfig { source, format })| {
            (name.to_string(), json!({ "source": source.redacted(), "format": format.redacted() }))
        });
        let pipelines = pipelines.iter().map(|(name, shown)| (name.to_string(), pipeline(shown)));
        let mut shown = json!({
            "landing": landing_json(landing),
            "ledger": { "url": ledger },
            "modules": { "watch": path(watch) },
            "warehouses": Value::Object(warehouses.collect()),
            "streams": Value::Object(streams.collect()),
            "pipelines": Value::Object(pipelines.collect()),
            "host": host_json(host),
            "maintain": { "target_file": format_size(*target_file), "retention": format_duration(*retention) },
        });
        if let (Some(shown), Some(http)) = (shown.as_object_mut(), http) {
            shown.insert("http".to_owned(), http_json(http));
        }
        if let (Some(shown), Some(alerts)) = (shown.as_object_mut(), alerts) {
            shown.insert("alerts".to_owned(), alerts_json(alerts));
        }
        shown
    }
}

fn path(path: &Path) -> Value {
    Value::from(path.display().to_string())
}

fn landing_json(landing: &LandingConfig) -> Value {
    let (address, encryption) = match landing {
        LandingConfig::Folder(folder) => return json!({ "url": path(folder) }),
        LandingConfig::S3 { address, encryption } => (address, encryption),
    };
    let S3Settings { endpoint, region, profile, path_style } = address.settings();
    let (encryption, kms_key) = match encryption {
        None => (None, None),
        Some(Encryption::Aes256) => (Some("AES256"), None),
        Some(Encryption::Kms { key }) => (Some("aws:kms"), key.as_deref()),
    };
    json!({
        "url": address.to_string(),
        "endpoint": endpoint,
        "region": region,
        "profile": profile,
        "path_style": path_style.unwrap_or(endpoint.is_some()),
        "encryption": encryption,
        // The name of a key, and no secret.
        "kms_key": kms_key,
    })
}

fn pipeline(pipeline: &PipelineConfig) -> Value {
    let PipelineConfig { from, steps, routes, rejects, limits, deploy, retry, side: _ } = pipeline;
    let DeployConfig { dry_run, shadow, max_changed, back_after } = deploy;
    let steps = steps.iter().map(|StepConfig { name, module, pin, config, assets }| {
        let module = match pin {
            Some(pin) => format!("{module}@sha256:{pin}"),
            None => module.to_string(),
        };
        let assets = assets.iter().map(|(name, file)| (name.clone(), path(file)));
        json!({ "name": name, "module": module, "config": config, "assets": Value::Object(assets.collect()) })
    });
    let routes = routes.iter().map(|(name, target)| {
        let shown = match target {
            RouteTarget::Discard => Value::from("discard"),
            RouteTarget::Table { table, partition_by, schema_changes } => {
                json!({ "table": table, "partition_by": partition_by, "schema_changes": schema_changes })
            }
        };
        (name.clone(), shown)
    });
    json!({
        "from": from,
        "steps": steps.collect::<Vec<_>>(),
        "routes": Value::Object(routes.collect()),
        "rejects": rejects,
        "limits": limits,
        "deploy": {
            "dry_run": dry_run, "shadow": shadow, "max_changed": max_changed, "back_after": back_after.to_string(),
        },
        "retry": retry.as_ref().map(ToString::to_string),
    })
}

fn http_json(http: &HttpConfig) -> Value {
    let HttpConfig { listen, token_file } = http;
    json!({ "listen": listen, "token_file": token_file.as_deref().map(path) })
}

fn alerts_json(alerts: &AlertsConfig) -> Value {
    let AlertsConfig { webhook, token_file, repeat, window, lag, reject_percent } = alerts;
    // What stands behind the host's name is often a secret.
    let url = url::Url::parse(webhook).ok();
    let webhook = url.map(|url| format!("{}/…", url.origin().ascii_serialization()));
    json!({
        "webhook": webhook,
        "token_file": token_file.as_deref().map(path),
        "repeat": format_duration(*repeat),
        "window": format_duration(*window),
        "lag": format_duration(*lag),
        "reject_percent": reject_percent,
    })
}

fn host_json(host: &HostConfig) -> Value {
    let HostConfig { workers, memory, shutdown, log, commit } = host;
    let CommitConfig { max_segments, max_bytes, max_age } = commit;
    json!({
        "workers": workers,
        "memory": format_size(*memory),
        "shutdown_seconds": shutdown.as_secs(),
        "log": log,
        "commit": {
            "max_segments": max_segments,
            "max_bytes": format_size(*max_bytes),
            "max_age": format_duration(*max_age),
        },
    })
}
