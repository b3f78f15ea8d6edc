//! What a changed config changes in a host that runs: which parts stop and start, and which keys wait for a restart.
//!
//! | what changed | when it takes effect |
//! |---|---|
//! | a pipeline's steps, routes, rejects, limits | at once, as a revision (`deploy`) |
//! | `[alerts]`, `[maintain]` | at once |
//! | a pipeline is new, gone, or reads another stream | at once: it is started, stopped, or both |
//! | a stream is new, gone, or has another source or format | at once; with another format its pipelines start again too |
//! | a warehouse is new | at once; pipelines that lead there start again |
//! | `[landing]`, `[ledger]`, `[modules]`, `[host]`, `[http]`, the place of a warehouse | at a restart |

use std::collections::BTreeSet;

use forebay_model::ids::WarehouseName;
use forebay_model::{PipelineName, StreamName};

use crate::assemble;
use crate::config::{CommitConfig, Config, HostConfig, PipelineConfig};

/// What is to be done; a part that is in `stop` and `start` starts again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) stop_pipelines: BTreeSet<PipelineName>,
    pub(super) stop_streams: BTreeSet<StreamName>,
    pub(super) open_warehouses: BTreeSet<WarehouseName>,
    pub(super) start_streams: BTreeSet<StreamName>,
    pub(super) start_pipelines: BTreeSet<PipelineName>,
    /// Keys that changed and wait for a restart.
    pub(super) restart: Vec<String>,
}

impl Difference {
    /// From what runs to what is meant; `selected` are the pipelines of `--pipeline`, none for all.
    pub(super) fn between(runs: &Config, meant: &Config, selected: &[PipelineName]) -> Self {
        let mut difference = Self { restart: waiting(runs, meant), ..Self::default() };
        difference.open_warehouses =
            meant.warehouses.keys().filter(|name| !runs.warehouses.contains_key(name)).cloned().collect();
        let wanted = |name: &PipelineName| is_selected(selected, name);
        let read = |config: &Config, stream: &StreamName| {
            selected.is_empty() || config.pipelines.iter().any(|(name, p)| wanted(name) && p.from == *stream)
        };
        let mut reformatted = BTreeSet::new();
        for name in runs.streams.keys().chain(meant.streams.keys()).collect::<BTreeSet<_>>() {
            let was = runs.streams.get(name).filter(|_| read(runs, name));
            let will = meant.streams.get(name).filter(|_| read(meant, name));
            let format = was.map(|stream| &stream.format) != will.map(|stream| &stream.format);
            if !format && was.map(|stream| &stream.source) == will.map(|stream| &stream.source) {
                continue;
            }
            if format {
                reformatted.insert(name);
            }
            difference.stop_streams.extend(was.map(|_| name.clone()));
            difference.start_streams.extend(will.map(|_| name.clone()));
        }
        for name in runs.pipelines.keys().chain(meant.pipelines.keys()).filter(|name| wanted(name)) {
            let (was, will) = (runs.pipelines.get(name), meant.pipelines.get(name));
            let same = match (was, will) {
                (Some(was), Some(will)) => {
                    was.from == will.from
                        && was.side == will.side
                        && !reformatted.contains(&will.from)
                        && !leads_to(will, &difference.open_warehouses)
                }
                (None, _) | (_, None) => false,
            };
            if same {
                continue;
            }
            difference.stop_pipelines.extend(was.map(|_| name.clone()));
            difference.start_pipelines.extend(will.map(|_| name.clone()));
        }
        difference
    }

    /// Whether no part stops or starts.
    pub(super) fn changes_no_part(&self) -> bool {
        let Self { stop_pipelines, stop_streams, open_warehouses, start_streams, start_pipelines, restart: _ } = self;
        stop_pipelines.is_empty()
            && stop_streams.is_empty()
            && open_warehouses.is_empty()
            && start_streams.is_empty()
            && start_pipelines.is_empty()
    }
}

