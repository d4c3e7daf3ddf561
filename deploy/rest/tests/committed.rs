//! What is committed is what the protos say.

use std::{fs, str};

#[test]
fn the_committed_files_are_up_to_date() {
    for file in rest::files().unwrap() {
        let committed = fs::read(&file.path).unwrap_or_default();
        let path = file.path.display();
        assert!(
            committed == file.content,
            "{path} is behind the protos: run `cargo run -p rest`"
        );
    }
}

#[test]
fn every_rpc_with_an_http_rule_is_in_the_document() {
    let [openapi, _] = rest::files().unwrap();
    let openapi = str::from_utf8(&openapi.content).unwrap();
    let rpcs = rest::rpcs().unwrap();
    assert!(rpcs.len() > 80, "{}", rpcs.len());
    for rpc in rpcs {
        let id = format!("\"{}_{}\"", rpc.method.parent_service().name(), rpc.method.name());
        assert_eq!(openapi.contains(&id), !rpc.http.is_empty(), "{id}");
    }
}

/// Envoy 1.40 ends when it makes JSON of a map with an empty value (protobuf issue 26885), so whoever fills one leaves empty values out.
#[test]
fn a_map_is_filled_in_places_that_leave_empty_values_out() {
    let mut maps: Vec<String> = Vec::new();
    for rpc in rest::rpcs().unwrap() {
        let fields = rpc
            .method
            .parent_pool()
            .all_messages()
            .flat_map(|message| message.fields().collect::<Vec<_>>());
        let of_ours = fields.filter(|field| field.is_map() && !field.full_name().starts_with("google."));
        maps.extend(of_ours.map(|field| field.full_name().to_owned()));
    }
    maps.sort();
    maps.dedup();
    // `grpc::audit`; that of errors is `base::error`.
    assert_eq!(maps, ["auth.v1.AuditEvent.details"]);
}
