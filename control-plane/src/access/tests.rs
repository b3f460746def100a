use super::*;
use o1_process::tls::Certificate;
use std::time::SystemTime;

fn peer(uris: &[&str]) -> Peer {
    let certificate = Certificate {
        uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        hosts: Vec::new(),
        serial: String::new(),
        begins: SystemTime::UNIX_EPOCH,
        expires: SystemTime::UNIX_EPOCH,
        authority: false,
    };
    Peer { address: "10.0.0.1:7".parse().unwrap(), certificate: Some(Arc::new(certificate)) }
}

#[test]
fn a_role_includes_those_below_it_and_nodes_stand_apart() {
    let includes = |role: Role| Role::ALL.map(|needed| role.includes(needed));
    assert_eq!(includes(Role::Node), [true, false, false, false]);
    assert_eq!(includes(Role::Viewer), [false, true, false, false]);
    assert_eq!(includes(Role::Editor), [false, true, true, false]);
    assert_eq!(includes(Role::Operator), [false, true, true, true]);
    for role in Role::ALL {
        assert_eq!(Role::of_word(role.word()), Some(role));
    }
}

#[test]
fn a_certificate_names_one_and_says_as_what() {
    let access = Access { tokens: None, certificates: true };
    let known = |uris: &[&str]| access.caller(&peer(uris), None).map(|caller| caller.known.unwrap());
    let ann = known(&["spiffe://x/y", "only1://operator/ann@example.org"]).unwrap();
    assert_eq!(
        (ann.name.as_str(), ann.role, ann.by),
        ("ann@example.org", Role::Operator, Proof::Certificate)
    );
    for (uris, words) in [
        (&[][..], "names nobody"),
        (&["https://only1/node/n1"], "names nobody"),
        (&["only1://viewer/a", "only1://operator/a"], "names several"),
        (&["only1://king/a"], "only1://king/a"),
        (&["only1://node/"], "which is not"),
        (&["only1://node/a/b"], "which is not"),
        (&["only1://node/a b"], "which is not"),
        (&["only1://node"], "which is not"),
    ] {
        let error = known(uris).unwrap_err();
        assert!(error.contains(words), "{uris:?}: {error}");
    }
}

#[test]
fn a_node_speaks_for_itself_alone_and_people_for_no_node() {
    let access = Access { tokens: None, certificates: true };
    let caller = |uri: &str| access.caller(&peer(&[uri]), None).unwrap();
    assert!(caller("only1://node/n1").is_node("n1"));
    assert!(!caller("only1://node/n1").is_node("n2"));
    assert!(!caller("only1://operator/n1").is_node("n1"));
    let local = Access::open().caller(&peer(&[]), Some(b"Bearer ignored")).unwrap();
    assert!(local.is_node("n1") && local.may(Role::Operator) && local.may(Role::Node));
    assert_eq!(local.actor(), "10.0.0.1:7");
}

#[test]
fn a_token_decides_where_it_is_shown_also_beside_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("tokens"), "o1_abcdefghijklmnopqrstuvwx");
    std::fs::write(&file, format!("eve viewer blake3:{}\n", blake3::hash(token.as_bytes()))).unwrap();
    let tokens = Some(Tokens::open(file).unwrap());
    let both = Access { tokens: tokens.clone(), certificates: true };
    let operator = peer(&["only1://operator/ann"]);
    let said = |access: &Access, header: Option<&str>| {
        let caller = access.caller(&operator, header.map(str::as_bytes));
        caller.map(|caller| (caller.actor(), caller.known.unwrap().role))
    };
    assert_eq!(said(&both, None), Ok(("ann".to_owned(), Role::Operator)));
    let bearer = format!("Bearer {token}");
    assert_eq!(said(&both, Some(&bearer)), Ok(("eve".to_owned(), Role::Viewer)));
    assert!(said(&both, Some("Bearer another")).unwrap_err().contains("none that counts"));
    assert!(said(&both, Some("Basic YTpi")).unwrap_err().contains("no bearer token"));
    let certificates = Access { tokens: None, certificates: true };
    assert!(said(&certificates, Some(&bearer)).unwrap_err().contains("--tokens"));
    let only = Access { tokens, certificates: false };
    assert!(said(&only, None).unwrap_err().ends_with("show a token"), "certificates do not count");
}
