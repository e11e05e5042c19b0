//! A case: an executor, runs of turns on it, and what must hold of every run and when all is over.
//!
//! After every run: one result a call, in call order, with its id, name and arguments byte for
//! byte, by the deadline; times that fit together; a report that survives being stored; no secret
//! in what the model is told. When the case is over and what hung was let go: nothing runs, waits
//! or is abandoned, late results were counted, and as many calls as before can run at once. On the
//! way nothing that moves a cursor is logged. A case that hangs stops the test run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use proptest::test_runner::{Config, RngSeed};
use toolpool::{
    Event, EventKind, Executor, ExecutorBuilder, NotStarted, Note, Outcome, Report, Run, Stats,
    Tool, ToolCall, ToolSet, Turn,
};

use crate::machine;

/// A secret of every executor here.
pub(crate) const CANARY: &str = "canary-5e1fb0c2d4";

/// The tool of the turn that ends every case.
const LAST: &str = "meet";

/// How long a case may take before the test run is stopped: `TOOLPOOL_TEST_HANG` in seconds, 120
/// where it isn't set.
fn hang() -> Duration {
    let set = std::env::var("TOOLPOOL_TEST_HANG").ok().and_then(|hang| hang.parse().ok());
    Duration::from_secs(set.unwrap_or(120))
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How much later than asked for something may happen: `TOOLPOOL_TEST_SLACK` in milliseconds, 500
/// where it isn't set, so that a machine that does other work too fails nothing.
pub(crate) fn slack() -> Duration {
    let set = std::env::var("TOOLPOOL_TEST_SLACK").ok().and_then(|slack| slack.parse().ok());
    ms(set.unwrap_or(500))
}

/// What a property is tried on: the same inputs each time, or `TOOLPOOL_FUZZ_CASES` new ones.
pub(crate) fn inputs() -> Config {
    let cases = std::env::var("TOOLPOOL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config { failure_persistence: None, ..Config::default() };
    match cases {
        Some(cases) => Config { cases, ..config },
        None => Config { rng_seed: RngSeed::Fixed(1), ..config },
    }
}

/// A turn of calls by name and arguments, with ids `call_0`, `call_1` ….
pub(crate) fn turn<N: Into<String>, A: Into<String>>(
    calls: impl IntoIterator<Item = (N, A)>,
) -> Turn {
    Turn::from_calls(
        calls
            .into_iter()
            .enumerate()
            .map(|(n, (name, args))| ToolCall::new(format!("call_{n}"), name, args)),
    )
}

/// A turn of `n` calls of one tool without arguments.
pub(crate) fn repeat(name: &str, n: usize) -> Turn {
    turn((0..n).map(|_| (name, "")))
}

/// How the calls ended, by name.
pub(crate) fn names(report: &Report) -> Vec<&'static str> {
    report.calls().iter().map(|call| call.outcome.name()).collect()
}

/// What the model is told of the call at `index`.
pub(crate) fn told(report: &Report, index: usize) -> String {
    report[index].content().to_text()
}

/// Waits until `condition` holds; whether it did within ten seconds and the slack.
pub(crate) fn eventually(condition: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10) + slack();
    while !condition() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(ms(1));
    }
    true
}

