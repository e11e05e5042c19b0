//! Faults of the network between a client and its model, played by a server on loopback.
//!
//! A stream's parts are tested beside its assembly; here is what a client makes of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use toolpool::model::ureq::config::Config;
use toolpool::model::ureq::tls::{Certificate, RootCerts, TlsConfig};
use toolpool::model::{Client, Model, ModelError, ModelErrorKind, Request};
use toolpool::{CancelToken, Deadline, Wire};

use super::harness::{eventually, ms, slack};
use crate::machine;
use crate::model::replay::{Answer, Replay};
use crate::model::{KEY, SAID_HI, client_of, within};

/// Longer than any case may take.
const LONG: Duration = Duration::from_secs(60);

fn ask_until(client: &Client, deadline: impl Into<Deadline>) -> Result<String, ModelError> {
    let conversation = [Wire::OpenAi.user_message("hello")];
    let answer = client.respond(&Request::new(&conversation).deadline(deadline))?;
    Ok(answer.text().to_owned())
}

fn ask(client: &Client) -> Result<String, ModelError> {
    ask_until(client, within(LONG))
}

/// The error of a request with this deadline, which must come when the deadline does.
fn late(answer: Answer, deadline: Duration) -> ModelError {
    let _shared = machine::shared();
    let server = Replay::new([answer]);
    let client = client_of(&server).build().unwrap();
    let began = Instant::now();
    let error = ask_until(&client, within(deadline)).unwrap_err();
    let took = began.elapsed();
    println!("{took:?} of {deadline:?}: {error}");
    assert!(took >= deadline && took < deadline + slack(), "{took:?}: {error}");
    assert!(error.is_timeout() && error.was_sent() && error.attempts() == 1, "{error}");
    error
}

#[test]
fn fault_098_a_server_that_never_answers_is_left_at_the_deadline() {
    let error = late(Answer::never(), ms(300));
    assert_eq!(error.to_string(), "groq did not answer in time: the request's deadline");

    let _shared = machine::shared();
    let server = Replay::new([Answer::never(), Answer::json(SAID_HI)]);
    let client = client_of(&server).timeout(ms(200)).build().unwrap();
    let began = Instant::now();
    let error = ask_until(&client, Deadline::Never).unwrap_err();
    assert!(error.is_timeout() && error.message().contains("timeout"), "{error}");
    assert!(began.elapsed() < ms(200) + slack());
    assert_eq!(ask(&client).unwrap(), "hi", "the client is as good as before");
}

#[test]
fn fault_099_bytes_that_drip_do_not_put_the_deadline_off() {
    late(Answer::json(SAID_HI).head_dripped(ms(50)), ms(300));
    late(Answer::dripped(SAID_HI, 1, ms(50)), ms(300));
    late(Answer::stream([(ms(50), "x"); 100]), ms(300));
    let _shared = machine::shared();
    let refused = Answer::dripped(r#"{"error":{"message":"busy"}}"#, 1, ms(50)).status(500);
    let server = Replay::new([refused]);
    let client = client_of(&server).retries(0).build().unwrap();
    let began = Instant::now();
    let error = ask_until(&client, within(ms(300))).unwrap_err();
    assert!(began.elapsed() < ms(300) + slack(), "{error}");
    assert_eq!(error.status(), Some(500));
}

#[test]
fn fault_100_a_name_that_is_not_found_in_time_does_not_hold_the_request() {
    let _shared = machine::shared();
    let server = Replay::new([]);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let client = client_of(&server)
        .base_url("https://slow.example/v1")
        .lookup(move |_, _| {
            let _ = wait.lock().unwrap().recv();
            Ok(Vec::new())
        })
        .connect_timeout(ms(100))
        .retries(1)
        .build()
        .unwrap();
    let began = Instant::now();
    let error = ask(&client).unwrap_err();
    // Twice 100 ms, and a wait of at most 500 ms between.
    assert!(began.elapsed() < ms(700) + slack(), "{error}");
    assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::Unreachable, 2));
    assert!(!error.was_sent());
    assert_eq!(client.pending_lookups(), 2);
    drop(release);
    assert!(eventually(|| client.pending_lookups() == 0));
}

