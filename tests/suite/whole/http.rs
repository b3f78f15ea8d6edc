//! What a host answers over HTTP, asked by a real client; and that no client holds it up.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::seen::check;
use super::support::{CONFIG, Place, Running, payments};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The config with a server on a port that is free.
pub(crate) fn with_http(listen: &str) -> String {
    format!("{CONFIG}\n[http]\nlisten = \"{listen}\"\n")
}

/// A client of a host.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    pub(crate) address: String,
    /// What describes the answers; each is held against it.
    document: std::cell::OnceCell<Value>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// What a document says of a path.
fn operations<'a>(document: &'a Value, path: &str) -> (&'a str, &'a Value) {
    let asked: Vec<_> = path.split('?').next().unwrap().split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<_> = template.split('/').collect();
        let fits = |(part, asked): (&&str, &&str)| part == asked || part.starts_with('{');
        parts.len() == asked.len() && parts.iter().zip(&asked).all(fits)
    };
    let paths = document["paths"].as_object().unwrap();
    let (template, operations) = paths.iter().find(|(template, _)| fits(template)).unwrap();
    (template.as_str(), operations)
}

/// An answer is what its schema says: no field more, none less, none of another kind.
fn holds(schema: &Value, answer: &Value, place: &str) {
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        kind => vec![kind.as_str().unwrap_or_else(|| panic!("{place}: {schema}"))],
    };
    let kind = match answer {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(kinds.contains(&kind), "{place} is {answer}, and should be of {kinds:?}");
    for (number, item) in answer.as_array().into_iter().flatten().enumerate() {
        holds(&schema["items"], item, &format!("{place}[{number}]"));
    }
    let Some(fields) = answer.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(required.as_str().unwrap()), "{place} lacks {required}: {answer}");
    }
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => holds(schema, value, &place),
            (None, Value::Object(each)) => holds(&Value::Object(each.clone()), value, &place),
            (None, more) => assert!(more.is_null(), "{place} is in no schema: {value}"),
        }
    }
}

impl Client {
    /// Of a host that was started, as soon as it listens.
    pub(crate) fn of(place: &Place) -> Self {
        let told = place.until_told("answering over HTTP", 1);
        let address = told["address"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(90)).build().unwrap();
        Self { runtime, client, address, document: std::cell::OnceCell::new() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "who asks names a constant")]
    pub(crate) fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Vec<u8>) -> Answer {
        let answer = self.answer(&method, path, token, body);
        // Where a token is needed to read, a test of that shows it.
        if path.starts_with("/v1/") && answer.status == 200 {
            let document =
                self.document.get_or_init(|| self.answer(&Method::GET, "/openapi.json", token, Vec::new()).json());
            let (template, operations) = operations(document, path);
            let operation = &operations[method.as_str().to_lowercase()];
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            holds(schema, &answer.json(), template);
        }
        answer
    }

    fn answer(&self, method: &Method, path: &str, token: Option<&str>, body: Vec<u8>) -> Answer {
        let mut request = self.client.request(method.clone(), format!("http://{}{path}", self.address)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            Answer { status: response.status().as_u16(), text: response.text().await.unwrap() }
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None, Vec::new())
    }

    /// Sends these bytes, and reads to the end what is answered.
    fn says(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The number of a metric with these labels.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").text;
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.map(|number| number.parse().unwrap())
    }
}

pub(crate) fn start(place: &Place) -> (Running, Client) {
    let running = place.start_with("FOREBAY_TOKEN", TOKEN);
    let client = Client::of(place);
    (running, client)
}

