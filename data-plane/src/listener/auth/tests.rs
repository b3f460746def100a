//! Tokens of every kind against an issuer whose keys stand in a file or at a URL.

use super::{Authentication, Caller, Denied, Place, refusal};
use crate::plan::{Plan, Version};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};
use o1_proto::model::{
    Algorithm, Auth, ClaimRule, Fleet, Grant, Jwt, KeySource, Required, StaticToken, TokenHash,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// An RSA key that exists no more, and two tokens that it signed, good until 2100.
const RSA_MODULUS: &str = "0N8GiYS4w6DAdcOMxs722NsoFCYUITIy-AvHR8dzF7xvq0rm73L9u81qrAhXiW92AMrV0NkXgms_RRjQmIn6i03dhAY9oC8vfHb7pSzerYXPbw540qtuuoML7Y7uhVA9ypbBL6aXPZH1NhJ2TsIMSXkNtJ-5skMcOA2gOvXBuehxyF-8ifSPUHLNNRHr16QjfAJdM1qhZElznnqCgMj6ILdwvAYFgRiIpqhkAJSeL88VK5un0wk9PNbEIgKCYtZXK2AL3JQfy5tlwcHHdkBf20GawwpG_SF1su_gqMfD_0Cnbn7hUl5ZC6ZliYSwy-DBKn3hkl-CH5CtzNnqivTifw";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJhdWQiOiJodHRwczovL21jcC5leGFtcGxlL21jcCIsInN1YiI6ImFsaWNlIiwiZXhwIjo0MTAyNDQ0ODAwfQ.Y1EnN86wJpCLbDFgSvmk-Elhvbu0Jv1-hYZ0xmJBxEKFOP4GE3aetrkdScGJjEkKePYE21s1fmP0w6szvGm4ULj-Mqr8OYbCZZC3G4YPO81OCulTCSs2BN0H9VnvDg-ICVNKhqTf38nzKyhsI5sJgmJwbDNYvXwmRAtIwENyM_ndtR-dwqCiruJO-H0tMQfd_VppnBcKVR_IZLs1V6LKZ1Ri8i9ETxzS-M8Vk90WXCZsDcNj894AnX7t1TOZEKzfJw_h1Sj1IWZV9rjYyoAPcuF-qB4Ca6JCkWApIqTmq7xRQn_R8POSIxnYztYLhXlx6eyXLxm1fC8an269c0hPKQ";
const PS256: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJhdWQiOiJodHRwczovL21jcC5leGFtcGxlL21jcCIsInN1YiI6ImFsaWNlIiwiZXhwIjo0MTAyNDQ0ODAwfQ.YDD2yTpG74f4QsFO6-TeRHLTA0UOjyHOfHGcPJn6_RXEIZUegZNUCfsbVUJ7nQaVJCJdnz0Xga8XLoSanAyXVnbRfRGuBSSlq9qFhZpyJAJSot14CkpBTUboWS5U_CdJhJHZALYx8uCgXeVcYAIjdfCJYyzoEh8nlBT_AOqsCzid7vapkvOzf3th8HWgMrvMAA0fA0DWy_2dk5WK5gUqRxuLNi9ABBCKqzUHNGd4SCMzWKRthT0hjIMWM2sDlPhJGr49mPsx2CDnJ92_BFt32vpXNwRcH4NEqY422Bj5xDNheLBZdnFDrxIVLW2qFJgUV-80tPPrkue_lmgmSEDvKw";

const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "https://mcp.example/mcp";

/// One that signs, under a key id.
enum Signer {
    Ed(Ed25519KeyPair, &'static str),
    Ec(EcdsaKeyPair, &'static str),
}

impl Signer {
    fn ed(id: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(), id)
    }

    fn ec(id: &'static str) -> Self {
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).unwrap(), id)
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Ed(key, id) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(key.public_key().as_ref())})
            }
            Self::Ec(key, id) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": text(x), "y": text(y)})
            }
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let (algorithm, id) = match self {
            Self::Ed(_, id) => ("EdDSA", id),
            Self::Ec(_, id) => ("ES256", id),
        };
        self.sign_with(&json!({"alg": algorithm, "kid": id, "typ": "JWT"}), claims)
    }

    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let signature = match self {
            Self::Ed(key, _) => key.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Ec(key, _) => key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", text(&signature))
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn in_seconds(seconds: i64) -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + seconds
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": in_seconds(60)})
}

/// The usual claims, one of them changed; null removes it.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