/// A host that takes no connection and refuses none: its queue is full.
#[cfg(target_os = "linux")]
fn black_hole() -> (TcpListener, Vec<std::net::TcpStream>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address =
        SocketAddr::new("127.0.0.1".parse().unwrap(), listener.local_addr().unwrap().port());
    let mut filling = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, ms(100)) {
        filling.push(stream);
        assert!(filling.len() < 100, "the queue doesn't fill");
    }
    (listener, filling)
}

#[test]
#[cfg(target_os = "linux")]
fn fault_101_hosts_that_swallow_packets_share_one_budget() {
    let _shared = machine::shared();
    let server = Replay::new([]);
    let (listener, _filling) = black_hole();
    let port = listener.local_addr().unwrap().port();
    let client = client_of(&server)
        .base_url(format!("http://black.hole:{port}/v1"))
        .lookup(|_, port| Ok((1..=4).map(|n| SocketAddr::from(([127, 0, 0, n], port))).collect()))
        .connect_timeout(ms(400))
        .retries(0)
        .build()
        .unwrap();
    let took = |deadline: Deadline| {
        let began = Instant::now();
        let error = ask_until(&client, deadline).unwrap_err();
        println!("{:?}: {error}", began.elapsed());
        (began.elapsed(), error)
    };
    let (span, error) = took(Deadline::Never);
    assert!(span > ms(300) && span < ms(400) + slack(), "{span:?}: {error}");
    assert_eq!(error.kind(), ModelErrorKind::Unreachable, "{error}");
    assert!(!error.was_sent());
    let (span, error) = took(within(ms(200)));
    assert!(span > ms(100) && span < ms(200) + slack(), "{span:?}: {error}");
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn fault_102_a_cancelled_request_ends_at_once_wherever_it_waits() {
    let _shared = machine::shared();
    // In the head, in the body, and between two attempts.
    let waits = [
        Answer::never(),
        Answer::stream([(ms(0), "{"), (LONG, "}")]),
        Answer::dripped(SAID_HI, 1, ms(20)),
        Answer::error(429, "{}").header("retry-after", "30"),
    ];
    for answer in waits {
        let server = Replay::new(std::iter::repeat_n(answer, 3));
        let client = client_of(&server).build().unwrap();
        // The best of three, because the machine has other work.
        let best = (0..3).map(|_| {
            let token = CancelToken::new();
            let canceller = thread::spawn({
                let token = token.clone();
                move || {
                    thread::sleep(ms(100));
                    let at = Instant::now();
                    token.cancel();
                    at
                }
            });
            let conversation = [Wire::OpenAi.user_message("hello")];
            let request = Request::new(&conversation).cancel(&token).deadline(within(LONG));
            let error = client.respond(&request).unwrap_err();
            let ended = Instant::now();
            assert!(error.is_cancelled(), "{error}");
            ended.saturating_duration_since(canceller.join().unwrap())
        });
        let best = best.min().unwrap();
        println!("cancelled within {best:?}");
        assert!(best < ms(50), "{best:?}");
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn fault_103_a_body_is_bounded_after_it_is_decompressed() {
    let bomb = gzipped(&vec![b' '; 8 << 20]);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let bomb = Answer::bytes("application/json", bomb).header("content-encoding", "gzip");
    let server = Replay::new([bomb]);
    let client = client_of(&server).max_body_bytes(4 << 20).build().unwrap();
    let error = ask(&client).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::TooLarge, 1), "{error}");

    let fits = Answer::bytes("application/json", gzipped(SAID_HI.as_bytes()));
    server.push(fits.header("content-encoding", "gzip"));
    assert_eq!(ask(&client).unwrap(), "hi");
    for none in ["identity", "none", ""] {
        server.push(Answer::json(SAID_HI).header("content-encoding", none));
        assert_eq!(ask(&client).unwrap(), "hi", "{none:?}");
    }
}

#[test]
fn fault_103_encodings_and_lengths_that_lie_are_errors() {
    let twice = gzipped(&gzipped(SAID_HI.as_bytes()));
    let check = |answer: Answer, kind: ModelErrorKind| {
        let server = Replay::new([answer]);
        let client = client_of(&server).retries(0).build().unwrap();
        let error = ask_until(&client, within(ms(5000))).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    };
    let bytes = |bytes: Vec<u8>| Answer::bytes("application/json", bytes);
    check(bytes(twice).header("content-encoding", "gzip, gzip"), ModelErrorKind::Unreadable);
    check(bytes(SAID_HI.into()).header("content-encoding", "gzip"), ModelErrorKind::Unreadable);
    check(bytes(SAID_HI.into()).header("content-encoding", "br"), ModelErrorKind::Unreadable);
    let raw = |head: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{SAID_HI}");
        Answer::raw(head.into_bytes())
    };
    check(raw("content-length: 9999"), ModelErrorKind::Interrupted);
    check(raw("content-length: 9"), ModelErrorKind::Unreadable);
    check(raw("content-length: -1"), ModelErrorKind::Unreadable);
    check(raw("transfer-encoding: chunked\r\ncontent-length: 9"), ModelErrorKind::Unreadable);
    check(raw("content-length: 9\r\ncontent-length: 10"), ModelErrorKind::Unreadable);

    // Without a length, the end of the connection is the end of the body.
    let server = Replay::new([raw("connection: close")]);
    assert_eq!(ask(&client_of(&server).build().unwrap()).unwrap(), "hi");
}