#[test]
fn a_host_says_whether_it_is_alive_and_ready_and_counts_what_it_does() {
    let place = Place::new();
    place.write("forebay.toml", &with_http("127.0.0.1:0"));
    let (running, client) = start(&place);
    assert_eq!((client.get("/healthz").status, client.get("/healthz").json()), (200, json!({ "alive": true })));
    place.until("it is ready", || client.get("/readyz").status == 200);
    assert_eq!(client.get("/readyz").json(), json!({ "ready": true, "missing": [] }));
    place.write("inbox/a.jsonl", &(payments(0..100) + "no json\n"));
    place.until("it is counted", || {
        client.metric("forebay_rows_loaded_total{pipeline=\"fraud\",table=\"lake.payments\"}") == Some(100.0)
    });
    for (name, number) in [
        ("forebay_ready", 1.0),
        ("forebay_ledger_up", 1.0),
        ("forebay_segments_landed_total{stream=\"payments\"}", 1.0),
        ("forebay_records_decoded_total{pipeline=\"fraud\"}", 101.0),
        ("forebay_records_total{pipeline=\"fraud\",outcome=\"loaded\"}", 100.0),
        ("forebay_records_total{pipeline=\"fraud\",outcome=\"rejected\"}", 1.0),
        ("forebay_rejects_total{pipeline=\"fraud\",stage=\"decode\",code=\"malformed\"}", 1.0),
        ("forebay_batch_seconds_bucket{pipeline=\"fraud\",le=\"+Inf\"}", 1.0),
        ("forebay_batch_seconds_count{pipeline=\"fraud\"}", 1.0),
        ("forebay_rule_call_seconds_count{pipeline=\"fraud\",step=\"fraud\"}", 1.0),
        ("forebay_pipeline_paused{pipeline=\"fraud\"}", 0.0),
        ("forebay_oldest_unloaded_seconds{pipeline=\"fraud\"}", 0.0),
        ("forebay_records_landed_total{stream=\"payments\"}", 0.0),
    ] {
        assert_eq!(client.metric(name), Some(number), "{name}\n{}", client.get("/metrics").text);
    }
    let text = client.get("/metrics").text;
    assert!(text.contains("forebay_revision_info{pipeline=\"fraud\",revision=\"1\",revision_id=\""), "{text}");
    is_what_the_docs_say(&text);
    // A file that cannot land yet grows old, since it was written.
    let unlanded = || client.metric("forebay_oldest_unlanded_seconds{stream=\"payments\"}").unwrap();
    place.until("nothing waits to land", || unlanded() == 0.0);
    std::fs::rename(place.path("landing"), place.path("away")).unwrap();
    place.write("landing", "no folder");
    let hour = Duration::from_secs(3600);
    place.write("b.jsonl", &payments(100..200));
    let file = std::fs::File::open(place.path("b.jsonl")).unwrap();
    file.set_modified(std::time::SystemTime::now() - hour).unwrap();
    std::fs::rename(place.path("b.jsonl"), place.path("inbox/b.jsonl")).unwrap();
    place.until("it waits to land", || unlanded() >= 3600.0);
    std::fs::remove_file(place.path("landing")).unwrap();
    std::fs::rename(place.path("away"), place.path("landing")).unwrap();
    // It is tried again after half a minute.
    place.within(Duration::from_secs(120), "it has landed", || unlanded() == 0.0 && place.rows("lake.payments") == 200);
    // A segment that cannot load yet grows old.
    place.run_well(&["pause", "fraud"]);
    assert_eq!(client.metric("forebay_pipeline_paused{pipeline=\"fraud\"}"), Some(1.0));
    assert_eq!(client.metric("forebay_oldest_unloaded_seconds{pipeline=\"fraud\"}"), None);
    assert!(running.stop().success());
    assert!(TcpStream::connect(&client.address).is_err(), "the server goes down with its host");
}

/// Each name of the docs has its type and help, nothing else is said, and what is said is text that Prometheus reads.
fn is_what_the_docs_say(text: &str) {
    let docs = include_str!("../../../docs/metrics.md");
    let documented: Vec<_> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            format!("# TYPE {} {}", cells[0].trim_end_matches('`'), cells[1])
        })
        .collect();
    let told: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(told, documented);
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            let (series, number) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(name == family || of_histogram == Some(family), "{line}");
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn what_is_missing_is_named_and_the_ledger_is_asked() {
    let place = Place::new();
    std::fs::remove_file(place.path("modules/fraud.wasm")).unwrap();
    place.write("forebay.toml", &with_http("127.0.0.1:0"));
    let (running, client) = start(&place);
    place.until("it has started", || !client.get("/readyz").text.contains("starting"));
    let missing = json!({ "ready": false, "missing": ["pipeline fraud has no revision that was accepted"] });
    assert_eq!((client.get("/readyz").status, client.get("/readyz").json()), (503, missing));
    assert_eq!((client.get("/healthz").status, client.metric("forebay_ready")), (200, Some(0.0)));
    assert!(running.stop().success());
}