struct Issuer {
    dir: TempDir,
    jwt: Jwt,
    authentication: Authentication,
}

impl Issuer {
    fn new(keys: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let jwt = Jwt {
            issuer: ISSUER.into(),
            audience: Vec::new(),
            jwks: KeySource::File(dir.path().join("jwks.json").display().to_string()),
            algorithms: Algorithm::ALL.iter().map(|(_, one)| *one).collect(),
            clock_skew: Duration::from_secs(10),
            rules: Vec::new(),
        };
        let this = Self { dir, jwt, authentication: Authentication::default() };
        this.publish(keys);
        this
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("jwks.json")
    }

    /// As careful operators do it.
    fn publish(&self, keys: &[Value]) {
        let next = self.dir.path().join("next");
        fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    async fn ask(&self, token: &str) -> Result<Caller, Denied> {
        self.ask_at("/mcp", token).await
    }

    async fn ask_at(&self, path: &str, token: &str) -> Result<Caller, Denied> {
        let plan = plan(vec![], Some(self.jwt.clone()));
        let place = Place::new(&plan.auth, || Some("127.0.0.1:8080"), path);
        self.authentication.caller(&plan, &authorization(token), &place, true).await
    }

    async fn said(&self, token: &str) -> &'static str {
        match self.ask(token).await {
            Err(Denied::Invalid(what)) => what,
            other => panic!("{other:?}"),
        }
    }
}

fn plan(tokens: Vec<StaticToken>, jwt: Option<Jwt>) -> Plan {
    let required = Required { resource: Some("https://mcp.example".into()), tokens, jwt };
    let auth = Auth::Required(Box::new(required));
    Plan::compile(Version::default(), &Fleet { auth, ..Fleet::default() }).unwrap()
}