#[test]
fn fault_104_a_wait_is_kept_and_one_past_the_deadline_not_begun() {
    let _shared = machine::shared();
    let busy = |wait: &str| Answer::error(429, "{}").header("retry-after", wait);
    let took = |wait: &str, deadline| {
        let server = Replay::new([busy(wait), Answer::json(SAID_HI)]);
        let client = client_of(&server).build().unwrap();
        let began = Instant::now();
        let answer = ask_until(&client, deadline);
        (began.elapsed(), answer)
    };
    let (fast, answer) = took("0", within(LONG));
    assert_eq!(answer.unwrap(), "hi");
    assert!(fast < ms(250) + slack(), "{fast:?}");
    let (asked, answer) = took("1", within(LONG));
    assert_eq!(answer.unwrap(), "hi");
    assert!(asked >= ms(1000) && asked < ms(1250) + slack(), "{asked:?}");
    for past_or_garbage in ["Sun, 06 Nov 1994 08:49:37 GMT", "soonish"] {
        let (fast, answer) = took(past_or_garbage, within(LONG));
        assert_eq!(answer.unwrap(), "hi");
        assert!(fast < ms(500) + slack(), "{past_or_garbage}: {fast:?}");
    }
    for (wait, deadline) in [("3600", Deadline::Never), ("2", within(ms(1000)))] {
        let (fast, answer) = took(wait, deadline);
        let error = answer.unwrap_err();
        assert!(fast < slack(), "{fast:?}");
        assert!(error.is_rate_limited() && error.retry_after().is_some(), "{error}");
    }
}

#[test]
fn fault_105_a_broken_connection_is_named_and_asked_again_only_where_that_is_wanted() {
    for broken in [Answer::reset(), Answer::json(SAID_HI).cut_after(20)] {
        let server = Replay::new([broken.clone(), Answer::json(SAID_HI)]);
        assert_eq!(ask(&client_of(&server).build().unwrap()).unwrap(), "hi");
        assert_eq!(server.seen().len(), 2);

        let server = Replay::new([broken, Answer::json(SAID_HI)]);
        let error = ask(&client_of(&server).resend(false).build().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::Interrupted, 1), "{error}");
        assert!(error.was_sent() && error.is_transient());
        assert_eq!(server.seen().len(), 1);
    }
    // Nobody listens there: nothing was sent, and asking again is safe. A port that was free a
    // moment ago might be another test's by now.
    let free = "127.0.0.1:1";
    let server = Replay::new([]);
    let client = client_of(&server).base_url(format!("http://{free}")).resend(false).retries(1);
    let error = ask(&client.build().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::Unreachable, 2), "{error}");
    assert!(!error.was_sent());
}