/// What a tool that never returns waits for; opened when its case is over.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn wait(&self) {
        let mut open = self.0.0.lock();
        while !*open {
            self.0.1.wait(&mut open);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

/// Opens a gate however the case ends, so that a failed one leaves no thread behind.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A case to be checked.
pub(crate) struct Case {
    builder: ExecutorBuilder,
    deadline: Duration,
    width: usize,
    gate: Gate,
    witness: Arc<Witness>,
    nests: bool,
    shuts_down: bool,
    is_alone: bool,
}

impl Case {
    /// A case with a deadline of 30 s a run.
    pub(crate) fn new(tools: impl Into<ToolSet>) -> Self {
        let witness = Arc::<Witness>::default();
        let (observes, enters) = (Arc::clone(&witness), Arc::clone(&witness));
        let builder = Executor::builder(tools)
            .secret(CANARY)
            .observer(move |event| observes.observe(event))
            .around(move || {
                let enters = Arc::clone(&enters);
                move |_cx, run| {
                    enters.entered.fetch_add(1, Ordering::Relaxed);
                    run();
                }
            });
        Self {
            builder,
            witness,
            deadline: Duration::from_secs(30),
            width: 4,
            gate: Gate::default(),
            nests: false,
            shuts_down: false,
            is_alone: false,
        }
    }

    /// A case whose tools wait for `gate`, which opens at its end.
    pub(crate) fn gated(tools: impl Into<ToolSet>, gate: &Gate) -> Self {
        Self { gate: gate.clone(), ..Self::new(tools) }
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// At most `cap` calls at once.
    pub(crate) fn parallel(mut self, cap: usize) -> Self {
        self.width = self.width.min(cap);
        self.builder = self.builder.max_parallel(cap);
        self
    }

    pub(crate) fn set(mut self, set: impl FnOnce(ExecutorBuilder) -> ExecutorBuilder) -> Self {
        self.builder = set(self.builder);
        self
    }

    /// Some runs aren't seen by the case, nested ones for example, so their late results can't be
    /// foretold.
    pub(crate) fn with_unseen_runs(mut self) -> Self {
        self.nests = true;
        self
    }

    /// The executor is shut down when the case is over.
    pub(crate) fn shuts_down(mut self) -> Self {
        self.shuts_down = true;
        self
    }

    /// The case keeps every core busy: no other runs beside it.
    pub(crate) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Runs the case and checks what must hold.
    pub(crate) fn check<T>(self, body: impl FnOnce(&Rig) -> T) -> T {
        let _shared = (!self.is_alone).then(machine::shared);
        let _alone = self.is_alone.then(machine::alone);
        watch_the_log();
        let _watchdog = Watchdog::start();
        let opens = Opens(self.gate.clone());
        let rig = Rig {
            executor: self.builder.deadline(self.deadline).build().unwrap(),
            deadline: self.deadline,
            seen: Mutex::default(),
        };
        let value = body(&rig);
        drop(opens);
        rig.check_the_rest(self.nests, self.shuts_down, self.width);
        self.witness.check(&rig, self.width);
        let findings = LOG.findings.lock();
        assert!(findings.is_empty(), "logged: {findings:#?}");
        value
    }
}

/// An executor under test.
pub(crate) struct Rig {
    pub(crate) executor: Executor,
    deadline: Duration,
    seen: Mutex<Seen>,
}

/// What the reports said of threads that were left running.
#[derive(Default)]
struct Seen {
    left_running: u64,
    /// Calls that were cancelled while they ran: their thread may have been back or not.
    cancelled: u64,
}

impl Rig {
    /// Runs a turn and checks its report.
    pub(crate) fn run(&self, turn: &Turn) -> Report {
        self.run_with(turn, |run| run)
    }

    /// As [`run`](Self::run), with settings of the run's own, its deadline excepted.
    pub(crate) fn run_with(&self, turn: &Turn, set: impl FnOnce(Run<'_>) -> Run<'_>) -> Report {
        self.timed(turn, self.deadline, || set(self.executor.turn(turn)).run())
    }

    /// As [`run_with`](Self::run_with), with its deadline.
    pub(crate) fn run_within(
        &self,
        turn: &Turn,
        deadline: Duration,
        set: impl FnOnce(Run<'_>) -> Run<'_>,
    ) -> Report {
        self.timed(turn, deadline, || set(self.executor.turn(turn).deadline(deadline)).run())
    }

    /// Runs `run` and checks that its report answers `turn` within `deadline`.
    pub(crate) fn timed(
        &self,
        turn: &Turn,
        deadline: Duration,
        run: impl FnOnce() -> Report,
    ) -> Report {
        let began = Instant::now();
        let report = run();
        let took = began.elapsed();
        assert!(took <= deadline.saturating_add(slack()), "{took:?} instead of {deadline:?}");
        assert!(report.wall() <= took, "{:?} of {took:?}", report.wall());
        self.note(turn, &report);
        report
    }

    /// Checks a report that came some other way.
    pub(crate) fn note(&self, turn: &Turn, report: &Report) {
        check_report(turn, report);
        let mut seen = self.seen.lock();
        for call in report {
            let replaced = call.notes.iter().find_map(|note| match note {
                Note::Fallback(outcome) => Some(&**outcome),
                _ => None,
            });
            match replaced.unwrap_or(&call.outcome) {
                Outcome::TimedOut { still_running: true, .. } => seen.left_running += 1,
                Outcome::Cancelled { started: true, .. } => seen.cancelled += 1,
                _ => {}
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.executor.stats()
    }

    /// Whether an observer was switched off, on a machine that had no time for it. What it would
    /// have been told isn't known then, and the test says so.
    pub(crate) fn lost_an_observer(&self) -> bool {
        let lost = self.stats().observers_off > 0;
        if lost {
            println!("an observer was switched off, so its events are not checked");
        }
        lost
    }

    fn check_the_rest(&self, nests: bool, shuts_down: bool, width: usize) {
        let at_rest = || {
            let stats = self.stats();
            (stats.running, stats.queued, stats.abandoned, stats.batches) == (0, 0, 0, 0)
        };
        assert!(eventually(at_rest), "not at rest: {:?}", self.stats());
        let (late, seen) = (self.stats().late, self.seen.lock());
        assert!(late >= seen.left_running, "{late} late of {}", seen.left_running);
        let most = seen.left_running + seen.cancelled;
        assert!(nests || late <= most, "{late} late of {most} at most");
        // As many calls as before can run at once, and so all permits are back.
        let met = Arc::new(std::sync::Barrier::new(if shuts_down { 1 } else { width }));
        let meet = Tool::new(LAST, "", move || {
            met.wait();
            Ok(())
        })
        .timeout(hang());
        let turn = repeat(LAST, width);
        let executor = self.executor.with_tools(ToolSet::new().with(meet)).unwrap();
        let report = executor.turn(&turn).deadline(hang() / 4).run();
        for call in &report {
            let refused = call.outcome == Outcome::NotStarted(NotStarted::Shutdown);
            assert!(if shuts_down { refused } else { call.outcome.is_success() }, "{call:?}");
        }
    }
}

/// What holds of every report.
pub(crate) fn check_report(turn: &Turn, report: &Report) {
    assert_eq!(report.calls().len(), turn.calls().len(), "one result a call");
    assert_eq!(report.results().len(), turn.calls().len());
    for ((asked, call), result) in turn.calls().iter().zip(report).zip(report.results()) {
        assert_eq!(asked, &call.call, "in call order");
        assert_eq!((asked.id(), asked.name()), (result.id, result.name), "byte for byte");
        assert_eq!(result.is_error, !call.outcome.is_success());
        let content = result.content.to_text();
        assert!(!result.is_error || !content.is_empty(), "a failure without words: {call:?}");
        assert_eq!(call.started.is_some(), call.attempts > 0, "{call:?}");
        assert!(call.submitted <= call.started.unwrap_or(call.ended), "{call:?}");
        assert!(call.started.unwrap_or_default() <= call.ended, "{call:?}");
        assert!(call.ended <= report.wall(), "{call:?} of {:?}", report.wall());
        let ended = serde_json::to_string(&(&call.outcome, &call.notes)).unwrap();
        assert!(!content.contains(CANARY) && !ended.contains(CANARY), "{call:?}");
        let shared = call.notes.iter().any(|note| matches!(note, Note::CoalescedWith(_)));
        let ran = match &call.outcome {
            Outcome::NotStarted(_) => Some(false),
            Outcome::Cancelled { started, .. } => Some(*started),
            Outcome::Rejected(_) => None,
            // A key function may panic, too, before anything has started.
            Outcome::Panicked(_) => None,
            _ => Some(true),
        };
        assert!(shared || ran.is_none_or(|ran| ran == (call.attempts > 0)), "{call:?}");
    }
    let stored = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<Report>(&stored).unwrap(), report);
}

/// What is told and what is run beside the reports.
#[derive(Default)]
struct Witness {
    /// How often a handler was run.
    entered: AtomicUsize,
    /// How many calls of the last turn have ended.
    last_ended: AtomicUsize,
    /// The events of each call: its batch and its index.
    events: Mutex<BTreeMap<(u64, usize), Vec<Told>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Queued,
    Started(u32),
    Progress,
    Retrying,
    Finished,
    Late,
}

impl Witness {
    fn observe(&self, event: &Event) {
        let told = match &event.kind {
            EventKind::Queued => Told::Queued,
            EventKind::Started { attempt } => Told::Started(*attempt),
            EventKind::Progress { .. } => Told::Progress,
            EventKind::Retrying { .. } => Told::Retrying,
            EventKind::Finished { .. } => Told::Finished,
            EventKind::Late { .. } => Told::Late,
            other => return LOG.findings.lock().push(format!("an unknown event: {other:?}")),
        };
        if format!("{event:?}").contains(CANARY) {
            LOG.findings.lock().push(format!("an event with a secret: {}", event.tool));
        }
        self.events.lock().entry((event.batch, event.index)).or_default().push(told);
        let is_last = told == Told::Finished && event.tool == LAST;
        self.last_ended.fetch_add(usize::from(is_last), Ordering::Relaxed);
    }

    /// Checks what was told, once all of it was; the last turn's calls are `last`.
    fn check(&self, rig: &Rig, last: usize) {
        let count = |wanted: fn(&Told) -> bool| {
            self.events.lock().values().flatten().filter(|told| wanted(told)).count()
        };
        if count(|_| true) == 0 {
            return; // The case has an observer of its own.
        }
        let late = rig.stats().late as usize;
        let entered = self.entered.load(Ordering::Relaxed);
        let all_told = || {
            // Events come in order, so before the last end there is every other, late ones excepted.
            self.last_ended.load(Ordering::Relaxed) >= last
                && count(|told| *told == Told::Late) >= late
                && count(|told| matches!(told, Told::Started(_))) >= entered
        };
        let told = eventually(|| all_told() || rig.stats().observers_off > 0);
        if rig.lost_an_observer() {
            return;
        }
        assert!(told, "{late} late, {entered} entered, {:?}", self.events.lock());
        assert_eq!(count(|told| *told == Told::Late), late);
        assert_eq!(count(|told| matches!(told, Told::Started(_))), entered, "all runs are known");
        for (call, told) in &*self.events.lock() {
            assert!(is_in_order(told), "{call:?}: {told:?}");
        }
    }
}

/// Queued, then attempts from 1 on with progress in between, then one end, then at most one result
/// that is late.
fn is_in_order(told: &[Told]) -> bool {
    let Some(end) = told.iter().position(|told| *told == Told::Finished) else { return false };
    let (before, after) = (&told[..end], &told[end + 1..]);
    let mut attempts = 0;
    let begins = before.first() == Some(&Told::Queued);
    let runs = before[1..].iter().all(|told| match told {
        Told::Started(attempt) => {
            attempts += 1;
            *attempt == attempts
        }
        Told::Progress | Told::Retrying => attempts > 0,
        Told::Queued | Told::Finished | Told::Late => false,
    });
    begins && runs && matches!(after, [] | [Told::Late]) && (after.is_empty() || attempts > 0)
}

/// Stops the test run when a case hangs, and says which one.
struct Watchdog {
    _done: crossbeam_channel::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let (done, over) = crossbeam_channel::bounded::<()>(0);
        let case = std::thread::current().name().unwrap_or("a case").to_owned();
        std::thread::spawn(move || {
            if over.recv_timeout(hang()) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                eprintln!("{case} hangs");
                std::process::abort();
            }
        });
        Self { _done: done }
    }
}

/// Looks at every line that is logged.
struct Log {
    findings: Mutex<Vec<String>>,
}

static LOG: Log = Log { findings: Mutex::new(Vec::new()) };

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("toolpool")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            let moves = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
            if line.contains(moves) || line.contains(CANARY) || line.len() > 8 << 10 {
                self.findings.lock().push(line.chars().take(200).collect());
            }
        }
    }

    fn flush(&self) {}
}

