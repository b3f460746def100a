//! Real handshakes over real sockets, with certificates made for the test.

use super::{fault::Refusal, server::Look, *};
use crate::tasks::Tasks;
use futures_util::StreamExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(20);

struct Site {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let site = Self { dir: tempfile::tempdir().unwrap(), ca };
        fs::write(site.path("ca.pem"), site.ca.pem()).unwrap();
        site.issue("server", |params| {
            params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        site.issue("client", |_| {});
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A pair of files; without a change a client's.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("only1://viewer/ann".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pair = self.pair(name);
        fs::write(&pair.cert, params.signed_by(&key, &self.ca).unwrap().pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    fn server(&self) -> ServerFiles {
        let clients = Some(Clients { ca: self.path("ca.pem"), required: true });
        ServerFiles { pair: self.pair("server"), clients }
    }

    fn client(&self, pair: Option<&str>) -> ClientFiles {
        ClientFiles { ca: Some(self.path("ca.pem")), pair: pair.map(|name| self.pair(name)) }
    }
}

/// Answers each connection with the serial of the certificate that was shown, and ends it.
struct Served {
    address: SocketAddr,
    tasks: Tasks,
    refused: mpsc::Receiver<Refused>,
    server: Arc<Server>,
}

impl Served {
    async fn start(files: ServerFiles) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let (refused, refusals) = mpsc::channel(8);
        let server = Server::open(files).unwrap();
        let connections = listen(listener, Some(server.clone()), &tasks, refused);
        tasks.spawn("served", crate::OnExit::Quiet, async move {
            let mut connections = std::pin::pin!(connections);
            while let Some(Ok(mut connection)) = connections.next().await {
                let shown = connection.peer().certificate.clone();
                let uris = shown.map(|certificate| certificate.uris.join(" ")).unwrap_or_default();
                let _gone = connection.write_all(format!("hello {uris}").as_bytes()).await;
                let _gone = connection.shutdown().await;
            }
        });
        Self { address, tasks, refused: refusals, server }
    }

    /// What a client hears, or why it does not.
    async fn ask(&self, files: &ClientFiles, host: &str) -> Result<String, Fault> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut stream = client::connect(stream, host, files.load().unwrap(), SOON).await?;
        let mut text = String::new();
        // As a client that speaks first does: what it is refused for is still to be heard.
        let _refused = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        match timeout(SOON, stream.read_to_string(&mut text)).await.unwrap() {
            Ok(_) => Ok(text),
            Err(error) => Err(Fault::of_handshake(&error)),
        }
    }

    async fn why(&mut self) -> Fault {
        timeout(SOON, self.refused.recv()).await.unwrap().unwrap().why
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart_on_both_sides() {
    let (site, foreign) = (Site::new(), Site::new());
    let mut served = Served::start(site.server()).await;
    assert_eq!(
        served.ask(&site.client(Some("client")), "127.0.0.1").await.unwrap(),
        "hello only1://viewer/ann"
    );

    let old = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    };
    site.issue("expired", old);
    site.issue("young", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2090, 2, 1));
    });
    let strange = ClientFiles { pair: Some(foreign.pair("client")), ..site.client(None) };
    for (files, here, there) in [
        (site.client(None), Refusal::Required, Fault::NoCertificate),
        (site.client(Some("expired")), Refusal::Expired, Fault::Expired),
        (strange, Refusal::UnknownAuthority, Fault::UnknownAuthority),
        (site.client(Some("young")), Refusal::Expired, Fault::NotYetValid),
        (site.client(Some("server")), Refusal::Bad, Fault::WrongPurpose),
    ] {
        let said = served.ask(&files, "127.0.0.1").await.unwrap_err();
        let why = served.why().await;
        assert_eq!(why, there, "{said}");
        // The alert for what is not valid yet is that for what is over, or a general one.
        assert!(
            said == Fault::Alert(here) || there == Fault::NotYetValid && said.is_refusal(),
            "{there}: {said:?}"
        );
        assert!(said.is_refusal(), "{said:?}");
    }

    let said = served.ask(&foreign.client(None), "127.0.0.1").await.unwrap_err();
    assert_eq!(
        (said, served.why().await),
        (Fault::UnknownAuthority, Fault::Alert(Refusal::UnknownAuthority))
    );
    let said = served.ask(&site.client(Some("client")), "localhost").await.unwrap_err();
    let Fault::WrongName(names) = &said else { panic!("{said:?}") };
    assert!(said.to_string().contains("127.0.0.1"), "{names:?}");
    served.why().await;
}

