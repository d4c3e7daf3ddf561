//! Tests of the limits on what clients can take up before they log in.

use std::{fs, time::Duration};

use access::{policy::Grants, testing::tokens::TokenMint, token::KeySet, view::AccessView};
use base::{
    clock::Clock,
    running::Running,
    testing::rpc::{RawConnection, channel, listener, reason},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use ipnet::IpNet;
use proto::game::v1::FILE_DESCRIPTOR_SET;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{GrpcServer, ServerSettings};
use crate::testing::contract::open_all_reflection_streams;

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Starts a server with health and reflection only.
async fn spawn(settings: &ServerSettings) -> (std::net::SocketAddr, Running) {
    let listener = listener().await;
    let address = listener.address();
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let server = GrpcServer {
        settings,
        descriptor_set: FILE_DESCRIPTOR_SET,
        verifier: TokenMint::fixed(1).verifier(Clock::system()),
        access: AccessView::offline(KeySet::empty(), Grants::default(), Clock::system()),
    };
    server.spawn(listener, &running).await.expect("a server");
    (address, running)
}

fn behind_a_proxy() -> ServerSettings {
    let loopback: IpNet = "127.0.0.0/8".parse().expect("a network");
    ServerSettings {
        unfinished_calls_mib: 1,
        trusted_proxies: vec![loopback],
        ..ServerSettings::default()
    }
}

/// Returns the codes and reasons of the first `count` responses to calls that are left open.
async fn first_answers(
    answers: &mut FuturesUnordered<h2::client::ResponseFuture>,
    count: usize,
) -> Vec<(Code, String)> {
    let mut first = Vec::new();
    while first.len() < count {
        let answer = answers
            .next()
            .await
            .expect("more answers")
            .expect("no broken connection");
        let status = tonic::Status::from_header_map(answer.headers());
        first.push(status.map_or((Code::Ok, String::new()), |status| (status.code(), reason(&status))));
    }
    first
}

#[tokio::test]
async fn stalled_calls_are_refused_to_make_room_for_others() {
    let (address, _running) = spawn(&behind_a_proxy()).await;
    // One address may hold 128 KiB of the 1 MiB budget, which is enough for one such call but not
    // for two.
    let connection = RawConnection::open(address).await;
    let forwarded = [("x-forwarded-for", "192.0.2.1")];
    let (mut answers, mut streams) = (FuturesUnordered::new(), Vec::new());
    for _ in 0..10 {
        let (answer, stream) = connection.begin_and_stall(CHECK, &forwarded, vec![0; 60_000]).await;
        answers.push(answer);
        streams.push(stream);
    }
    for refusal in first_answers(&mut answers, 9).await {
        assert_eq!(refusal, (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    }
    // Neither other clients nor the remaining call are affected.
    let good = HealthClient::new(channel(address))
        .check(HealthCheckRequest::default())
        .await;
    good.expect("served");
    for stream in &mut streams {
        let _ = stream.send_data(vec![0; 10].into(), true);
    }
    let last = first_answers(&mut answers, 1).await;
    assert_ne!(last[0].0, Code::ResourceExhausted, "{last:?}");
}

#[tokio::test]
async fn headers_are_counted_by_the_memory_that_they_take() {
    let (address, _running) = spawn(&behind_a_proxy()).await;
    let connection = RawConnection::open(address).await;
    let names: Vec<String> = (0..400).map(|number| format!("x{number}")).collect();
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    headers.push(("x-forwarded-for", "192.0.2.1"));
    let (mut answers, mut streams) = (FuturesUnordered::new(), Vec::new());
    for _ in 0..5 {
        let (answer, stream) = connection.begin_and_stall(CHECK, &headers, Vec::new()).await;
        answers.push(answer);
        streams.push(stream);
    }
    // The headers have 15 KiB by HPACK, but over 64 KiB in memory. An address has room for one such
    // call.
    for (code, _) in first_answers(&mut answers, 4).await {
        assert_eq!(code, Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn all_addresses_share_the_budget() {
    let (address, _running) = spawn(&behind_a_proxy()).await;
    let connection = RawConnection::open(address).await;
    let (mut answers, mut streams) = (FuturesUnordered::new(), Vec::new());
    for number in 0..40 {
        let from = format!("192.0.2.{number}");
        let forwarded = [("x-forwarded-for", from.as_str())];
        let (answer, stream) = connection.begin_and_stall(CHECK, &forwarded, vec![0; 60_000]).await;
        answers.push(answer);
        streams.push(stream);
    }
    // Each call takes about 68 KiB, so the budget of 1 MiB has room for fifteen.
    for (code, _) in first_answers(&mut answers, 25).await {
        assert_eq!(code, Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn a_message_in_many_frames_arrives_whole() {
    let (address, _running) = spawn(&ServerSettings::default()).await;
    let connection = RawConnection::open(address).await;
    // The message names an unknown service, and is sent one byte per frame.
    let name = "x".repeat(500);
    let message = prost::Message::encode_to_vec(&HealthCheckRequest { service: name });
    let mut bytes = base::testing::rpc::frame(&message);
    let last = bytes.pop().expect("a byte");
    let (answer, mut stream) = connection.begin_and_stall(CHECK, &[], bytes.drain(..1).collect()).await;
    for byte in bytes {
        stream.send_data(vec![byte].into(), false).expect("sent");
        tokio::task::yield_now().await;
    }
    stream.send_data(vec![last].into(), true).expect("sent");
    let answer = answer.await.expect("an answer");
    let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn public_streams_are_limited_per_connection_and_address() {
    let (address, _running) = spawn(&ServerSettings::default()).await;
    let _held = open_all_reflection_streams(address).await;
    let mut watching = Vec::new();
    let mut refused = 0;
    for _ in 0..5 {
        let mut health = HealthClient::new(channel(address));
        for _ in 0..17 {
            match health.watch(HealthCheckRequest::default()).await {
                Ok(stream) => watching.push(stream),
                Err(status) => {
                    assert_eq!(reason(&status), "OVERLOADED", "{status}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((watching.len(), refused), (64, 21));
    // A single check is always answered.
    let mut health = HealthClient::new(channel(address));
    health.check(HealthCheckRequest::default()).await.expect("served");
    drop(watching);
    let again = async {
        while health.watch(HealthCheckRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .expect("the places are free again");
}

#[tokio::test]
async fn in_process_channels_need_neither_tls_nor_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    let settings = ServerSettings {
        tls_cert_file: write("cert.pem", certified.cert.pem()),
        tls_key_file: write("key.pem", certified.signing_key.serialize_pem()),
        tls_client_ca_file: write("ca.pem", certified.cert.pem()),
        ..ServerSettings::default()
    };
    let (listener, local) = listener().await.with_local();
    let port = channel(listener.address());
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let server = GrpcServer {
        settings: &settings,
        descriptor_set: FILE_DESCRIPTOR_SET,
        verifier: TokenMint::fixed(1).verifier(Clock::system()),
        access: AccessView::offline(KeySet::empty(), Grants::default(), Clock::system()),
    };
    server.spawn(listener, &running).await.unwrap();

    let check = async |channel| HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    let channel = local.channel();
    check(channel.clone()).await.unwrap();
    check(local.channel()).await.unwrap();
    check(port).await.unwrap_err();
    running.stop().await.unwrap();
    check(channel).await.unwrap_err();
}
