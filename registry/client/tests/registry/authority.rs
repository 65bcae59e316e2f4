//! Having a key certified, by an authority that is slow, broken or wrong.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use serde_json::json;
use witan_authority::{Authority, Conduct, token};
use witan_registry_client::{CertificateAuthority, CertifyError, RequestError, Settings, github_token};
use witan_registry_sign::{CertificateError, Identity, IdentityToken, SigningKey, Subject};

use crate::support::settings;

fn identity_token() -> IdentityToken {
    let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    IdentityToken::parse(&token("https://accounts.example", "author@acme.example", until), SystemTime::now()).unwrap()
}

async fn certify(address: &str, settings: Settings) -> Result<Identity, CertifyError> {
    let authority = CertificateAuthority::new(address.parse().unwrap(), settings).unwrap();
    let certificate = authority.certify(&identity_token(), &SigningKey::generate().unwrap()).await?;
    Ok(certificate.identity().clone())
}

#[tokio::test]
async fn a_key_is_certified_for_whom_the_token_names() {
    let served = Authority::new().serve();
    let address = served.address.to_string();
    let subject = Subject::Email("author@acme.example".to_owned());
    let expected = Identity { issuer: "https://accounts.example".to_owned(), subject };
    assert_eq!(certify(&address, settings()).await.unwrap(), expected);
    let refused = |conduct| {
        served.behave(conduct);
        certify(&address, settings())
    };
    let source = |error| match error {
        CertifyError::Certificate { source, .. } => source,
        other => panic!("{other:?}"),
    };
    let error = refused(Conduct::OtherKey).await.unwrap_err();
    assert!(matches!(source(error), CertificateError::OtherKey));
    let error = refused(Conduct::OtherIdentity).await.unwrap_err();
    assert!(matches!(source(error), CertificateError::OtherIdentity { expected: of, .. } if of == expected));
    let error = refused(Conduct::NoCertificate).await.unwrap_err();
    assert!(matches!(source(error), CertificateError::Form(_)));
}

#[tokio::test]
async fn an_authority_that_never_answers_is_not_waited_for() {
    let served = Authority::new().serve();
    let address = served.address.to_string();
    let short = Settings { idle: Duration::from_millis(200), total: Duration::from_millis(400), ..settings() };
    served.behave(Conduct::Silent);
    let error = certify(&address, short.clone()).await.unwrap_err();
    assert!(matches!(error, CertifyError::Request(RequestError::Timeout { .. })), "{error:?}");
    served.behave(Conduct::AuthorityFails);
    let error = certify(&address, settings()).await.unwrap_err();
    assert!(matches!(error, CertifyError::Request(RequestError::Status { .. })), "{error:?}");
    served.behave(Conduct::Honest);
    certify(&address, settings()).await.unwrap();
}

/// The address of what answers everything with this status and what it was sent.
async fn echo(status: StatusCode) -> String {
    let echo = axum::Router::new().fallback(move |body: String| async move {
        (status, json!({ "code": 3, "message": format!("cannot read {body}") }).to_string())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, echo).await.unwrap() });
    address.to_string()
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_said_to_be() {
    let error = certify(&echo(StatusCode::UNAUTHORIZED).await, settings()).await.unwrap_err();
    let CertifyError::Request(error) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("401") && error.to_string().contains("the identity token"), "{error}");
}

#[tokio::test]
async fn a_token_is_not_repeated() {
    let error = certify(&echo(StatusCode::BAD_REQUEST).await, settings()).await.unwrap_err();
    let said = format!("{error:?}");
    let token = identity_token();
    let begin = &token.secret()[..20];
    assert!(matches!(error, CertifyError::Request(RequestError::Status { .. })) && !said.contains(begin), "{said}");
}

#[tokio::test]
async fn a_job_s_token_is_asked_for_with_the_job_s_secret() {
    let served = Authority::new().serve();
    let address = |path: &str| format!("http://{}{path}", served.address);
    let good = address("/token?api-version=2.0");
    let token = github_token(&good, "the job's", settings()).await.unwrap();
    let token = IdentityToken::parse(&token, SystemTime::now()).unwrap();
    assert_eq!(token.identity().subject, Subject::Email("ci@acme.example".to_owned()));
    assert!(github_token(&good, "another's", settings()).await.is_err());
    // Its secret goes nowhere in the clear, but to this machine.
    for bad in ["http://ci.example/token?a=b", "ftp://127.0.0.1/", "no address", "https://user:secret@ci.example/?a"] {
        let error = github_token(bad, "the job's", settings()).await.unwrap_err();
        assert!(matches!(error, witan_registry_client::AmbientError::Address(_)), "{bad}: {error:?}");
    }
}
