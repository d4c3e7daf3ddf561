//! The program beside a fake auth-service, as its callers see it.

use testing::{
    block_on, contract,
    feed::{CLIENT_ID, CLIENT_SECRET, FakeAuth},
    program::{Program, Signal, serving},
    rpc::{channel, listener, reason, with_token},
    tokens::TokenMint,
};
use tonic::{Code, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

const CLOCK: &str = env!("CARGO_BIN_EXE_clock");
const GET_TIME: &str = "/clock.v1.ClockService/GetTime";
const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clock.binpb"));
const ANY_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];

#[test]
fn it_tells_the_time_only_to_callers_with_the_permission() {
    block_on(async {
        let mint = TokenMint::random();
        let auth = FakeAuth::new();
        auth.set_keys(&mint.jwks());
        auth.set_role("player", &["clock:read"]);
        let listener = listener().await;
        let url = format!("http://{}", listener.address());
        auth.serve(listener);
        let account = ["--auth-client-id", CLIENT_ID, "--auth-client-secret", CLIENT_SECRET];
        let own = ["--log-format", "json", "--auth-grpc-url", &url];
        let program = Program::start(CLOCK, [&ANY_PORTS[..], &account, &own].concat());
        let at = program.addresses().await;
        serving(at.grpc).await;
        let get_time = async |token: Option<&str>| {
            let mut client = Grpc::new(channel(at.grpc));
            client.ready().await.expect("a connection");
            let request = token.map_or_else(|| tonic::Request::new(()), |token| with_token((), token));
            let path = PathAndQuery::from_static(GET_TIME);
            let answer = client.unary(request, path, ProstCodec::<(), ()>::default()).await;
            answer.map(tonic::Response::into_inner)
        };
        let token = |role| {
            let now = base::clock::Clock::system().now();
            mint.sign(&mint.claims_for(base::ids::UserId::generate(), "ann", &[role], now))
        };
        get_time(Some(&token("player"))).await.expect("a player may know");
        let refused = get_time(Some(&token("guest"))).await.expect_err("a guest may not");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED")
        );
        assert_eq!(reason(&get_time(None).await.expect_err("nobody")), "TOKEN_MISSING");
        contract::health_and_reflection_are_served(at.grpc, FILE_DESCRIPTOR_SET).await;
        program.signal(Signal::Terminate);
        assert_eq!(program.ended().await.code, Some(0));
    });
}