#[test]
fn fault_106_no_redirect_is_followed() {
    let elsewhere = Replay::new([Answer::json(SAID_HI)]);
    let targets = [
        format!("{}/v1/chat/completions?key={KEY}", elsewhere.url()),
        "/again".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://0x7f.1/".to_owned(),
        "http://[::ffff:127.0.0.1]/".to_owned(),
        "http://localhost./".to_owned(),
    ];
    for status in [301, 302, 303, 307, 308] {
        for target in &targets {
            let server = Replay::new([
                Answer::error(status, "").header("location", target),
                Answer::json(SAID_HI),
            ]);
            let error = ask(&client_of(&server).build().unwrap()).unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::Redirected, 1));
            assert_eq!(error.status(), Some(status));
            assert!(!error.to_string().contains(KEY), "{error}");
            assert_eq!(server.seen().len(), 1);
        }
    }
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn fault_107_only_public_addresses_are_dialled_where_that_is_wanted() {
    let server = Replay::new([Answer::json(SAID_HI)]);
    let address = server.address();
    let url = format!("http://rebinding.example:{}", address.port());
    let client = || client_of(&server).base_url(url.clone()).lookup(move |_, _| Ok(vec![address]));
    let error = ask(&client().public_addresses_only().build().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ModelErrorKind::Unreachable, 1), "{error}");
    assert!(error.message().contains("not public"), "{error}");
    assert!(server.seen().is_empty());
    assert_eq!(ask(&client().build().unwrap()).unwrap(), "hi");
}

/// A TLS server with this certificate; how many requests it could read is counted.
struct TlsServer {
    address: SocketAddr,
    certificate: Vec<u8>,
    read: Arc<AtomicUsize>,
}

fn tls_server(change: impl FnOnce(&mut CertificateParams)) -> TlsServer {
    let mut params = CertificateParams::new(vec!["model.example".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    thread::spawn({
        let (read, config) = (Arc::clone(&read), Arc::new(config));
        move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = rustls::Stream::new(&mut session, &mut stream);
                let mut buffer = [0; 4096];
                if tls.read(&mut buffer).is_ok_and(|n| n > 0) {
                    read.fetch_add(1, Ordering::SeqCst);
                    let length = SAID_HI.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{SAID_HI}"
                    );
                    let _ = tls.write_all(answer.as_bytes());
                    let _ = tls.flush();
                }
            }
        }
    });
    TlsServer { address, certificate: certificate.der().to_vec(), read }
}

fn ask_tls(server: &TlsServer, host: &str, trusts: bool) -> Result<String, ModelError> {
    let address = server.address;
    let plain = Replay::new([]);
    let url = format!("https://{host}:{}", address.port());
    let mut client =
        client_of(&plain).base_url(url).retries(0).lookup(move |_, _| Ok(vec![address]));
    if trusts {
        let root = Certificate::from_der(&server.certificate).to_owned();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
        client = client.http_config(Config::builder().proxy(None).tls_config(tls).build());
    }
    ask(&client.build().unwrap())
}

