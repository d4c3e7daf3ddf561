//! Invalid calls that every gRPC server must withstand: texts that are far too long, and very many
//! calls.

use std::{net::SocketAddr, time::Duration};

use base::testing::rpc::{Answer, RawConnection, bad_fields, frame};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use tonic::Code;
use tonic_types::StatusExt as _;

/// Character of 3 bytes that NFKC expands into 18 characters.
const EXPANDING: &str = "\u{fdfa}";
/// Length of a text, in bytes. It fits into one message.
const LEN: usize = 60_000;
/// Depth to which messages in requests are searched.
const MAX_DEPTH: usize = 4;

/// Calls every RPC once for each text in its request, with a far too long text in that field and
/// nothing in the others. Asserts that each call is refused as invalid and that the error names the
/// field.
///
/// `unread` lists the exceptions, by the path of the field or by RPC and path: tokens, which are
/// refused as such, and fields that only responses use.
pub async fn long_texts_are_refused(address: SocketAddr, descriptor_set: &[u8], token: &str, unread: &[&str]) {
    let pool = DescriptorPool::decode(descriptor_set).expect("a descriptor set");
    let connection = RawConnection::open(address).await;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let methods: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    let (mut texts, mut wrong) = (0, Vec::new());
    for method in methods {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        for fields in texts_of(&method.input(), 0) {
            texts += 1;
            let name = fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
            let message = with_text(&method.input(), &fields).encode_to_vec();
            let answer = connection
                .call(&path, &headers, frame(&message))
                .await
                .expect("an answer");
            let (code, reason) = answer.code_and_reason();
            let whole = format!("{} {name}", method.name());
            let is_unread = unread
                .iter()
                .any(|end| whole.ends_with(&format!(" {end}")) || whole == *end);
            let is_named = names(&answer, &name);
            let is_good = if is_unread {
                !matches!(code, Code::Internal | Code::Unknown | Code::ResourceExhausted)
            } else {
                code == Code::InvalidArgument && is_named
            };
            if !is_good {
                wrong.push(format!(
                    "{path} {name}: {code:?} {reason} {:?}",
                    bad_fields(&answer.status)
                ));
            }
        }
    }
    assert!(texts > 5, "there are requests with texts");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns whether the error names this field, by its whole path or by a part of it.
fn names(answer: &Answer, path: &str) -> bool {
    bad_fields(&answer.status).iter().any(|bad| {
        let bad = bad.split('[').next().unwrap_or_default();
        path == bad || path.ends_with(&format!(".{bad}")) || path.starts_with(&format!("{bad}."))
    })
}

/// Returns the paths of all texts in a message.
fn texts_of(message: &MessageDescriptor, depth: usize) -> Vec<Vec<FieldDescriptor>> {
    if depth == MAX_DEPTH {
        return Vec::new();
    }
    let ways = message.fields().filter(|field| !field.is_map()).flat_map(|field| {
        let inside = match field.kind() {
            Kind::String | Kind::Bytes => vec![Vec::new()],
            Kind::Message(inner) => texts_of(&inner, depth + 1),
            _ => Vec::new(),
        };
        inside.into_iter().map(move |rest| {
            let mut way = vec![field.clone()];
            way.extend(rest);
            way
        })
    });
    ways.collect()
}

/// Builds a message with one long text, at the end of this path.
fn with_text(message: &MessageDescriptor, way: &[FieldDescriptor]) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    let Some((field, rest)) = way.split_first() else {
        return made;
    };
    let value = match field.kind() {
        Kind::Message(inner) => Value::Message(with_text(&inner, rest)),
        Kind::Bytes => Value::Bytes(EXPANDING.repeat(LEN / EXPANDING.len()).into_bytes().into()),
        _ => Value::String(EXPANDING.repeat(LEN / EXPANDING.len())),
    };
    let value = if field.is_list() {
        Value::List(vec![value])
    } else {
        value
    };
    made.set_field(field, value);
    debug_assert_eq!(made.descriptor(), *message);
    made
}

/// Sends a malformed message to an RPC that the caller may use. Asserts that `limit` calls are
/// answered with INVALID_ARGUMENT, and that the next one is refused with a time to wait. `from` is
/// the `x-forwarded-for` of the calls.
pub async fn invalid_calls_are_limited_to(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    from: &str,
    limit: usize,
) {
    let connection = RawConnection::open(address).await;
    let authorization = format!("Bearer {}", token.unwrap_or_default());
    let mut headers = vec![("x-forwarded-for", from)];
    headers.extend(token.is_some().then_some(("authorization", authorization.as_str())));
    for number in 0..limit {
        let answer = connection
            .call(path, &headers, frame(&[0xff]))
            .await
            .expect("an answer");
        let refused = (Code::InvalidArgument, "MESSAGE_MALFORMED".to_owned());
        assert_eq!(answer.code_and_reason(), refused, "{number} from {from}");
    }
    let answer = connection
        .call(path, &headers, frame(&[0xff]))
        .await
        .expect("an answer");
    let refused = (Code::ResourceExhausted, "TOO_MANY_INVALID_CALLS".to_owned());
    assert_eq!(answer.code_and_reason(), refused, "{from}");
    let wait = answer.status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(wait.is_some_and(|wait| wait > Duration::ZERO), "{wait:?}");
}
