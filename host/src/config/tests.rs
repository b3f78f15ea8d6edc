//! Each kind of mistake, with its place and its hint, and a whole config.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::*;

const WHOLE: &str = r#"
[landing]
url = "landing"
[ledger]
url = "sqlite:forebay.db"
[warehouses.lake]
type = "delta"
url = "warehouse"
[streams.payments]
source = { type = "files", url = "inbox", include = ["**/*.csv"] }
[pipelines.fraud]
from = "payments"
[[pipelines.fraud.steps]]
module = "fraud"
config = { v14_below = -8.0 }
[pipelines.fraud.routes]
scored = "lake.payments"
flagged = { table = "lake.flagged", partition_by = ["day"], schema_changes = "hold" }
other = "discard"
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME_OF_DATA" => Some("data".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn load_files(files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    load(folder.path(), &environment).map_err(|problems| {
        let mut text = String::new();
        for Problem { message, place, hint } in problems.iter() {
            writeln!(text, "error: {message}").unwrap();
            if let Some(place) = place {
                writeln!(text, "  at {place}").unwrap();
            }
            if let Some(hint) = hint {
                writeln!(text, "hint: {hint}").unwrap();
            }
        }
        text.replace(&format!("{}/", folder.path().display()), "")
    })
}

fn load_text(text: &str) -> Result<Config, String> {
    load_files(&[(FILE_NAME, text)])
}

fn problems(text: &str) -> String {
    load_text(text).expect_err("the config must be refused")
}

#[test]
fn a_whole_config_has_its_defaults() {
    let config = load_text(WHOLE).unwrap();
    let pipeline = config.pipelines.values().next().unwrap();
    assert_eq!(pipeline.rejects.to_string(), "lake.fraud_rejects");
    assert_eq!(pipeline.routes.len(), 3);
    assert_eq!(pipeline.routes["other"], RouteTarget::Discard);
    assert_eq!(pipeline.steps[0].name, "fraud");
    assert_eq!(pipeline.steps[0].config, serde_json::json!({ "v14_below": -8.0 }));
    assert_eq!(config.host.memory, 256 << 20);
    assert_eq!(config.host.shutdown, Duration::from_secs(30));
    assert_eq!(config.maintain.retention, Duration::from_hours(168));
    assert_eq!(config.modules.watch, config.root.join("modules"));
    let StreamConfig { format, .. } = config.streams.values().next().unwrap();
    assert_eq!(format.value(), "auto");
    let tables: Vec<_> = config.tables().keys().map(ToString::to_string).collect();
    assert_eq!(tables, ["lake.flagged", "lake.fraud_rejects", "lake.payments"]);
}

#[test]
fn settings_are_read_with_their_units() {
    let text = format!(
        "{WHOLE}\n[host]\nworkers = 3\nmemory = \"512MiB\"\nshutdown_seconds = 5\nlog = \"debug\"\n\
         commit = {{ max_segments = 7, max_bytes = \"2MiB\", max_age = \"250ms\" }}\n\
         [maintain]\ntarget_file = \"64MiB\"\nretention = \"2d\"\n"
    );
    let config = load_text(&text).unwrap();
    assert_eq!(config.host.workers.get(), 3);
    assert_eq!(config.host.memory, 512 << 20);
    let commit = CommitConfig { max_segments: 7, max_bytes: 2 << 20, max_age: Duration::from_millis(250) };
    assert_eq!(config.host.commit, commit);
    assert_eq!(config.maintain, MaintainConfig { target_file: 64 << 20, retention: Duration::from_hours(48) });
}