#[test]
fn a_server_that_cannot_be_is_refused_at_the_start() {
    let place = Place::new();
    let steady = |text: String| text.replace(&place.path("").display().to_string(), "");
    place.write("forebay.toml", &with_http("0.0.0.0:8181"));
    check("http-beyond-without-token", &place.sees(&["run"]));
    place.write("forebay.toml", &(with_http("127.0.0.1:0") + "token_file = \"secret\"\n"));
    check("http-no-token-file", &steady(place.sees(&["run"])));
    place.write("secret", "short\n");
    check("http-short-token", &steady(place.sees(&["run"])));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.write("forebay.toml", &with_http(&address));
    check("http-port-taken", &place.sees(&["run"]).replace(&address, "[address]"));
    // A run that ends by itself needs no port.
    place.run_well(&["run", "--once"]);
    place.write("forebay.toml", &(with_http("here") + "tokenfile = 7\n"));
    check("http-config", &place.sees(&["validate"]));
}

#[test]
fn who_has_no_token_changes_nothing_and_sees_nothing_from_beyond() {
    let place = Place::new();
    place.write("forebay.toml", &(with_http("0.0.0.0:0") + "token_file = \"secret\"\n"));
    place.write("secret", &format!("{TOKEN}\n"));
    let running = place.start();
    let client = Client::of(&place);
    assert_eq!((client.get("/metrics").status, client.get("/healthz").status), (401, 200));
    place.until("it is ready", || client.get("/readyz").status == 200);
    assert_eq!(client.get("/readyz").json(), json!({ "ready": true }));
    let with = |method, path, token| client.ask(method, path, Some(token), Vec::new());
    assert_eq!(with(Method::GET, "/metrics", "0123456789abcdef0123456789abcdeF").status, 403);
    assert_eq!(with(Method::GET, "/metrics", TOKEN).status, 200);
    assert_eq!(with(Method::GET, "/readyz", TOKEN).json()["missing"], json!([]));
    assert_eq!(with(Method::POST, "/metrics", TOKEN).status, 405);
    let refused = client.ask(Method::POST, "/metrics", None, Vec::new());
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.json(),
        json!({ "error": "this needs the host's token", "hint": "send the header `Authorization: Bearer <token>`" })
    );
    assert!(running.stop().success());
}