/// Whether a pipeline is among those of `--pipeline` (none for all); a side is where its pipeline is.
pub(super) fn is_selected(selected: &[PipelineName], name: &PipelineName) -> bool {
    let is = |of: &PipelineName| of == name || name.as_side().is_some_and(|(side_of, _)| of.as_str() == side_of);
    selected.is_empty() || selected.iter().any(is)
}

fn leads_to(pipeline: &PipelineConfig, warehouses: &BTreeSet<WarehouseName>) -> bool {
    pipeline.tables().iter().any(|table| warehouses.contains(&table.warehouse))
}

/// The keys that changed and that only a restart uses, as they are written.
fn waiting(runs: &Config, meant: &Config) -> Vec<String> {
    let Config {
        path: _,
        file: _,
        root: _,
        landing,
        ledger,
        modules,
        warehouses,
        streams: _,
        pipelines: _,
        host,
        http,
        alerts: _,
        maintain: _,
    } = runs;
    let HostConfig { workers, memory, shutdown, log, commit } = host;
    let CommitConfig { max_segments, max_bytes, max_age } = commit;
    let new = &meant.host;
    let is_moved = assemble::zone_place(runs) != assemble::zone_place(meant);
    let keys = [
        ("landing.url", is_moved),
        ("landing", !is_moved && *landing != meant.landing),
        ("ledger.url", *ledger != meant.ledger),
        ("modules.watch", *modules != meant.modules),
        ("host.workers", *workers != new.workers),
        ("host.memory", *memory != new.memory),
        ("host.shutdown_seconds", *shutdown != new.shutdown),
        ("host.log", *log != new.log),
        ("host.commit.max_segments", *max_segments != new.commit.max_segments),
        ("host.commit.max_bytes", *max_bytes != new.commit.max_bytes),
        ("host.commit.max_age", *max_age != new.commit.max_age),
        ("http", *http != meant.http),
    ];
    let moved = warehouses.iter().filter(|(name, was)| meant.warehouses.get(name).is_some_and(|will| will != *was));
    let keys = keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned());
    keys.chain(moved.map(|(name, _)| format!("warehouses.{name}.url"))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const CONFIG: &str = "\
[landing]
url = \"landing\"
[ledger]
url = \"sqlite:forebay.db\"
[warehouses.lake]
type = \"delta\"
url = \"warehouse\"
[streams.a]
source = { type = \"files\", url = \"a\" }
format = \"json\"
[streams.b]
source = { type = \"files\", url = \"b\" }
[pipelines.one]
from = \"a\"
routes = { out = \"lake.one\" }
[pipelines.two]
from = \"b\"
routes = { out = \"lake.two\" }
";

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("forebay.toml"), text).unwrap();
        let mut config = crate::config::load(folder.path(), &|_| None).unwrap();
        // The same text is the same config wherever it lies.
        config.landing = crate::config::LandingConfig::Folder(text_of("landing", text).into());
        config.ledger = crate::config::LedgerConfig::Sqlite(text_of("ledger", text).into());
        config.modules.watch = "modules".into();
        for warehouse in config.warehouses.values_mut() {
            if let crate::config::WarehouseConfig::Delta { folder } = warehouse {
                *folder = folder.file_name().unwrap().into();
            }
        }
        config
    }

    fn text_of(section: &str, text: &str) -> String {
        text.split_once(&format!("[{section}]\n")).unwrap().1.lines().next().unwrap().to_owned()
    }

    /// Each as one line: `-` stops, `+` starts, `*` opens, `!` waits.
    fn between(from: &str, to: &str, selected: &[&str]) -> Vec<String> {
        let selected: Vec<_> = selected.iter().map(|name| PipelineName::new(*name).unwrap()).collect();
        let difference = Difference::between(&config(from), &config(to), &selected);
        let Difference { stop_pipelines, stop_streams, open_warehouses, start_streams, start_pipelines, restart } =
            &difference;
        let mut lines: Vec<String> = Vec::new();
        lines.extend(stop_pipelines.iter().map(|name| format!("- pipeline {name}")));
        lines.extend(stop_streams.iter().map(|name| format!("- stream {name}")));
        lines.extend(open_warehouses.iter().map(|name| format!("* warehouse {name}")));
        lines.extend(start_streams.iter().map(|name| format!("+ stream {name}")));
        lines.extend(start_pipelines.iter().map(|name| format!("+ pipeline {name}")));
        assert_eq!(difference.changes_no_part(), lines.is_empty());
        lines.extend(restart.iter().map(|key| format!("! {key}")));
        lines
    }

    #[test]
    fn what_is_a_revision_moves_no_part() {
        assert_eq!(between(CONFIG, CONFIG, &[]), Vec::<String>::new());
        let routes = CONFIG.replace("lake.one", "lake.other");
        let limits = CONFIG.replace("from = \"a\"", "from = \"a\"\nlimits = { call_ms = 5 }");
        assert_eq!(between(CONFIG, &routes, &[]), Vec::<String>::new());
        assert_eq!(between(CONFIG, &limits, &[]), Vec::<String>::new());
        assert_eq!(between(CONFIG, &format!("{CONFIG}[maintain]\nretention = \"1d\"\n"), &[]), Vec::<String>::new());
    }

    #[test]
    fn parts_that_are_new_gone_or_changed_stop_and_start() {
        let added = format!(
            "{CONFIG}[streams.c]\nsource = {{ type = \"files\", url = \"c\" }}\n\
             [pipelines.three]\nfrom = \"c\"\nroutes = {{ out = \"lake.three\" }}\n"
        );
        assert_eq!(between(CONFIG, &added, &[]), ["+ stream c", "+ pipeline three"]);
        assert_eq!(between(&added, CONFIG, &[]), ["- pipeline three", "- stream c"]);
        assert_eq!(between(CONFIG, &added, &["one"]), Vec::<String>::new(), "it was not selected");
        let other = CONFIG.replace("from = \"a\"", "from = \"b\"");
        assert_eq!(between(CONFIG, &other, &[]), ["- pipeline one", "+ pipeline one"]);
        assert_eq!(
            between(CONFIG, &other, &["one"]),
            ["- pipeline one", "- stream a", "+ stream b", "+ pipeline one"],
            "only what the selected read"
        );
        let source = CONFIG.replace("url = \"a\"", "url = \"elsewhere\"");
        assert_eq!(between(CONFIG, &source, &[]), ["- stream a", "+ stream a"]);
        let format = CONFIG.replace("format = \"json\"", "format = \"csv\"");
        assert_eq!(between(CONFIG, &format, &[]), ["- pipeline one", "- stream a", "+ stream a", "+ pipeline one"]);
        let warehouse =
            format!("{CONFIG}[warehouses.pond]\ntype = \"delta\"\nurl = \"pond\"\n").replace("lake.two", "pond.two");
        assert_eq!(between(CONFIG, &warehouse, &[]), ["- pipeline two", "* warehouse pond", "+ pipeline two"]);
    }

    #[test]
    fn what_waits_for_a_restart_is_told_by_its_key() {
        let changed = CONFIG
            .replace("\"landing\"", "\"other\"")
            .replace("forebay.db", "other.db")
            .replace("\"warehouse\"", "\"moved\"")
            + "[host]\nworkers = 777\nmemory = \"999MiB\"\nshutdown_seconds = 7\nlog = \"error\"\n\
               commit = { max_segments = 3, max_bytes = \"3MiB\", max_age = \"3s\" }\n";
        assert_eq!(
            between(CONFIG, &changed, &[]),
            [
                "! landing.url",
                "! ledger.url",
                "! host.workers",
                "! host.memory",
                "! host.shutdown_seconds",
                "! host.log",
                "! host.commit.max_segments",
                "! host.commit.max_bytes",
                "! host.commit.max_age",
                "! warehouses.lake.url",
            ]
        );
    }
}