#[test]
fn all_mistakes_are_told_at_once_with_the_nearest_key() {
    let text = WHOLE
        .replace("[landing]", "[landin]")
        .replace("url = \"warehouse\"", "ulr = \"warehouse\"")
        .replace("from = \"payments\"", "from = \"payment\"\nstpes = 1")
        .replace("config = { v14_below = -8.0 }", "config = 3")
        .replace("\"lake.payments\"", "\"laek.payments\"");
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn wrong_types_and_ranges_name_the_key_and_never_the_value() {
    let text = format!(
        "{WHOLE}\n[host]\nworkers = 0\nmemory = \"hunter2\"\nshutdown_seconds = \"hunter2\"\nlog = \"a=b=c\"\n\
         commit = {{ max_segments = -1, max_age = \"3 days\" }}\n[maintain]\nretention = \"1s\"\n"
    );
    let shown = problems(&text);
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn the_environment_fills_in_and_what_is_not_set_names_itself() {
    let text = WHOLE
        .replace("\"landing\"", "\"${HOME_OF_DATA}/landing\"")
        .replace("url = \"warehouse\"", "url = \"${EMPTY:-x}$$/$y\"");
    let config = load_text(&text).unwrap();
    assert_eq!(config.landing, LandingConfig::Folder(config.root.join("data/landing")));
    let Some(WarehouseConfig::Delta { folder }) = config.warehouses.values().next() else { unreachable!("a folder") };
    assert_eq!(*folder, config.root.join("x$/$y"));

    let text = WHOLE.replace("\"landing\"", "\"${NOT_SET}/${A B}/${open\"");
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn a_table_has_one_pipeline() {
    let text = format!(
        "{WHOLE}\n[pipelines.second]\nfrom = \"payments\"\nrejects = \"lake.fraud_rejects\"\n\
         [pipelines.second.routes]\nout = \"lake.payments\"\n\
         [pipelines.third]\nfrom = \"payments\"\nrejects = \"lake.own\"\nroutes = {{ out = \"lake.own\" }}\n"
    );
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn routes_and_steps_are_checked() {
    let text = WHOLE
        .replace("module = \"fraud\"", "module = \"fraud@sha256:12\"\n[[pipelines.fraud.steps]]\nmodule = \"x\"\nassets = { blocked = \"nowhere.txt\" }")
        .replace("other = \"discard\"", "other = 3\nfraud.x = \"lake.x\"\n\"frud.y\" = \"lake.y\"\nz = { table = \"lake.z\", mode = \"upsert\" }");
    insta::assert_snapshot!(problems(&text));

    let steps_left_out =
        WHOLE.replace("[[pipelines.fraud.steps]]\nmodule = \"fraud\"\nconfig = { v14_below = -8.0 }\n", "");
    insta::assert_snapshot!(problems(&steps_left_out));

    let no_routes = WHOLE.split("[pipelines.fraud.routes]").next().unwrap();
    insta::assert_snapshot!(problems(no_routes));
}

#[test]
fn steps_get_names_of_their_own() {
    let more = "[[pipelines.fraud.steps]]\nmodule = \"fraud@sha256:AB12cd34\"\n[[pipelines.fraud.steps]]\nmodule = \"fraud\"\nname = \"fraud-2\"\n[pipelines.fraud.routes]";
    let config = load_text(&WHOLE.replace("[pipelines.fraud.routes]", more)).unwrap();
    let steps = &config.pipelines.values().next().unwrap().steps;
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["fraud", "fraud-3", "fraud-2"]);
    assert_eq!(steps[1].pin.as_deref(), Some("ab12cd34"));
}

#[test]
fn what_is_not_built_or_wrong_says_so_and_hides_secrets() {
    let text = WHOLE
        .replace("sqlite:forebay.db", "postgres://me:hunter2@host/db?sslmode=on")
        .replace("url = \"warehouse\"", "url = \"s3://key:hunter2@bucket/x\"");
    let shown = problems(&text);
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn a_ledger_on_a_server_is_shown_without_its_password() {
    let config =
        load_text(&WHOLE.replace("sqlite:forebay.db", "postgres://me:hunter2@host:6543/db?schema=team")).unwrap();
    assert_eq!(config.to_json()["ledger"]["url"], "postgres://me@host:6543/db?schema=team");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_landing_zone_in_a_bucket_is_shown_as_it_is_understood() {
    let with = |landing: &str| WHOLE.replace("url = \"landing\"", landing);
    let config = load_text(&with("url = \"s3://acme-raw/forebay/\"\nregion = \"eu-central-1\"")).unwrap();
    let shown = config.to_json();
    assert_eq!(shown["landing"]["url"], "s3://acme-raw/forebay");
    assert_eq!(shown["landing"]["path_style"], false);
    let whole = "url = \"s3://acme-raw\"\nendpoint = \"http://127.0.0.1:9000\"\nprofile = \"raw\"\nencryption = \"aws:kms\"\nkms_key = \"alias/raw\"";
    insta::assert_snapshot!(load_text(&with(whole)).unwrap().to_json()["landing"].to_string());
}

#[test]
fn what_is_wrong_with_a_landing_zone_in_a_bucket_is_told_at_its_key() {
    let with = |landing: &str| problems(&WHOLE.replace("url = \"landing\"", landing));
    let shown = [
        with(
            "url = \"s3://AKIA:hunter2@acme-raw/x\"\nendpoint = \"http://me:hunter2@127.0.0.1:9000\"\nregion = \"EU west\"",
        ),
        with("url = \"s3:acme-raw\"\nkms_key = \"alias/raw\"\nencryption = \"AES256\""),
        with("url = \"s3://acme-raw\"\nencryption = \"rot13\"\nsecret_key = \"hunter2\""),
        with("url = \"landing\"\nregion = \"eu-central-1\"\npath_style = true"),
        with("url = \"gs://acme-raw\""),
    ];
    let shown = shown.join("\n\n");
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn a_warehouse_on_a_server_is_shown_without_its_password() {
    let server = "type = \"postgres\"\nurl = \"postgres://me:hunter2@host:6543/db";
    let text = WHOLE.replace("type = \"delta\"\nurl = \"warehouse", server);
    let config = load_text(&text).unwrap();
    assert_eq!(config.to_json()["warehouses"]["lake"]["url"], "postgres://me@host:6543/db?schema=public");
    assert!(!format!("{config:?}").contains("hunter2"));
    let told = problems(&text.replace("/db", "/db?table=x"));
    assert!(told.contains("the url's parameter \"table\" is not known") && !told.contains("hunter2"), "{told}");
}

#[test]
fn schemas_have_one_owner() {
    let server = "type = \"postgres\"\nurl = \"postgres://me@host/db?schema=team";
    let text = WHOLE
        .replace("type = \"delta\"\nurl = \"warehouse", server)
        .replace("sqlite:forebay.db", "postgres://you@host:5432/db?schema=team");
    let told = problems(&text);
    assert!(told.contains("`ledger.url` and `warehouses.lake.url` share a schema"), "{told}");
    assert!(told.contains("?schema=<name>"), "{told}");
}

#[test]
fn folders_have_one_owner() {
    let text =
        WHOLE.replace("url = \"warehouse\"", "url = \"landing/tables\"").replace("url = \"inbox\"", "url = \".\"");
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn what_a_room_refuses_is_shown_at_its_own_key() {
    let source = "source = { type = \"files\", url = \"inbox\", include = [\"**/*.csv\"] }";
    let streams = [
        "source = { type = \"files\", url = \"inbox\",\n  scan_seconds = 0 }",
        "source = { type = \"files\", url = \"inbox\",\n  includes = [] }",
        "source = {\n  type = \"fils\", url = \"inbox\" }",
        "source = { type = \"files\" }",
        "source = { type = \"files\", url = \"inbox\" }\n[streams.payments.format]\ntype = \"csv\"\nquote = \";\"\ndelimiter = \";\"",
        "source = { type = \"files\", url = \"inbox\" }\n[streams.payments.format]\ntype = \"json\"\ndelimiter = \";\"",
        "source = { type = \"files\", url = \"inbox\" }\n[streams.payments.format]\ntype = \"json\"\nschema.amount = \"int64\"\nschema.at = \"time\"",
    ];
    let shown: Vec<_> = streams.iter().map(|stream| problems(&WHOLE.replace(source, stream))).collect();
    insta::assert_snapshot!(shown.join("---\n"));
}

#[test]
fn a_folder_is_merged_and_what_is_set_twice_is_shown_with_both_places() {
    let (main, pipelines) = WHOLE.split_once("[pipelines.fraud]").unwrap();
    let pipelines = format!("[pipelines.fraud]{pipelines}");
    let config = load_files(&[(FILE_NAME, main), ("fraud.toml", &pipelines), (".hidden.toml", "x")]).unwrap();
    assert_eq!(config.pipelines.len(), 1);
    assert!(config.root.is_absolute());

    let twice = format!("{pipelines}[landing]\nurl = \"elsewhere\"\n");
    let shown = load_files(&[(FILE_NAME, main), ("fraud.toml", &twice)]).unwrap_err();
    insta::assert_snapshot!(shown);
}

#[test]
fn text_that_is_not_toml_says_where() {
    insta::assert_snapshot!(problems("[landing\nurl = \n"));
    insta::assert_snapshot!(load_files(&[]).unwrap_err());
}

#[test]
fn no_text_makes_it_panic() {
    for end in 0..WHOLE.len() {
        drop(load_text(&WHOLE[..end]));
        drop(load_text(&format!("{}[[{}", &WHOLE[..end], &WHOLE[end..])));
    }
    drop(load(Path::new("/"), &environment));
}

/// The keys of a section: what its `Deserialize` asks for.
struct KeysOf<'a>(&'a mut &'static [&'static str]);

impl<'de> serde::Deserializer<'de> for KeysOf<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("no section"))
    }

    fn deserialize_struct<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = keys;
        Err(serde::de::Error::custom("the keys are all that is wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn keys_of<T: serde::de::DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    assert!(T::deserialize(KeysOf(&mut keys)).is_err());
    keys
}

#[test]
fn every_key_is_documented_and_no_other() {
    let docs = include_str!("../../../docs/config.md");
    let sections: [(&str, &str, Vec<&str>); 14] = [
        ("## `[landing]`", "## ", keys_of::<shape::Landing>().to_vec()),
        ("## `[ledger]`", "## ", keys_of::<shape::Ledger>().to_vec()),
        ("## `[modules]`", "## ", keys_of::<shape::Modules>().to_vec()),
        ("## `[warehouses.<name>]`", "## ", keys_of::<shape::Warehouse>().to_vec()),
        ("## `[streams.<name>]`", "## ", keys_of::<shape::Stream>().to_vec()),
        ("## `[pipelines.<name>]`", "A step:", keys_of::<shape::Pipeline>().to_vec()),
        ("A step:", "A route is", keys_of::<shape::Step>().to_vec()),
        ("A route is", "### ", keys_of::<shape::Route>().to_vec()),
        ("### `deploy`", "### ", keys_of::<shape::Deploy>().to_vec()),
        ("### `retry`", "### ", keys_of::<shape::Retry>().to_vec()),
        ("## `[host]`", "## ", {
            let commit = keys_of::<shape::Commit>().iter().map(|key| format!("commit.{key}"));
            let commit: Vec<&'static str> = commit.map(|key| &*key.leak()).collect();
            [keys_of::<shape::Host>(), &commit].concat()
        }),
        ("## `[http]`", "## ", keys_of::<shape::Http>().to_vec()),
        ("## `[alerts]`", "## ", keys_of::<shape::Alerts>().to_vec()),
        ("## `[maintain]`", "## ", keys_of::<shape::Maintain>().to_vec()),
    ];
    for (from, to, mut keys) in sections {
        let (_, section) = docs.split_once(from).unwrap();
        let section = section.split_once(&format!("\n{to}")).map_or(section, |(section, _)| section);
        let mut documented: Vec<_> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key).collect();
        keys.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, keys, "{from}");
    }
    let headings = |section: &&&str| {
        docs.contains(&format!("\n## `[{section}]`")) || docs.contains(&format!("\n## `[{section}.<"))
    };
    assert_eq!(shape::SECTIONS.iter().filter(headings).count(), shape::SECTIONS.len());
}
