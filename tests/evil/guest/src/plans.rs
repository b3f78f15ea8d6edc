//! Plans, good and bad. The honest one computes, on route `out`, the columns that `config.columns` names, which are the
//! whole input schema: so the schema that came is also the computed one, where `config.schema` has none (an IPC message, in hex).

use serde_json::Value;

use crate::bindings::Plan;
use crate::bindings::forebay::transform::types::{InputColumn, InputSource, OutputColumn, PassColumn, Route};

pub(crate) fn plan(behaviour: &str, config: &Value, schema: Vec<u8>) -> Plan {
    let schema = config["schema"].as_str().map_or(schema, from_hex);
    let columns: Vec<&str> =
        config["columns"].as_array().map(|names| names.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    let inputs = columns
        .iter()
        .map(|name| InputColumn { name: (*name).into(), source: InputSource::Column, required: false })
        .collect::<Vec<_>>();
    let computed = (0..columns.len() as u32).map(OutputColumn::Computed).collect();
    let out = Route { name: "out".into(), columns: computed, computed_schema: schema };
    let mut plan = Plan { inputs, routes: vec![out], reusable: config["reusable"].as_bool().unwrap_or(false) };
    match behaviour {
        "passes" => {
            plan.routes[0].columns.clear();
            plan.routes[0].columns.push(OutputColumn::PassOthers(vec![]));
            plan.routes[0].computed_schema.clear();
        }
        "plan_two_routes_alike" => {
            let route = Route { name: "out".into(), columns: vec![], computed_schema: vec![] };
            plan.routes.push(route);
        }
        "plan_no_route" => plan.routes.clear(),
        "plan_route_name" => plan.routes[0].name = "../out".into(),
        "plan_unknown_input" => {
            plan.inputs.push(InputColumn { name: "amuont".into(), source: InputSource::Column, required: false });
        }
        "plan_missing_required" => {
            plan.inputs.push(InputColumn { name: "later".into(), source: InputSource::Column, required: true });
        }
        "plan_input_twice" => plan.inputs.push(plan.inputs[0].clone()),
        "plan_record" => {
            let own = [
                ("key", InputSource::RecordKey),
                ("headers", InputSource::RecordHeaders),
                ("timestamp", InputSource::RecordTimestamp),
                ("position", InputSource::RecordPosition),
                ("object", InputSource::RecordObject),
            ];
            plan.inputs = own.map(|(name, source)| InputColumn { name: name.into(), source, required: false }).to_vec();
        }
        "plan_unknown_pass" => plan.routes[0]
            .columns
            .push(OutputColumn::Pass(PassColumn { input: "nowhere".into(), output: "somewhere".into() })),
        "plan_name_twice" => plan.routes[0].columns.push(OutputColumn::Computed(0)),
        "plan_reserved" => plan.routes[0]
            .columns
            .push(OutputColumn::Pass(PassColumn { input: columns[0].into(), output: "_forebay_row".into() })),
        "plan_computed_range" => plan.routes[0].columns.push(OutputColumn::Computed(99)),
        "plan_no_schema" => plan.routes[0].computed_schema = vec![],
        "plan_bad_schema" => plan.routes[0].computed_schema.truncate(40),
        "plan_noise_schema" => {
            for byte in plan.routes[0].computed_schema.iter_mut().skip(8) {
                *byte = byte.wrapping_mul(31).wrapping_add(7);
            }
        }
        _ => {}
    }
    plan
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex digits"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}
