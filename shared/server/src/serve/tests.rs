//! Tests of connections that stall, flood or read nothing, and of well-behaved ones.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use base::{running::Running, testing::rpc::listener};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, service_fn};

use super::{
    accept::Port,
    connection::{Connection, Rules, serve},
    limits::ConnectionLimits,
    protocol::Protocol,
    tls::server_config,
};
use crate::ServerSettings;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const IDLE: Duration = Duration::from_secs(300);

/// Returns a service that answers every request with this many bytes.
fn answering(
    len: usize,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static {
    service_fn(move |_| async move { Ok(Response::new(Body::new(Full::new(Bytes::from(vec![0; len]))))) })
}

fn rules(protocol: Protocol) -> Rules {
    Rules {
        protocol,
        idle: IDLE,
        unread: super::unread::UnreadBudget::default(),
        stop: CancellationToken::new(),
        kill: CancellationToken::new(),
    }
}

/// Serves an HTTP/2 connection in memory, and returns the client's end.
fn served(len: usize) -> DuplexStream {
    let (client, socket) = duplex(1 << 20);
    let connection = Connection::new(None);
    tokio::spawn(serve(socket, connection, answering(len), rules(Protocol::Grpc)));
    client
}

fn get() -> Request<()> {
    Request::get("http://localhost/").body(()).expect("a request")
}

#[tokio::test]
async fn connections_that_are_not_set_up_in_time_are_closed() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let pem = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let tls = server_config(pem.0.as_bytes(), pem.1.as_bytes(), None).expect("a configuration");
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let mut waiting = JoinSet::new();
    for (what, protocol, tls, sent) in [
        ("silence", Protocol::Grpc, None, &b""[..]),
        ("half a preface", Protocol::Grpc, None, &PREFACE[..12]),
        ("a preface without SETTINGS", Protocol::Grpc, None, PREFACE),
        (
            "half a ClientHello",
            Protocol::Grpc,
            Some(tls),
            &[0x16, 3, 1, 2, 0, 1][..],
        ),
        ("silence over HTTP/1", Protocol::Http, None, b""),
        ("half a request", Protocol::Http, None, b"GET / HTTP/1.1\r\nhost: x\r\n"),
    ] {
        let listener = listener().await;
        let address = listener.address();
        let port = Port {
            protocol,
            limits: ConnectionLimits::new("test", &ServerSettings::default()),
            tls,
            idle: IDLE,
        };
        tokio::spawn(port.serve(listener.into_parts().0, answering(1), running.clone()));
        waiting.spawn(async move {
            let mut socket = TcpStream::connect(address).await.expect("connected");
            socket.write_all(sent).await.expect("sent");
            let opened = Instant::now();
            let ended = timeout(Duration::from_secs(20), socket.read_to_end(&mut Vec::new())).await;
            // The connection is closed, or reset if the server had not read everything.
            let _ = ended.unwrap_or_else(|_| panic!("{what} keeps its connection"));
            assert!(opened.elapsed() >= Duration::from_secs(3), "{what} was closed too soon");
        });
    }
    while let Some(done) = waiting.join_next().await {
        done.expect("closed in time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_slow_second_request_is_closed() {
    let (mut client, socket) = duplex(1 << 16);
    let connection = Connection::new(None);
    tokio::spawn(serve(socket, connection, answering(1), rules(Protocol::Http)));
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = [0; 15];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // A connection may wait for its next request, but a request must not take for ever.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let slow = async {
        while client.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(30), slow).await.expect("closed");
}

#[tokio::test]
async fn a_flood_of_control_frames_ends_in_goaway() {
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const PRIORITY: &[u8] = &[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    const WINDOW_UPDATE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (what, frame) in [
        ("SETTINGS", EMPTY_SETTINGS),
        ("PING", PING),
        ("PRIORITY", PRIORITY),
        ("WINDOW_UPDATE", WINDOW_UPDATE),
    ] {
        let mut client = served(1);
        client
            .write_all(&[PREFACE, EMPTY_SETTINGS].concat())
            .await
            .expect("sent");
        let flood = frame.repeat(100_000);
        let _ = timeout(Duration::from_secs(20), client.write_all(&flood))
            .await
            .expect("ended in time");
        let mut received = Vec::new();
        let _ = timeout(Duration::from_secs(20), client.read_to_end(&mut received))
            .await
            .expect("closed");
        let calm_down = [0, 0, 0, 0x0b];
        assert!(
            received.ends_with(&calm_down),
            "{what}: no ENHANCE_YOUR_CALM at the end"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_unread_response_is_cancelled() {
    let (mut send, connection) = h2::client::Builder::new()
        .initial_window_size(20_000)
        .handshake::<_, Bytes>(served(1 << 20))
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let (response, _) = send.send_request(get(), true).expect("a stream");
    let mut body = response.await.expect("an answer").into_body();
    let mut read = 0;
    let began = Instant::now();
    let error = loop {
        // The window is never opened again.
        match body.data().await.expect("the body must end with an error") {
            Ok(data) => read += data.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert!(read <= 20_000);
    assert!((29..=40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // The connection stays open for other calls.
    let (response, _) = send.send_request(get(), true).expect("a stream");
    let mut body = response.await.expect("an answer").into_body();
    body.data().await.expect("data").expect("no error");
}

#[tokio::test(start_paused = true)]
async fn little_is_queued_for_a_client_that_reads_nothing() {
    const PIECE: usize = 16 * 1024;
    static ASKED_FOR: AtomicUsize = AtomicUsize::new(0);
    let endless = service_fn(|_| async {
        let pieces = futures_util::stream::repeat_with(|| {
            ASKED_FOR.fetch_add(PIECE, Relaxed);
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(vec![0; PIECE])))
        });
        Ok(Response::new(Body::new(http_body_util::StreamBody::new(pieces))))
    });
    let (mut client, socket) = duplex(PIECE);
    let connection = Connection::new(None);
    let served = tokio::spawn(serve(socket, connection, endless, rules(Protocol::Grpc)));
    // Send the largest windows for the stream and the connection, and one request.
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0];
    let request = [0, 0, 4, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x01];
    let authority = [1, b'x'];
    let mut bytes = [PREFACE, &settings, &window, &request, &authority].concat();
    let at = PREFACE.len() + settings.len() + window.len() + 2;
    bytes[at] = 6;
    client.write_all(&bytes).await.expect("sent");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked_for = ASKED_FOR.load(Relaxed);
    assert!((PIECE..=8 * PIECE).contains(&asked_for), "{asked_for} bytes");
    timeout(Duration::from_secs(60), served)
        .await
        .expect("ended")
        .expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_later_and_larger_message_of_a_stream_is_counted_at_its_size() {
    const SMALL: usize = 40 * 1024;
    const LARGE: usize = 1 << 20;
    let two = service_fn(|_| async {
        let messages = [SMALL, LARGE].map(|len| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(vec![0; len]))));
        let messages = http_body_util::StreamBody::new(futures_util::stream::iter(messages));
        Ok(Response::new(Body::new(messages)))
    });
    let rules = rules(Protocol::Grpc);
    let unread = rules.unread.clone();
    let (client, socket) = duplex(1 << 20);
    tokio::spawn(serve(socket, Connection::new(None), two, rules));
    let (mut send, connection) = h2::client::Builder::new()
        .initial_window_size(20_000)
        .handshake::<_, Bytes>(client)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let becomes = async |counted: std::ops::RangeInclusive<usize>| {
        let counts = async {
            while !counted.contains(&unread.bytes()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let counts = timeout(Duration::from_secs(20), counts).await;
        counts.unwrap_or_else(|_| panic!("{} bytes, not {counted:?}", unread.bytes()));
    };
    let (response, _) = send.send_request(get(), true).expect("a stream");
    let mut body = response.await.expect("an answer").into_body();
    becomes(1..=SMALL).await;
    let mut read = 0;
    while read < SMALL {
        let data = body.data().await.expect("more").expect("no error");
        read += data.len();
        body.flow_control().release_capacity(data.len()).expect("released");
    }
    becomes(LARGE - SMALL..=LARGE + SMALL).await;
    while let Some(data) = body.data().await {
        let data = data.expect("no error");
        read += data.len();
        body.flow_control().release_capacity(data.len()).expect("released");
    }
    assert_eq!(read, SMALL + LARGE);
    becomes(0..=0).await;
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_answered() {
    for _ in 0..50 {
        let (mut client, socket) = duplex(1 << 16);
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("sent");
        client.shutdown().await.expect("closed");
        let connection = Connection::new(None);
        tokio::spawn(serve(socket, connection, answering(1), rules(Protocol::Http)));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_does_not_delay_the_shutdown() {
    let (mut client, socket) = duplex(1 << 16);
    let connection = Connection::new(None);
    let rules = rules(Protocol::Grpc);
    let stop = rules.stop.clone();
    let served = tokio::spawn(serve(socket, connection, answering(1), rules));
    client
        .write_all(&[PREFACE, EMPTY_SETTINGS].concat())
        .await
        .expect("sent");
    // The client answers nothing, neither the SETTINGS nor the GOAWAY.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    timeout(Duration::from_secs(5), served)
        .await
        .expect("ended")
        .expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_slowly_read_response_arrives_complete() {
    const LEN: usize = 300_001;
    for len in [0, 1, 2048, 2049, 16_384, 18_432, 18_433, LEN] {
        let (mut send, connection) = h2::client::Builder::new()
            .initial_window_size(30_000)
            .handshake::<_, Bytes>(served(len))
            .await
            .expect("a connection");
        tokio::spawn(connection);
        let (response, _) = send.send_request(get(), true).expect("a stream");
        let mut body = response.await.expect("an answer").into_body();
        let mut read = 0;
        while let Some(data) = body.data().await {
            let data = data.expect("no error");
            read += data.len();
            tokio::time::sleep(Duration::from_secs(1)).await;
            body.flow_control().release_capacity(data.len()).expect("released");
        }
        assert_eq!(read, len);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_gets_a_goaway() {
    let (mut send, connection) = h2::client::handshake(served(1)).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let (response, _): (_, h2::SendStream<Bytes>) = send.send_request(get(), true).expect("a stream");
    let body = response.await.expect("an answer").into_body();
    drop((send, body));
    let began = Instant::now();
    // A client that dropped its handle would go by itself, but this one waits for the server.
    let ended = timeout(IDLE * 2, connection).await.expect("ended").expect("no panic");
    ended.expect("a GOAWAY without an error");
    assert!(began.elapsed() <= IDLE + Duration::from_secs(60));
}

#[tokio::test]
async fn responses_are_copied_out_of_their_larger_buffers() {
    let mut large = BytesMut::with_capacity(8192);
    large.put_slice(b"small");
    let address = large.as_ptr();
    let activity = std::sync::Arc::new(super::activity::Activity::new());
    let body = Body::new(Full::new(large.freeze()));
    let answer = super::answer::ResponseBody::new(body, Some(activity.call()));
    let sent = answer.collect().await.expect("a body").to_bytes();
    assert_eq!(&sent[..], b"small");
    assert_ne!(sent.as_ptr(), address);
}
