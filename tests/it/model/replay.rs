//! A server for tests and examples: on loopback it plays prepared answers in order, with faults on
//! demand, and remembers what it was asked.
//!
//! Plain `std`: a thread listens, one more serves each connection; all are gone when the server is
//! dropped. It reads HTTP as well as it must and no better.
#![allow(dead_code, unreachable_pub, reason = "each program that includes it uses a part of it")]

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A server on loopback.
pub struct Replay {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    /// By the number of their connection.
    open: Mutex<Vec<(usize, TcpStream)>>,
    served: Mutex<Vec<JoinHandle<()>>>,
    connections: AtomicUsize,
    stopped: Mutex<bool>,
    stopping: Condvar,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

type Check = dyn Fn(&Seen) -> Result<(), String> + Send + Sync;

/// What is answered to one request.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    /// Of the head.
    head_drip: Option<Duration>,
    delay: Duration,
    check: Option<Arc<Check>>,
}

#[derive(Clone)]
enum Body {
    /// With its length, on a connection that stays open.
    Whole(Vec<u8>),
    /// In pieces, each after a pause; `chunked`, so that its end is known.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// Like `Pieces`, and then the connection is closed without an end.
    Cut(Vec<(Duration, Vec<u8>)>),
    /// Exactly these bytes in the place of a head and a body, then the connection is closed.
    Raw(Vec<u8>),
    /// The same pieces for ever.
    Endless(Vec<u8>),
    /// Nothing at all, and the connection stays open.
    Never,
    /// Nothing at all, and the connection is closed at once.
    Reset,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
            head_drip: None,
            delay: Duration::ZERO,
            check: None,
        }
    }

    /// A body of JSON.
    pub fn json(body: impl Into<String>) -> Self {
        Self::new(200, "application/json", Body::Whole(body.into().into_bytes()))
    }

    /// A body of any kind.
    pub fn bytes(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, content_type, Body::Whole(body.into()))
    }

    /// An error of a provider.
    pub fn error(status: u16, body: impl Into<String>) -> Self {
        let mut answer = Self::json(body);
        answer.status = status;
        answer
    }

    /// A stream in pieces, each after a pause.
    pub fn stream<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = (Duration, P)>) -> Self {
        let pieces = pieces.into_iter().map(|(pause, piece)| (pause, piece.into()));
        Self::new(200, "text/event-stream", Body::Pieces(pieces.collect()))
    }

    /// A body of which one piece of `size` bytes comes after each `pause`.
    pub fn dripped(body: impl Into<Vec<u8>>, size: usize, pause: Duration) -> Self {
        let body = body.into();
        let pieces = body.chunks(size.max(1)).map(|piece| (pause, piece.to_vec())).collect();
        Self::new(200, "application/json", Body::Pieces(pieces))
    }

    /// Exactly these bytes, and the connection is closed.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "", Body::Raw(bytes.into()))
    }

    /// A body without end.
    pub fn endless(piece: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "application/json", Body::Endless(piece.into()))
    }

    /// No answer, ever.
    pub fn never() -> Self {
        Self::new(200, "", Body::Never)
    }

    /// The connection is closed when the request has been read.
    pub fn reset() -> Self {
        Self::new(200, "", Body::Reset)
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more header; one of the same name gives way.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before the answer begins.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the first `bytes` of the body.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.body = match self.body {
            Body::Whole(mut body) => {
                body.truncate(bytes);
                Body::Cut(vec![(Duration::ZERO, body)])
            }
            Body::Pieces(pieces) => {
                let mut left = bytes;
                let cut = pieces.into_iter().map_while(|(pause, mut piece)| {
                    piece.truncate(left);
                    left -= piece.len();
                    (!piece.is_empty()).then_some((pause, piece))
                });
                Body::Cut(cut.collect())
            }
            other => other,
        };
        self
    }

    /// Sends the head byte by byte, each after a pause.
    pub fn head_dripped(mut self, pause: Duration) -> Self {
        self.head_drip = Some(pause);
        self
    }

    /// Looks at the request first; one that isn't as it should be is answered with status 400 and
    /// the complaint.
    pub fn checked(
        mut self,
        check: impl Fn(&Seen) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Arc::new(check));
        self
    }
}

