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
        assert_eq!(openapi.contains(&id), rpc.http.is_some(), "{id}");
    }
}