fn authorization(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

#[tokio::test]
async fn a_token_signed_by_a_key_of_the_issuer_says_whose_it_is() {
    let (ed, ec) = (Signer::ed("ed"), Signer::ec("ec"));
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": RSA_MODULUS, "e": "AQAB"});
    // What is not for signatures, or not known here, is passed over.
    let strange = json!({"kty": "OKP", "crv": "Ed448", "kid": "x", "x": "AA"});
    let issuer = Issuer::new(&[strange, ed.jwk(), ec.jwk(), rsa]);
    for token in [ed.sign(&claims()), ec.sign(&claims()), RS256.to_owned(), PS256.to_owned()] {
        let caller = issuer.ask(&token).await.unwrap();
        assert_eq!(caller.principal.id, "jwt:https://login.example|alice");
    }
    // Without a key id every key that fits is tried.
    let token = ec.sign_with(&json!({"alg": "ES256"}), &claims());
    assert!(issuer.ask(&token).await.is_ok());
}

#[tokio::test]
async fn a_token_of_another_time_place_or_maker_does_not_count() {
    let signer = Signer::ed("a");
    let issuer = Issuer::new(&[signer.jwk()]);
    for (claims, said) in [
        (with("exp", json!(in_seconds(-11))), "the token has expired"),
        (with("nbf", json!(in_seconds(30))), "the token is not valid yet"),
        (with("iss", json!("https://evil.example")), "the token is made by somebody else (`iss`)"),
        (with("iss", json!("https://login.example/")), "the token is made by somebody else (`iss`)"),
        (with("aud", json!("https://other.example/mcp")), "the token is made for somebody else (`aud`)"),
        (with("aud", json!("https://mcp.example/u/a/mcp")), "the token is made for somebody else (`aud`)"),
        (with("aud", json!([])), "the token is made for somebody else (`aud`)"),
        (with("exp", Value::Null), "the token lacks one of `exp`, `iss` and `aud`"),
        (with("exp", json!("tomorrow")), "the token lacks one of `exp`, `iss` and `aud`"),
        (with("aud", Value::Null), "the token lacks one of `exp`, `iss` and `aud`"),
        (with("iss", Value::Null), "the token lacks one of `exp`, `iss` and `aud`"),
        (with("sub", Value::Null), "the token does not say whose it is (`sub`)"),
    ] {
        assert_eq!(issuer.said(&signer.sign(&claims)).await, said, "{claims}");
    }
    for claims in [
        with("exp", json!(in_seconds(-5))), // within the skew
        with("nbf", json!(in_seconds(5))),
        with("aud", json!("https://mcp.example")),
        with("aud", json!(["x", "https://mcp.example/"])),
    ] {
        assert!(issuer.ask(&signer.sign(&claims)).await.is_ok(), "{claims}");
    }
    // RFC 8707: a token for one route is none for another.
    let here = with("aud", json!("https://mcp.example/u/a/mcp"));
    assert!(issuer.ask_at("/u/a/mcp", &signer.sign(&here)).await.is_ok());
}

#[tokio::test]
async fn a_signature_that_proves_nothing_does_not_count() {
    let (signer, other) = (Signer::ed("a"), Signer::ed("a"));
    let issuer = Issuer::new(&[signer.jwk(), Signer::ec("ec").jwk()]);
    let good = signer.sign(&claims());
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let none = format!("{}.{}.", text(br#"{"alg":"none"}"#), good.split('.').nth(1).unwrap());
    // An HMAC made with the public key as its secret.
    let x = signer.jwk()["x"].as_str().unwrap().to_owned();
    let hmac = |secret: &[u8]| {
        let message =
            format!("{}.{}", text(br#"{"alg":"HS256","kid":"a"}"#), text(claims().to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", text(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
    };
    let mut changed = URL_SAFE_NO_PAD.decode(signature).unwrap();
    changed[5] ^= 1;
    let crit = json!({"alg": "EdDSA", "kid": "a", "crit": ["b64"], "b64": false});
    for token in [
        none,
        hmac(&URL_SAFE_NO_PAD.decode(&x).unwrap()),
        hmac(x.as_bytes()),
        other.sign(&claims()),
        signer.sign_with(&json!({"alg": "EdDSA", "kid": "ec"}), &claims()),
        signer.sign_with(&json!({"alg": "ES256", "kid": "a"}), &claims()),
        signer.sign_with(&crit, &claims()),
        format!("{unsigned}.{}", text(&changed)),
        format!("{unsigned}."),
        unsigned.to_owned(),
        "..".to_owned(),
        "hunter2".to_owned(),
        format!("{good}x"),
    ] {
        let said = issuer.ask(&token).await;
        assert!(matches!(said, Err(Denied::Invalid(_))), "{token}: {said:?}");
    }
    let narrow = Issuer { jwt: Jwt { algorithms: vec![Algorithm::RS256], ..issuer.jwt.clone() }, ..issuer };
    assert_eq!(narrow.said(&good).await, "the token is signed in a way that is not accepted");
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_they_change_and_kept_when_they_are_gone() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let issuer = Issuer::new(&[old.jwk()]);
    assert!(issuer.ask(&old.sign(&claims())).await.is_ok());
    let until = async |token: &str, good: bool| {
        let begun = tokio::time::Instant::now();
        while issuer.ask(token).await.is_ok() != good {
            assert!(begun.elapsed() < Duration::from_secs(10), "good: {good}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    issuer.publish(&[new.jwk()]);
    until(&new.sign(&claims()), true).await;
    until(&old.sign(&claims()), false).await;
    fs::write(issuer.file(), "{").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(issuer.ask(&new.sign(&claims())).await.is_ok(), "a broken file takes nothing away");
    fs::remove_file(issuer.file()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(issuer.ask(&new.sign(&claims())).await.is_ok());
    let fresh = Issuer { authentication: Authentication::default(), ..issuer };
    assert_eq!(fresh.ask(&new.sign(&claims())).await.unwrap_err(), Denied::NoKeys);
}

/// Serves `keys` over HTTP/1.1 and counts how often it is asked; an empty body is a failure.
async fn serve(keys: std::sync::Arc<std::sync::Mutex<String>>) -> (http::Uri, std::sync::Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    o1_process::Tasks::new().spawn("keys", o1_process::OnExit::Quiet, async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = socket.read(&mut [0; 4096]).await;
            let body = keys.lock().unwrap().clone();
            let status = if body.is_empty() { "500 Oops" } else { "200 OK" };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (url, asked)
}

#[tokio::test]
async fn keys_at_a_url_are_asked_for_rarely_and_outlive_it() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let set = |keys: &[Value]| json!({ "keys": keys }).to_string();
    let published = std::sync::Arc::new(std::sync::Mutex::new(set(&[old.jwk()])));
    let (url, asked) = serve(published.clone()).await;
    let mut issuer = Issuer::new(&[]);
    issuer.jwt.jwks = KeySource::Url(url);
    for _ in 0..20 {
        assert!(issuer.ask(&old.sign(&claims())).await.is_ok());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    *published.lock().unwrap() = set(&[old.jwk(), new.jwk()]);
    // Made-up key ids do not make us ask again and again; a while later a new key is found.
    for _ in 0..20 {
        assert!(issuer.ask(&new.sign(&claims())).await.is_err());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    tokio::time::pause();
    tokio::time::advance(super::keys::REFRESH_EVERY).await;
    tokio::time::resume();
    assert!(issuer.ask(&new.sign(&claims())).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    published.lock().unwrap().clear();
    tokio::time::pause();
    tokio::time::advance(super::keys::MAX_AGE).await;
    tokio::time::resume();
    assert!(issuer.ask(&new.sign(&claims())).await.is_ok(), "kept while nothing better can be had");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_static_token_is_known_by_its_hash_alone() {
    let token = |name: &str, hash| StaticToken { name: name.into(), hash, grant: Grant::default() };
    let sha256 = ring::digest::digest(&ring::digest::SHA256, b"second");
    let tokens = vec![
        token("a", TokenHash::Blake3(*blake3::hash(b"first").as_bytes())),
        token("b", TokenHash::Sha256(sha256.as_ref().try_into().unwrap())),
    ];
    let plan = plan(tokens, None);
    let place = Place::new(&plan.auth, || None, "/mcp");
    let authentication = Authentication::default();
    let ask = async |headers: HeaderMap| {
        authentication.caller(&plan, &headers, &place, true).await.map(|caller| caller.principal.id.clone())
    };
    assert_eq!(ask(authorization("first")).await.unwrap(), "token:a");
    assert_eq!(ask(authorization("second ")).await.unwrap(), "token:b");
    assert_eq!(ask(authorization("third")).await, Err(Denied::Invalid("the token is not known")));
    assert_eq!(ask(HeaderMap::new()).await, Err(Denied::Missing));
    for (line, denied) in [
        ("bearer first", None),
        ("Basic first", Some(Denied::Missing)),
        ("first", Some(Denied::Missing)),
        ("Bearer ", Some(Denied::Missing)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, line.parse().unwrap());
        assert_eq!(ask(headers).await.err(), denied, "{line}");
    }
    let mut twice = authorization("first");
    twice.append(header::AUTHORIZATION, "Bearer first".parse().unwrap());
    assert_eq!(ask(twice).await, Err(Denied::Malformed));
}

#[tokio::test]
async fn challenges_say_where_to_get_what_is_needed() {
    let signer = Signer::ed("a");
    let mut issuer = Issuer::new(&[signer.jwk()]);
    let rule = |value: &str| ClaimRule {
        claim: "scope".into(),
        values: vec![value.into()],
        grant: Grant::default(),
    };
    issuer.jwt.rules = vec![rule("read"), rule("a\"b")];
    let plan = plan(vec![], Some(issuer.jwt.clone()));
    let place = Place::new(&plan.auth, || None, "/u/x/mcp");
    let told = |denied: &Denied| {
        let response = refusal(denied, &place, &plan.auth);
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        (response.status(), challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default())
    };
    let metadata = "resource_metadata=\"https://mcp.example/.well-known/oauth-protected-resource/u/x/mcp\"";
    let common = format!("Bearer {metadata}, scope=\"read a\\\"b\"");
    assert_eq!(told(&Denied::Missing), (StatusCode::UNAUTHORIZED, common.clone()));
    let expected = format!("{common}, error=\"invalid_token\", error_description=\"no\"");
    assert_eq!(told(&Denied::Invalid("no")), (StatusCode::UNAUTHORIZED, expected));
    let denied = issuer.ask(&signer.sign(&with("scope", json!("write")))).await.unwrap_err();
    assert_eq!(told(&denied), (StatusCode::FORBIDDEN, format!("{common}, error=\"insufficient_scope\"")));
    assert_eq!(told(&Denied::NoKeys), (StatusCode::SERVICE_UNAVAILABLE, String::new()));
    assert!(issuer.ask(&signer.sign(&with("scope", json!("read")))).await.is_ok());
}

#[tokio::test]
async fn without_a_policy_only_this_machine_is_served() {
    let authentication = Authentication::default();
    for (auth, here, elsewhere) in [(Auth::Loopback, true, false), (Auth::Open, true, true)] {
        let plan = Plan::compile(Version::default(), &Fleet { auth, ..Fleet::default() }).unwrap();
        let place = Place::new(&plan.auth, || None, "/mcp");
        for (loopback, served) in [(true, here), (false, elsewhere)] {
            let answer = authentication.caller(&plan, &HeaderMap::new(), &place, loopback).await;
            assert_eq!(answer.is_ok(), served, "{:?} {loopback}", plan.auth);
        }
    }
}