#[tokio::test]
async fn plaintext_and_tls_do_not_take_each_other_for_silence() {
    let site = Site::new();
    let mut served = Served::start(site.server()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert that a client can tell: {answer:?}");
    assert_eq!(served.why().await, Fault::NotTls);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    tasks.spawn("plain", crate::OnExit::Quiet, async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        sleep(SOON).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let files = site.client(None).load().unwrap();
    assert_eq!(client::connect(stream, "127.0.0.1", files, SOON).await.unwrap_err(), Fault::NotTls);
    tasks.begin_stop();
    tasks.stopped_within(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn whoever_says_nothing_delays_nobody() {
    let site = Site::new();
    let served = Served::start(site.server()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let files = site.client(Some("client"));
    let asked = timeout(Duration::from_secs(5), served.ask(&files, "127.0.0.1"));
    assert_eq!(asked.await.expect("at once").unwrap(), "hello only1://viewer/ann");
}

#[tokio::test]
async fn a_new_pair_counts_and_half_of_one_does_not() {
    let site = Site::new();
    let served = Served::start(site.server()).await;
    let first = served.server.certificate();
    assert_eq!(served.server.look(), Look::Same);

    let old_key = fs::read(site.path("server.key")).unwrap();
    site.issue("server", |params| {
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let new_key = fs::read(site.path("server.key")).unwrap();
    fs::write(site.path("server.key"), &old_key).unwrap();
    let Look::Refused(error) = served.server.look() else { panic!("half a pair") };
    assert!(error.to_string().contains("does not go with"), "{error}");
    assert_eq!(served.server.certificate(), first);
    assert!(served.ask(&site.client(Some("client")), "127.0.0.1").await.is_ok(), "the old pair goes on");

    fs::write(site.path("server.key"), &new_key).unwrap();
    assert_eq!((served.server.look(), served.server.look()), (Look::Changed, Look::Same));
    assert_ne!(served.server.certificate(), first);
    assert!(served.ask(&site.client(Some("client")), "127.0.0.1").await.is_ok());
}

#[test]
fn files_that_cannot_be_used_are_named_without_their_content() {
    let site = Site::new();
    let said = |files: ServerFiles| Server::open(files).unwrap_err().to_string();
    fs::write(site.path("nothing"), "s3cret").unwrap();
    site.issue("old", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    });
    let with = |change: &dyn Fn(&mut ServerFiles)| {
        let mut files = site.server();
        change(&mut files);
        said(files)
    };
    let nothing = site.path("nothing");
    for (error, words) in [
        (with(&|files| files.pair.cert = nothing.clone()), "holds no certificate in PEM"),
        (with(&|files| files.pair.key = nothing.clone()), "holds no private key in PEM"),
        (with(&|files| files.pair.key = site.path("client.key")), "does not go with"),
        (with(&|files| files.pair.cert = "/none".into()), "file /none cannot be read"),
        (with(&|files| files.clients.as_mut().unwrap().ca = nothing.clone()), "holds no certificate in PEM"),
        (with(&|files| files.pair = site.pair("old")), "has expired"),
    ] {
        assert!(error.contains(words) && !error.contains("s3cret"), "{words}: {error}");
    }
    let error = ClientFiles { ca: Some(nothing), pair: None }.load().unwrap_err();
    assert_eq!(error.file.as_deref(), Some(site.path("nothing").as_path()));
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let site = Site::new();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = (SystemTime::now() + Duration::from_secs(3)).into();
    let key = KeyPair::generate().unwrap();
    let pair = site.pair("brief");
    fs::write(&pair.cert, params.signed_by(&key, &site.ca).unwrap().pem()).unwrap();
    fs::write(&pair.key, key.serialize_pem()).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
    let (refused, _refusals) = mpsc::channel(8);
    let connections = listen(listener, Some(Server::open(site.server()).unwrap()), &tasks, refused);
    let stream = TcpStream::connect(address).await.unwrap();
    let files = site.client(Some("brief")).load().unwrap();
    let (client, server) = tokio::join!(client::connect(stream, "127.0.0.1", files, SOON), async {
        Box::pin(connections).next().await.unwrap().unwrap()
    });
    let (_client, mut server) = (client.unwrap(), server);
    let ended = timeout(SOON, server.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted, "{ended}");
    assert!(ended.to_string().contains("expired"), "{ended}");
    tasks.begin_stop();
}
