use base::testing::block_on;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    DatabaseSettings, Db, Error, OpenError,
    testing::postgres::{Cluster, ServerIdentity},
};

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Authority {
        certificate: params.self_signed(&key).unwrap().pem(),
        issuer: Issuer::new(params, key),
    }
}

#[derive(QueryableByName)]
struct Encrypted {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    ssl: bool,
}

/// Returns whether a connection is encrypted, or why it could not be made.
async fn connection(url: &str) -> Result<bool> {
    let db = Db::connect(&DatabaseSettings::new(url.parse().unwrap())).await.unwrap();
    let mut conn = db.read().await?;
    let row: Result<Encrypted> = query!(&mut conn, |c| diesel::sql_query(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    .get_result(c)
    .await);
    Ok(row?.ssl)
}

#[test]
fn every_sslmode_behaves_as_in_libpq() {
    let (trusted, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &trusted.issuer)
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("sslrootcert={}", path.display())
    };
    let good = root("good.pem", &trusted.certificate);
    let wrong = root("wrong.pem", &other.certificate);
    let cluster = Cluster::start(Some(&ServerIdentity {
        certificate: &certificate.pem(),
        key: &key.serialize_pem(),
    }));
    let by_address = cluster.url("postgres");
    let by_name = by_address.replace("127.0.0.1", "localhost");

    let table: [(&str, String, Option<bool>); 14] = [
        (&by_address, String::new(), Some(true)),
        (&by_address, "sslmode=disable".into(), Some(false)),
        (&by_address, "sslmode=prefer".into(), Some(true)),
        (&by_address, "sslmode=require".into(), Some(true)),
        (&by_address, format!("sslmode=require&{good}"), Some(true)),
        (&by_address, format!("sslmode=require&{wrong}"), None),
        (&by_address, format!("sslmode=verify-ca&{good}"), Some(true)),
        (&by_name, format!("sslmode=verify-ca&{good}"), Some(true)),
        (&by_address, format!("sslmode=verify-ca&{wrong}"), None),
        (&by_address, format!("sslmode=verify-full&{good}"), Some(true)),
        (
            &by_address,
            format!("{good}&sslmode=verify-full&application_name=test"),
            Some(true),
        ),
        (&by_address, format!("sslmode=verify-full&{wrong}"), None),
        (&by_name, format!("sslmode=verify-full&{good}"), None),
        (&by_name, "sslmode=require".into(), Some(true)),
    ];
    block_on(async {
        for (url, parameters, expected) in table {
            let found = connection(&format!("{url}?{parameters}")).await;
            match (&found, expected) {
                (Ok(encrypted), Some(expected)) => assert_eq!(*encrypted, expected, "{parameters}"),
                (Err(Error::Unavailable(text)), None) => assert!(text.contains("certificate"), "{parameters}: {text}"),
                _ => panic!("{url} {parameters}: {found:?}"),
            }
        }
    });
}

#[test]
fn no_credentials_are_sent_without_the_required_tls() {
    block_on(async {
        for mode in ["require", "verify-ca", "verify-full"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!(
                "postgres://kim:s3cret@{}/test?sslmode={mode}",
                listener.local_addr().unwrap()
            );
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                // The client sends SSLRequest, and a server without TLS answers "N".
                stream.read_exact(&mut [0; 8]).await.unwrap();
                stream.write_all(b"N").await.unwrap();
                stream.read(&mut [0; 8]).await.unwrap()
            };
            let (outcome, received) = tokio::join!(connection(&url), server);
            assert!(matches!(outcome, Err(Error::Unavailable(_))), "{mode}: {outcome:?}");
            assert_eq!(received, 0, "{mode}");
        }
    });
}

#[test]
fn a_root_certificate_that_cannot_be_read_is_named() {
    block_on(async {
        let url = "postgres://kim@localhost/test?sslmode=verify-full&sslrootcert=%2Fno%2Fsuch%20file";
        let Err(error) = Db::connect(&DatabaseSettings::new(url.parse().unwrap())).await else {
            panic!("it was read");
        };
        assert!(matches!(error, OpenError::Tls(_)), "{error:?}");
        assert!(error.to_string().contains("/no/such file"), "{error}");
    });
}