#[test]
fn fault_108_a_certificate_that_proves_nothing_gets_no_request() {
    let good = tls_server(|_| {});
    assert_eq!(ask_tls(&good, "model.example", true).unwrap(), "hi");
    assert_eq!(good.read.load(Ordering::SeqCst), 1);

    let expired = tls_server(|params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    for (server, host, trusts) in [
        (&expired, "model.example", true),
        (&good, "another.example", true),
        (&good, "model.example", false),
    ] {
        let before = server.read.load(Ordering::SeqCst);
        let error = ask_tls(server, host, trusts).unwrap_err();
        println!("{error}");
        assert_eq!(error.kind(), ModelErrorKind::Untrusted, "{error}");
        assert!(!error.is_transient() && !error.was_sent(), "{error}");
        assert_eq!(
            server.read.load(Ordering::SeqCst),
            before,
            "it read what was meant for another"
        );
    }
}

#[test]
fn fault_110_what_is_no_message_is_named_bounded_and_without_secrets() {
    let page = format!("<html>\n<p>Welcome, {KEY}</p>{}</html>", "x".repeat(10_000));
    let server = Replay::new([
        Answer::bytes("text/html", page),
        Answer::json(r#"{"error":{"message":"upstream down","code":502}}"#),
        Answer::json(SAID_HI),
        Answer::json(r#"{"error":{"message":"no such thing","code":404}}"#),
        Answer::json(""),
        Answer::bytes("application/json", [0xff, 0xfe, 0x00]),
        Answer::endless(vec![b' '; 64 << 10]),
        Answer::raw("garbage\r\n\r\n"),
    ]);
    let client = client_of(&server).max_body_bytes(1 << 20).build().unwrap();
    let error = ask(&client).unwrap_err();
    assert_eq!(error.kind(), ModelErrorKind::Unreadable);
    let text = error.to_string();
    assert!(text.contains("text/html") && text.contains("Welcome, [key]"), "{text}");
    assert!(text.len() < 1000, "{text}");

    assert_eq!(ask(&client).unwrap(), "hi", "an error that may pass, in a body with status 200");
    let error = ask(&client).unwrap_err();
    assert_eq!(error.kind(), ModelErrorKind::NotFound, "{error}");
    assert!(error.message().contains("no such thing"), "{error}");
    for kind in [
        ModelErrorKind::Unreadable,
        ModelErrorKind::Unreadable,
        ModelErrorKind::TooLarge,
        ModelErrorKind::Unreadable,
    ] {
        let error = ask(&client).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{error}");
    }
    assert_eq!(server.left(), 0);
}

#[test]
fn fault_110_a_key_is_hidden_before_what_is_shown_is_cut() {
    let filled = "x".repeat(60);
    let bodies = [format!("{filled}{KEY}"), format!(r#"{{"choices":"{filled}{KEY}"}}"#)];
    for body in bodies {
        let server = Replay::new([Answer::json(&body), Answer::json(&body)]);
        let client = client_of(&server).retries(0).build().unwrap();
        let request = [client.wire().user_message("hello")];
        let errors = [
            client.respond(&Request::new(&request)).unwrap_err(),
            client.stream(&Request::new(&request), &mut |_| {}).unwrap_err(),
        ];
        for error in errors {
            assert!(!error.to_string().contains(&KEY[..6]), "{error}");
        }
    }
}

/// Run by the test below, with a proxy in its environment.
#[test]
#[ignore = "needs an environment of its own, which fault_111 gives it"]
fn asks_with_a_proxy_in_the_environment() {
    let server = Replay::new([Answer::json(SAID_HI)]);
    assert_eq!(ask(&client_of(&server).build().unwrap()).unwrap(), "hi");
    assert_eq!(server.seen().len(), 1);
    let wanted = client_of(&server).proxy_from_environment().retries(0).build().unwrap();
    assert!(ask(&wanted).is_err(), "the proxy answers nothing");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn fault_111_a_proxy_of_the_environment_is_used_only_on_request() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            for _stream in proxy.incoming() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "faults::http::asks_with_a_proxy_in_the_environment"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        child.env(name, &address);
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(seen.load(Ordering::SeqCst), 1, "once: when it was asked for");
}

#[test]
fn fault_112_cancelling_one_request_leaves_the_others_alone() {
    let slow = || Answer::json(SAID_HI).after(ms(400));
    let server = Replay::new([Answer::never(), slow(), slow()]);
    let client = client_of(&server).retries(0).build().unwrap();
    let token = CancelToken::new();
    thread::scope(|scope| {
        let doomed = scope.spawn(|| {
            let conversation = [Wire::OpenAi.user_message("hello")];
            client.respond(&Request::new(&conversation).cancel(&token).deadline(within(LONG)))
        });
        assert!(eventually(|| server.seen().len() == 1));
        let others = [0; 2].map(|_| scope.spawn(|| ask(&client)));
        assert!(eventually(|| server.seen().len() == 3));
        token.cancel();
        assert!(doomed.join().unwrap().unwrap_err().is_cancelled());
        for other in others {
            assert_eq!(other.join().unwrap().unwrap(), "hi");
        }
    });
    server.push(Answer::json(SAID_HI));
    assert_eq!(ask(&client).unwrap(), "hi", "the client is as good as before");
}