impl Replay {
    /// Plays these answers, one a request in the order the requests come. When they are used up,
    /// the answer is status 500.
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.into_iter().collect()),
            seen: Mutex::default(),
            open: Mutex::default(),
            served: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: Mutex::new(false),
            stopping: Condvar::new(),
        });
        let listening = thread::spawn({
            let shared = Arc::clone(&shared);
            move || listen(&listener, &shared)
        });
        Self { address, shared, listener: Some(listening) }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Forgets the requests so far, and says how many they were.
    pub fn forget(&self) -> usize {
        std::mem::take(&mut *lock(&self.shared.seen)).len()
    }

    /// How many answers are left.
    pub fn left(&self) -> usize {
        lock(&self.shared.answers).len()
    }

    /// One more answer.
    pub fn push(&self, answer: Answer) {
        lock(&self.shared.answers).push_back(answer);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        *lock(&self.shared.stopped) = true;
        self.shared.stopping.notify_all();
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        for (_, stream) in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let served: Vec<_> = lock(&self.shared.served).drain(..).collect();
        for thread in served {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits, unless the server stops.
    fn pause(&self, span: Duration) {
        if span.is_zero() {
            return;
        }
        let stopped = lock(&self.stopped);
        drop(self.stopping.wait_timeout_while(stopped, span, |stopped| !*stopped));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if *lock(&shared.stopped) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        lock(&shared.open).push((connection, handle));
        let serving = thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                // A client that goes away is none of the server's business.
                let _ = serve(&stream, connection, &shared);
                let _ = stream.shutdown(Shutdown::Both);
                lock(&shared.open).retain(|(other, _)| *other != connection);
            }
        });
        let mut served = lock(&shared.served);
        served.retain(|thread| !thread.is_finished());
        served.push(serving);
    }
}

fn serve(stream: &TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read_request(&mut reader, connection)? {
        lock(&shared.seen).push(seen.clone());
        let answer = lock(&shared.answers).pop_front();
        let mut answer = answer
            .unwrap_or_else(|| Answer::error(500, r#"{"error":{"message":"no answer is left"}}"#));
        if let Some(Err(complaint)) = answer.check.as_ref().map(|check| check(&seen)) {
            let complaint = complaint.replace(['"', '\\', '\n'], "'");
            answer = Answer::error(400, format!(r#"{{"error":{{"message":"{complaint}"}}}}"#));
        }
        shared.pause(answer.delay);
        if !write_answer(stream, answer, shared)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request of a connection; nothing at its end.
fn read_request(reader: &mut impl BufRead, connection: usize) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    let mut seen = Seen { method, path, headers, body: String::new(), connection };
    let length = seen.header("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(seen))
}

/// Whether the connection stays open.
fn write_answer(mut stream: &TcpStream, answer: Answer, shared: &Shared) -> io::Result<bool> {
    let length = match &answer.body {
        Body::Whole(body) => Some(body.len()),
        Body::Pieces(_) | Body::Cut(_) | Body::Endless(_) => None,
        Body::Raw(bytes) => {
            stream.write_all(bytes)?;
            return Ok(false);
        }
        Body::Never => {
            // Until the client goes away or the server stops.
            let _ = stream.read(&mut [0]);
            return Ok(false);
        }
        Body::Reset => return Ok(false),
    };
    let mut head = format!("HTTP/1.1 {} Replayed\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    match answer.head_drip {
        Some(pause) => {
            for byte in head.bytes() {
                stream.write_all(&[byte])?;
                shared.pause(pause);
            }
        }
        None => stream.write_all(head.as_bytes())?,
    }
    let is_cut = matches!(answer.body, Body::Cut(_));
    match answer.body {
        Body::Whole(body) => stream.write_all(&body)?,
        Body::Pieces(pieces) | Body::Cut(pieces) => {
            for (pause, piece) in pieces {
                shared.pause(pause);
                write_chunk(stream, &piece)?;
            }
            if is_cut {
                return Ok(false);
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        Body::Endless(piece) => loop {
            write_chunk(stream, &piece)?;
        },
        Body::Raw(_) | Body::Never | Body::Reset => {}
    }
    Ok(true)
}

fn write_chunk(mut stream: &TcpStream, piece: &[u8]) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk)
}
