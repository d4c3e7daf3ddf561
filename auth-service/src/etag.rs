//! Conditional requests (RFC 9110, section 13).

use axum::http::{HeaderMap, header::IF_NONE_MATCH};

/// Returns whether `If-None-Match` shows that the client already has the content with this entity
/// tag. If so, the request is answered with 304.
pub(crate) fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(|list| names(list, tag))
}

/// Returns whether the list is `*` or contains the tag. A weak tag matches too, because the
/// comparison is the weak one (RFC 9110, section 8.8.3.2).
fn names(list: &str, tag: &str) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    entity_tags(list).any(|listed| opaque(listed) == opaque(tag))
}

/// Iterates over the tags of a list, up to the first malformed one. A tag can contain commas inside
/// its quotes.
fn entity_tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let prefix = if rest.starts_with("W/") { 2 } else { 0 };
        let inside = rest[prefix..].strip_prefix('"')?;
        let end = prefix + 1 + inside.find('"')? + 1;
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn if_none_match_is_compared_as_rfc_9110_says() {
        for (values, expected) in [
            (&[][..], false),
            (&[r#""a""#], true),
            (&["*"], true),
            (&[" * "], true),
            (&[r#"W/"a""#], true),
            (&[r#""b", "a""#], true),
            (&[r#""b",W/"a","c""#], true),
            (&[r#", "b" , "a""#], true),
            (&[r#""b""#, r#""a""#], true),
            (&[r#""x,y", "a""#], true),
            (&[r#""b""#], false),
            (&[r#""A""#], false),
            (&[r#"w/"a""#], false),
            (&[r#""x"a""#], false),
            (&[r#""b, "a""#], false),
            (&["a"], false),
            (&[""], false),
            (&[r#"""#], false),
            (&[r#"*, "b""#], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            assert_eq!(is_known(&headers, r#""a""#), expected, "{values:?}");
        }
    }
}