fn watch_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(deadlock_detection)]
        std::thread::spawn(watch_for_deadlocks);
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Stops the test run when threads wait for each other's locks, and says where.
#[cfg(deadlock_detection)]
fn watch_for_deadlocks() {
    loop {
        std::thread::sleep(ms(500));
        let deadlocks = parking_lot::deadlock::check_deadlock();
        for thread in deadlocks.iter().flatten() {
            eprintln!("deadlock, thread {:?}:\n{:?}", thread.thread_id(), thread.backtrace());
        }
        if !deadlocks.is_empty() {
            std::process::abort();
        }
    }
}

/// How a test went that ran in a process of its own.
pub(crate) struct Alone {
    pub(crate) status: std::process::ExitStatus,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// Runs the test again in a process of its own, for what would end this one; `None` in that
/// process. The test hands in itself, so that its name is known.
pub(crate) fn alone<F: Fn()>(_test: F) -> Option<Alone> {
    use std::io::Read;
    use std::process::{Command, Stdio};

    const MARK: &str = "TOOLPOOL_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return None;
    }
    let path = std::any::type_name::<F>();
    let (_crate, name) = path.split_once("::").unwrap();
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > hang() {
            child.kill().unwrap();
            panic!("{name} hangs in a process of its own");
        }
        std::thread::sleep(ms(2));
    };
    let took = began.elapsed();
    Some(Alone { status, stderr: reader.join().unwrap(), took })
}
