//! Pages about the REST API on the HTTP port: the OpenAPI document, and two pages that display it.
//! They load nothing from other hosts.

use std::sync::LazyLock;

use aide::{redoc::Redoc, swagger::Swagger};
use axum::{
    Router,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{Html, IntoResponse},
    routing::get,
};
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

const TITLE: &str = "Identity and games: API";
const DOCUMENT_PATH: &str = "/openapi.json";
/// Header by which requests through a proxy are recognized. Every proxy sets it; direct clients do
/// not.
const FORWARDED: &str = "x-forwarded-proto";

/// Headers of every page. Browsers must not guess its content type, nor reveal its address to other
/// sites.
const PROTECTION: [(HeaderName, HeaderValue); 2] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

/// Lines that both pages lack in their head: they fit on the screen of a phone, and need no icon.
const HEAD: &str = r#"
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <link rel="icon" href="data:,">"#;
/// Styles with which Swagger UI is not wider than the screen of a phone: long names break, and the
/// column for links, which the document has none of, is left out. The background of code does not
/// cover the lines above and below.
const NARROW: &str = "
    <style>
      .swagger-ui { overflow-wrap: anywhere; }
      body .swagger-ui .markdown code, body .swagger-ui .renderedMarkdown code { padding: 0 4px; }
      .swagger-ui [class*='json-schema-2020-12'] { max-width: 100%; text-align: start; }
      @media (max-width: 640px) {
        .swagger-ui .opblock-tag { flex-wrap: wrap; }
        .swagger-ui .wrapper { padding: 0 12px; }
        .swagger-ui .response-col_links { display: none; }
      }
    </style>";
/// Logo that ReDoc loads from another host, which the policy forbids, and an empty picture.
const LOGO: [&str; 2] = [
    "https://cdn.redoc.ly/redoc/logo-mini.svg",
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E",
];

static DOCUMENT: &str = include_str!("../../proto/openapi.json");
static SWAGGER: LazyLock<Bytes> = LazyLock::new(|| {
    let page = Swagger::new(DOCUMENT_PATH).with_title(TITLE).html();
    with_head(&page, &[HEAD, NARROW]).into()
});
static REDOC: LazyLock<Bytes> = LazyLock::new(|| {
    let page = Redoc::new(DOCUMENT_PATH).with_title(TITLE).html();
    let [logo, empty] = LOGO;
    with_head(&page, &[HEAD]).replace(logo, empty).into()
});

/// Serves `/openapi.json`, `/docs` (Swagger UI, for trying calls) and `/redoc` (for reading).
pub(crate) fn router(gateway: &Url) -> Router {
    let elsewhere = Bytes::from(document_for(gateway));
    let policy = HeaderValue::try_from(policy(gateway)).expect("a URL is ASCII");
    let page = move |page: &'static LazyLock<Bytes>| {
        get(async move || {
            (
                PROTECTION,
                [(CONTENT_SECURITY_POLICY, policy)],
                Html(Bytes::clone(page)),
            )
        })
    };
    let document = async move |headers: HeaderMap| {
        // The document's own server is `/`. Behind the gateway this is right, since the gateway
        // serves both the document and REST. On this port, the document must name the gateway.
        let text = if headers.contains_key(FORWARDED) {
            Bytes::from_static(DOCUMENT.as_bytes())
        } else {
            elsewhere
        };
        (PROTECTION, [(CONTENT_TYPE, "application/json")], text).into_response()
    };
    Router::new()
        .route(DOCUMENT_PATH, get(document))
        .route("/docs", page.clone()(&SWAGGER))
        .route("/redoc", page(&REDOC))
}

/// Adds lines to the head of a page.
fn with_head(page: &str, lines: &[&str]) -> String {
    const TITLE_END: &str = "</title>";
    page.replacen(TITLE_END, &format!("{TITLE_END}{}", lines.concat()), 1)
}

/// Returns the content security policy. The pages bring their own scripts and styles, and call only
/// the API.
fn policy(gateway: &Url) -> String {
    let gateway = gateway.origin().ascii_serialization();
    format!(
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' \
         data:; \
         worker-src blob:; connect-src 'self' {gateway}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the OpenAPI document with the gateway as its server.
fn document_for(gateway: &Url) -> String {
    let mut document: Value =
        serde_json::from_str(DOCUMENT).expect("openapi.json is valid JSON, as tested in the crate `rest`");
    document["servers"] = json!([{"url": gateway.as_str().trim_end_matches('/'), "description": "the gateway"}]);
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_have_what_is_added_to_them() {
        let [logo, empty] = LOGO;
        for (page, lines) in [(&SWAGGER, &[HEAD, NARROW][..]), (&REDOC, &[HEAD, empty][..])] {
            let text = std::str::from_utf8(page).expect("UTF-8");
            assert!(lines.iter().all(|line| text.contains(line)) && !text.contains(logo));
        }
        // If ReDoc no longer has it, this page need not replace it.
        assert!(Redoc::new(DOCUMENT_PATH).html().contains(logo));
    }
}