#[test]
fn slow_broken_and_greedy_clients_are_answered_and_hold_nobody_up() {
    let place = Place::new();
    place.write("forebay.toml", &with_http("127.0.0.1:0"));
    let running = place.start();
    let client = Client::of(&place);
    let head = |text: &str| client.says(text.as_bytes()).lines().next().unwrap_or_default().to_owned();
    assert_eq!(head("\u{16}\u{3}\u{1} hello\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(head("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(head("GET /healthz HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(head("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"), "HTTP/1.1 421 Misdirected Request");
    assert_eq!(
        head(&format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(20_000))),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    assert_eq!(
        head("GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "HTTP/1.1 411 Length Required"
    );
    assert_eq!(
        head("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"),
        "HTTP/1.1 413 Payload Too Large"
    );
    let of_head = client.says(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(of_head.contains("content-length: 14\r\n") && of_head.ends_with("\r\n\r\n"), "{of_head}");
    // No token anywhere: nothing can be changed.
    let refused = client.ask(Method::POST, "/healthz", Some(TOKEN), Vec::new());
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("this host has no token"), "{}", refused.text);
    // All places are taken by clients that say nothing: the host goes on, and they are sent away.
    let mute: Vec<_> = (0..80).map(|_| TcpStream::connect(&client.address).unwrap()).collect();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    assert_eq!(client.get("/healthz").status, 200);
    drop(mute);
    assert!(running.stop().success());
    place.adds_up();
}

/// A host that has the token in a file, and has loaded a text with a hundred payments.
fn loaded(text: &str) -> (Place, Running, Client) {
    let place = Place::new();
    place.write("forebay.toml", &(with_http("127.0.0.1:0") + "token_file = \"secret\"\n"));
    place.write("secret", TOKEN);
    let running = place.start();
    let client = Client::of(&place);
    place.write("inbox/a.jsonl", text);
    place.until("it is loaded", || place.rows("lake.payments") == 100);
    (place, running, client)
}

#[test]
fn the_api_does_what_its_document_says() {
    let (place, running, client) = loaded(&(payments(0..100) + "no json\n"));
    let segment = client.get("/v1/segments").json()["items"][0]["segment"].as_str().unwrap().to_owned();
    let document = client.get("/openapi.json").json();
    check("http-openapi", &serde_json::to_string_pretty(&document["paths"]["/v1/segments"]).unwrap());
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let mut real = path.replace("{stream}/{segment}", &segment).replace("{pipeline}", "fraud");
        assert!(!real.contains('{'), "{real}");
        if path == "/v1/why" {
            real += "?what=a.jsonl";
        }
        for (method, operation) in operations.as_object().unwrap() {
            asked += 1;
            let documented = |answer: &Answer| operation["responses"].get(answer.status.to_string()).is_some();
            let answer = |token, body: &[u8]| {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let answer = client.ask(method, &real, token, body.to_vec());
                assert!(documented(&answer), "{real} answers {answer:?}");
                answer
            };
            if method == "get" {
                let found = answer(None, b"");
                assert_eq!(found.status, 200, "{real}: {found:?}");
                continue;
            }
            assert_eq!(operation["security"], json!([{ "token": [] }]), "{real}");
            assert_eq!((answer(None, b"").status, answer(Some("no"), b"").status), (401, 403), "{real}");
            for parameter in operation["parameters"].as_array().unwrap() {
                assert_eq!(parameter["required"], json!(parameter["in"] == "path"), "{real}");
            }
            let required = &operation["requestBody"]["content"]["application/json"]["schema"]["required"];
            if let Some(field) = required.get(0) {
                let refused = answer(Some(TOKEN), b"").json();
                assert_eq!(refused["error"], json!(format!("`{}` is missing", field.as_str().unwrap())), "{real}");
            }
            if path != "/v1/deploy" {
                assert_eq!(answer(Some(TOKEN), b"{\"nothing\": \"x\"}").status, 400, "{real}");
            }
        }
    }
    assert_eq!(asked, 28);
    // What is asked for is checked, and told as JSON.
    for (path, status, error) in [
        ("/v1/segments?limit=0", 400, "`limit` must be a number from 1 to 1000"),
        ("/v1/segments?state=lost", 400, "`state` must be one of pending, loading, loaded, failed, superseded"),
        ("/v1/segments?colour=red", 400, "there is no parameter `colour`"),
        ("/v1/segments?pipeline=--help", 404, "there is no pipeline `--help`"),
        ("/v1/segments/payments/--help", 404, "there is no segment payments/--help"),
        ("/v1/why", 400, "`what` is missing"),
        ("/v1/nothing", 404, "there is nothing here"),
    ] {
        let refused = client.get(path);
        assert_eq!((refused.status, refused.json()["error"].as_str()), (status, Some(error)), "{path}");
    }
    let filtered = client.get("/v1/rejects?pipeline=fraud&code=malformed&limit=1").json();
    assert_eq!((&filtered["items"][0]["stage"], filtered["items"].as_array().unwrap().len()), (&json!("decode"), 1));
    assert_eq!(client.get("/v1/rejects?code=other").json(), json!({ "items": [] }));
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_module_is_deployed_rolled_back_and_paused_over_http() {
    let (place, running, client) = loaded(&payments(0..100));
    let post = |path: &str, body: &[u8]| client.ask(Method::POST, path, Some(TOKEN), body.to_vec());
    let mut wasm = std::fs::read(super::support::fraud_wasm()).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', b'2']);
    let deployed = post("/v1/deploy?file=second.wasm&label=9f2c1e&pipeline=fraud", &wasm);
    assert_eq!((deployed.status, &deployed.json()["active"][0]["revision"]), (200, &json!(2)), "{deployed:?}");
    let modules = client.get("/v1/modules?name=fraud").json();
    assert!(modules.to_string().contains("deploy:second.wasm (9f2c1e)"), "{modules}");
    let back = post("/v1/pipelines/fraud/rollback", b"{\"to\": \"1\"}");
    assert_eq!((back.status, &back.json()["active"][0]["revision"]), (200, &json!(1)), "{back:?}");
    let states: Vec<_> = client.get("/v1/deployments").json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(states, ["active", "retired", "retired"]);
    let refused = post("/v1/deploy", b"not wasm");
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.json()["error"].as_str().unwrap().starts_with("module.wasm is refused"), "{refused:?}");
    // By its head alone: not a byte of the 500 MB is waited for.
    let huge = format!(
        "POST /v1/deploy HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 500000000\r\n\r\n"
    );
    let huge = client.says(huge.as_bytes());
    assert!(huge.starts_with("HTTP/1.1 413 ") && huge.contains("67108864 bytes"), "{huge}");
    assert_eq!(post("/v1/deploy?file=../x.wasm", &wasm).status, 400);
    assert_eq!(post("/v1/deploy?pipeline=frau", &wasm).status, 404);
    assert_eq!(post("/v1/pipelines/fraud/rollback", b"{\"to\": \"9\"}").status, 404);
    assert_eq!(post("/v1/pipelines/frau/pause", b"").status, 404);
    let paused = post("/v1/pipelines/fraud/pause", b"{\"reason\": \"moved\"}");
    assert_eq!(
        (paused.status, &paused.json()["paused"]["reason"]),
        (200, &json!("moved, by somebody over HTTP")),
        "{paused:?}"
    );
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("it has landed", || {
        client.get("/v1/segments?state=pending").json()["items"].as_array().unwrap().len() == 1
    });
    let resumed = post("/v1/pipelines/fraud/resume", b"");
    assert_eq!((resumed.status, &resumed.json()["was_paused"]), (200, &json!(true)), "{resumed:?}");
    place.until("it is loaded", || place.rows("lake.payments") == 200);
    // A config on disk that is wrong is no fault of who asks.
    place.write("forebay.toml", "[");
    assert_eq!(client.get("/v1/status").status, 503);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn history_is_tried_again_replayed_and_repaired_over_http() {
    let (place, running, client) = loaded(&(payments(0..100) + "no json\n"));
    let post = |path: &str, body: &[u8]| client.ask(Method::POST, path, Some(TOKEN), body.to_vec());
    let loads = || place.query("SELECT DISTINCT _forebay_load FROM lake.payments");
    let first = loads();
    let would = post("/v1/pipelines/fraud/replay", b"{\"since\": \"1h\", \"dry_run\": true}");
    assert_eq!((would.status, &would.json()["would_replay"]["segments"]), (200, &json!(1)), "{would:?}");
    let none = post("/v1/pipelines/fraud/replay", b"{\"until\": \"2020-01-01\"}");
    assert_eq!((none.status, &none.json()["asked"]["segments"]), (200, &json!(0)), "{none:?}");
    assert_eq!(loads(), first, "nothing was asked for yet");
    let asked = post("/v1/pipelines/fraud/replay", b"{\"dry_run\": false}");
    assert_eq!(asked.status, 200, "{asked:?}");
    place.until("it is replayed", || loads() != first);
    let second = loads();
    // Into tables beside, which take the place of the rows, or go.
    let beside = post("/v1/pipelines/fraud/replay", b"{\"into\": \"v2\"}");
    assert_eq!((beside.status, &beside.json()["asked"]["into"]), (200, &json!("v2")), "{beside:?}");
    assert_eq!(post("/v1/pipelines/fraud/replay/swap", b"{\"into\": \"v3\"}").status, 404);
    let replay_into = || client.get("/v1/status").json()["pipelines"][1]["replay_into"]["of_pipeline"].clone();
    place.until("it is in the tables beside", || place.rows("lake.payments_v2") == 100);
    assert_eq!((replay_into(), loads()), (json!("fraud"), second.clone()));
    let stopped = post("/v1/pipelines/fraud/replay/stop", b"{\"into\": \"v2\"}");
    assert_eq!((stopped.status, &stopped.json()["taken_back"]), (200, &json!(0)), "{stopped:?}");
    let swap = post("/v1/pipelines/fraud/replay/swap", b"{\"into\": \"v2\"}");
    assert_eq!((swap.status, &swap.json()["asked"]["segments"]), (200, &json!(1)), "{swap:?}");
    place.until("it is in its place", || loads() != second);
    let second = loads();
    let dropped = post("/v1/pipelines/fraud/replay/drop", b"{\"into\": \"v2\"}");
    assert_eq!((dropped.status, &dropped.json()["dropped"]), (200, &json!(false)), "{dropped:?}");
    place.until("the host has dropped them", || replay_into() == json!(null));
    let mut wasm = std::fs::read(super::support::fraud_wasm()).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', b'2']);
    assert_eq!(post("/v1/deploy", &wasm).status, 200);
    let repaired = post("/v1/pipelines/fraud/repair", b"{\"made_by\": \"1\"}");
    assert_eq!(repaired.status, 200, "{repaired:?}");
    place.until("it is made anew", || loads() != second);
    let retried = post("/v1/pipelines/fraud/retry", b"{\"code\": \"malformed\"}");
    assert_eq!(retried.status, 200, "{retried:?}");
    place.until("the reject was tried again", || {
        client.metric("forebay_records_tried_again_total{pipeline=\"fraud\"}") == Some(1.0)
    });
    // Who asks stands with what is asked for, until it is done.
    assert_eq!(post("/v1/pipelines/fraud/pause", b"").status, 200);
    let by = format!(
        "POST /v1/pipelines/fraud/replay HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Forebay-By: ann@laptop\r\nContent-Length: 0\r\n\r\n"
    );
    let by = client.says(by.as_bytes());
    assert!(by.starts_with("HTTP/1.1 200 "), "{by}");
    let status = client.get("/v1/status").json();
    assert_eq!(status["pipelines"][0]["again"][0]["reason"], "forebay replay by ann@laptop", "{status}");
    let segment = client.get("/v1/segments").json()["items"][0]["segment"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("/v1/segments/{segment}")).json();
    assert_eq!(shown["again"][0]["reason"], "forebay replay by ann@laptop", "{shown}");
    let stopped = post("/v1/pipelines/fraud/replay/stop", b"");
    assert_eq!((stopped.status, &stopped.json()["taken_back"]), (200, &json!(1)), "{stopped:?}");
    assert_eq!(post("/v1/pipelines/fraud/resume", b"").status, 200);
    assert_eq!(post("/v1/pipelines/fraud/replay", b"{\"dry_run\": \"yes\"}").status, 400);
    assert_eq!(post("/v1/pipelines/frau/replay", b"").status, 404);
    assert_eq!(loads().len(), second.len());
    let why = client.get("/v1/why?what=a.jsonl");
    assert_eq!(why.status, 200, "{why:?}");
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn verbs_go_to_a_host_elsewhere_and_need_no_config() {
    let (place, running, client) = loaded(&payments(0..100));
    let elsewhere = tempfile::tempdir().unwrap();
    let url = format!("http://{}/", client.address);
    let ask = |token: &str, url: &str, verb: &[&str]| {
        let mut command = place.command(verb);
        command.current_dir(elsewhere.path()).env("FOREBAY_URL", url).env("FOREBAY_TOKEN", token);
        place.seen_of(command)
    };
    let mut wasm = std::fs::read(super::support::fraud_wasm()).unwrap();
    wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', b'2']);
    std::fs::write(elsewhere.path().join("second.wasm"), wasm).unwrap();
    let status = ask("", &url, &["status"]);
    assert!(status.starts_with("exit 0\nhost: running") && status.contains("100 loaded"), "{status}");
    let mut seen = String::new();
    for (token, url, verb) in [
        ("", url.as_str(), &["deploy", "second.wasm"][..]),
        ("0123456789abcdef", &url, &["pause", "fraud"]),
        (TOKEN, &url, &["deploy", "second.wasm", "--label", "9f2c1e"]),
        (TOKEN, &url, &["deploy", "second.wasm"]),
        (TOKEN, &url, &["deploy", "nowhere.wasm"]),
        (TOKEN, &url, &["rollback"]),
        (TOKEN, &url, &["rollback", "frau"]),
        (TOKEN, &url, &["pause", "fraud"]),
        (TOKEN, &url, &["resume", "fraud"]),
        (TOKEN, &url, &["resume", "fraud"]),
        (TOKEN, "here", &["status"]),
        (TOKEN, "http://127.0.0.1:1", &["status"]),
    ] {
        seen += &format!("$ forebay {}\n{}\n", verb.join(" "), ask(token, url, verb));
    }
    check("http-elsewhere", &seen);
    assert!(running.stop().success());
    place.adds_up();
}
