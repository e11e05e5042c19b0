//! Threads, memory, files and processor time: what a fault costs, and what happens when there is
//! no more. Each test has a process of its own.

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    CallContext, CancelToken, Executor, FailurePolicy, NotStarted, Outcome, Rejected, Tool,
    ToolSet, Turn,
};

use super::harness::{Case, Gate, check_report, eventually, ms, names, repeat, told, turn};
use super::process::{self, alone, alone_as};
use super::props::quick;

#[derive(Deserialize, JsonSchema)]
struct Act {
    #[serde(default)]
    act: String,
}

fn act(name: &str, act: &str) -> (String, String) {
    (name.to_owned(), format!(r#"{{"act":"{act}"}}"#))
}

fn stuck(gate: &Gate) -> Tool<()> {
    let gate = gate.clone();
    Tool::new("stuck", "", move || {
        gate.wait();
        Ok(())
    })
}

/// Sets a limit of this process; returns what it was.
fn limit(resource: Resource, most: u64) -> Rlimit {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(most), maximum: before.maximum }).unwrap();
    before
}

/// Calls run on the threads there are; without any, each is answered; when the limit is lifted all
/// is as before. `refuse` has the system refuse threads, `allow` takes that back.
fn check_without_threads<T>(executor: &Executor, refuse: impl Fn() -> T, allow: impl Fn(T)) {
    let asked = turn((0..12).map(|_| act("work", "")));
    // No thread at all.
    let before = refuse();
    let began = Instant::now();
    let report = executor.run(&asked);
    check_report(&asked, &report);
    for call in &report {
        assert_eq!(call.outcome, Outcome::NotStarted(NotStarted::NoThread));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let keyed = turn((0..3).map(|_| act("write", "k")));
    let report = executor.run(&keyed);
    check_report(&keyed, &report);
    assert_eq!(names(&report), ["no_thread"; 3]);
    allow(before);
    // Some: two calls that run meanwhile have theirs, and when they are done the others get them.
    let report = thread::scope(|scope| {
        let gate = Gate::default();
        let holds = stuck(&gate);
        let holding = executor.with_tools(ToolSet::new().with(holds)).unwrap();
        let held = scope.spawn(move || holding.run(&repeat("stuck", 2)));
        assert!(eventually(|| executor.stats().running == 2));
        let opener = scope.spawn(move || {
            thread::sleep(ms(300));
            gate.open();
        });
        let before = refuse();
        let report = executor.run(&asked);
        opener.join().unwrap();
        assert!(held.join().unwrap().all_succeeded());
        allow(before);
        report
    });
    check_report(&asked, &report);
    assert!(report.all_succeeded(), "{:?}", names(&report));
    // And all of them again.
    let report = executor.run(&asked);
    assert!(report.all_succeeded(), "{:?}", names(&report));
    let stats = executor.stats();
    assert_eq!((stats.running, stats.queued, stats.batches), (0, 0, 0));
}

fn workers(stack_size: usize) -> Executor {
    let work = |name: &str| {
        Tool::new(name, "", |args: Act| {
            thread::sleep(ms(5));
            Ok(args.act)
        })
    };
    let tools =
        ToolSet::new().with(work("work")).with(work("write").writes(|a: &Act| a.act.clone()));
    Executor::builder(tools)
        .stack_size(stack_size)
        .keep_alive(ms(1))
        .deadline(Duration::from_secs(20))
        .build()
        .unwrap()
}

#[test]
fn fault_046_without_new_threads_calls_run_on_those_there_are_or_say_so() {
    const TEST: &str =
        "faults::resources::fault_046_without_new_threads_calls_run_on_those_there_are_or_say_so";
    alone(TEST, || {
        // Stacks so large that a limit on the address space refuses threads and nothing else.
        let executor = workers(1 << 30);
        let refuse = || limit(Resource::As, process::address_space() + (512 << 20));
        check_without_threads(&executor, refuse, |before| {
            setrlimit(Resource::As, before).unwrap();
        });
    });
}

/// Each call that ends lets the next one start; they must not end one within another.
#[test]
fn fault_046_a_long_queue_without_any_thread_takes_no_more_stack_than_a_short_one() {
    let act = |name: &str| Tool::new(name, "", |args: Act| Ok(args.act));
    let tools = ToolSet::new()
        .with(act("work"))
        .with(act("write").writes(|args: &Act| args.act.clone()))
        .with(act("compute").compute());
    let executor = Executor::builder(tools)
        // No machine has room for it.
        .stack_size(1 << 60)
        .blocking_threads(1)
        .rayon_threads(1)
        .max_calls(usize::MAX)
        .build()
        .unwrap();
    let asked = turn((0..12_000).map(|n| (["work", "write", "compute"][n % 3], r#"{"act":"k"}"#)));
    let report = executor.run(&asked);
    check_report(&asked, &report);
    let is_answered = |outcome: &Outcome| *outcome == Outcome::NotStarted(NotStarted::NoThread);
    assert!(report.calls().iter().all(|call| is_answered(&call.outcome)));
}

/// Turn after turn on threads that don't last. `TOOLPOOL_REFUSALS=1` says that the system refuses
/// some threads for a while; then that must have been seen.
#[test]
fn fault_046_turns_go_on_while_threads_are_refused_and_after() {
    let executor = workers(1 << 20);
    let asked = turn((0..6).map(|n| (["work", "write"][n % 2], r#"{"act":"k"}"#)));
    let mut endings = std::collections::BTreeMap::<_, usize>::new();
    let mut last = Vec::new();
    for _ in 0..60 {
        let report = executor.run(&asked);
        check_report(&asked, &report);
        last = names(&report);
        for name in &last {
            *endings.entry(*name).or_default() += 1;
        }
        thread::sleep(ms(3));
    }
    println!("figure: 60 turns of 6 calls: {endings:?}");
    assert_eq!(last, ["succeeded"; 6]);
    let refused = endings.remove("no_thread").unwrap_or_default();
    assert_eq!(endings.into_keys().collect::<Vec<_>>(), ["succeeded"]);
    assert_eq!(refused > 0, std::env::var_os("TOOLPOOL_REFUSALS").is_some());
}

#[test]
fn fault_131_a_thousand_hung_tools_cost_little_and_the_next_is_refused() {
    const TEST: &str =
        "faults::resources::fault_131_a_thousand_hung_tools_cost_little_and_the_next_is_refused";
    alone(TEST, || {
        let gate = Gate::default();
        let tools = ToolSet::new().with(stuck(&gate).timeout(ms(2))).with(quick());
        // Not a case of the harness: that one writes down every event.
        let executor = Executor::builder(tools).max_abandoned(1000).build().unwrap();
        let asked = turn([("stuck", ""), ("quick", "")]);
        let run = |n| {
            for _ in 0..n {
                let report = executor.run(&asked);
                check_report(&asked, &report);
                assert_eq!(names(&report), ["timed_out", "succeeded"]);
            }
        };
        run(100);
        let before = process::resident();
        run(900);
        assert_eq!(executor.stats().abandoned, 1000);
        let each = (process::resident() - before) as f64 / 900.0;
        println!("figure: {each:.1} KiB of memory a hung tool");
        // Without optimisation a thread uses more of its stack.
        let most = if cfg!(debug_assertions) { 24.0 } else { 16.0 };
        assert!(each <= most, "{each} KiB");
        let report = executor.run(&asked);
        for call in &report {
            assert_eq!(call.outcome, Outcome::Rejected(Rejected::AbandonedLimit));
        }
        assert!(told(&report, 0).contains("earlier calls hang"), "{}", told(&report, 0));
        assert!(process::threads() < 1010, "{}", process::threads());
        gate.open();
        assert!(eventually(|| executor.stats().abandoned == 0));
        assert!(executor.run(&repeat("quick", 1)).all_succeeded());
    });
}

/// Memory stays within 1 MiB of what it was after a quarter of the turns, and 128 KiB a thread more.
/// `TOOLPOOL_SOAK_BATCHES` says how many turns; 600 where it isn't set.
#[test]
fn fault_132_mixed_turns_leave_no_thread_file_or_memory_behind() {
    const TEST: &str =
        "faults::resources::fault_132_mixed_turns_leave_no_thread_file_or_memory_behind";
    alone(TEST, || {
        let batches = std::env::var("TOOLPOOL_SOAK_BATCHES").ok().and_then(|n| n.parse().ok());
        let batches: usize = batches.unwrap_or(600);
        let acts = |args: Act, cx: &CallContext| match args.act.as_str() {
            "panics" => panic!("as asked"),
            "fails" => Err("as asked".into()),
            "is late" => {
                thread::sleep(ms(30));
                Ok(String::new())
            }
            "gives way" => {
                cx.sleep(Duration::from_secs(60))?;
                Ok(String::new())
            }
            "nests" => Ok(cx.run(&turn([act("any", "works")]))[0].content().to_text()),
            "closes" => {
                let closed = Arc::new(AtomicUsize::new(0));
                let _closer = cx.on_cancel({
                    let closed = Arc::clone(&closed);
                    move || {
                        closed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                while closed.load(Ordering::Relaxed) == 0 {
                    thread::sleep(ms(1));
                }
                Ok(String::new())
            }
            _ => Ok("x".repeat(10_000)),
        };
        let tools = ToolSet::new()
            .with(Tool::new("any", "", acts).timeout(ms(12)))
            .with(Tool::new("computes", "", acts).compute().timeout(ms(12)))
            .with(Tool::new("writes", "", acts).timeout(ms(12)).writes(|a: &Act| a.act.clone()))
            .with(Tool::new("tries", "", acts).idempotent().retries(2).timeout(ms(12)));
        const ACTS: [&str; 8] =
            ["works", "panics", "fails", "is late", "gives way", "nests", "closes", "works"];
        const TOOLS: [&str; 4] = ["any", "computes", "writes", "tries"];
        // Not a case of the harness: that one writes down every event.
        let events = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&events);
        let executor = Executor::builder(tools)
            .rayon_threads(2)
            .deadline(Duration::from_secs(30))
            .observer(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .unwrap();
        let mut endings = std::collections::BTreeMap::<_, usize>::new();
        let mut run = |from: usize, to: usize| {
            for batch in from..to {
                let asked = turn(
                    (0..1 + batch % 6)
                        .map(|n| act(TOOLS[(batch / 7 + n) % 4], ACTS[(batch + 3 * n) % 8])),
                );
                let token = CancelToken::new();
                let run = executor.turn(&asked);
                let report = match batch % 5 {
                    0 => thread::scope(|scope| {
                        scope.spawn(|| {
                            thread::sleep(ms(batch as u64 % 9));
                            token.cancel();
                        });
                        run.cancel(&token).run()
                    }),
                    1 => run.policy(FailurePolicy::abort_on_first()).run(),
                    2 => run.deadline(ms(6)).run(),
                    _ => run.run(),
                };
                check_report(&asked, &report);
                for name in names(&report) {
                    *endings.entry(name).or_default() += 1;
                }
            }
        };
        let rest = || {
            let is_idle = || {
                let stats = executor.stats();
                (stats.running, stats.queued, stats.abandoned, stats.batches) == (0, 0, 0, 0)
            };
            assert!(eventually(is_idle), "{:?}", executor.stats());
            [process::threads(), process::open_files(), process::resident()]
        };
        // What the allocator and the threads keep is there after the first quarter.
        let mut seen = Vec::new();
        for quarter in 0..4 {
            run(batches * quarter / 4, batches * (quarter + 1) / 4);
            seen.push(rest());
        }
        println!("figure: {batches} turns, {events:?} events, {endings:?}");
        println!("figure: [threads, files, KiB] after each quarter: {seen:?}");
        let (warm, last) = (seen[0], seen[3]);
        // How many idle threads there are depends on what ran at once; each has touched a stack and
        // perhaps an arena of the allocator.
        assert!(last[0] <= warm[0] + 16, "{seen:?}");
        assert!(last[1] <= warm[1], "{seen:?}");
        let more = last[0].saturating_sub(warm[0]);
        assert!(last[2] <= warm[2] + (1 << 10) + 128 * more, "{seen:?}");
        for name in ["succeeded", "failed", "panicked", "timed_out", "cancelled", "aborted"] {
            assert!(endings.contains_key(name), "{name}: {endings:?}");
        }
    });
}

#[test]
fn fault_133_without_room_for_stacks_every_call_is_answered() {
    const TEST: &str =
        "faults::resources::fault_133_without_room_for_stacks_every_call_is_answered";
    alone(TEST, || {
        let tools = ToolSet::new()
            .with(Tool::new("work", "", || Ok(())))
            .with(Tool::new("compute", "", || Ok(())).compute());
        let executor = Executor::builder(tools)
            .stack_size(256 << 20)
            .rayon_threads(2)
            .deadline(Duration::from_secs(20))
            .build()
            .unwrap();
        let asked = turn((0..40).map(|n| (["work", "compute"][n % 2], "")));
        let before = limit(Resource::As, process::address_space() + (200 << 20));
        let report = executor.run(&asked);
        check_report(&asked, &report);
        assert_eq!(names(&report), ["no_thread"; 40]);
        setrlimit(Resource::As, before).unwrap();
        let report = executor.run(&asked);
        assert!(report.all_succeeded(), "{:?}", names(&report));
    });
}

#[test]
fn fault_134_at_the_limit_of_processes_every_call_is_answered() {
    const TEST: &str =
        "faults::resources::fault_134_at_the_limit_of_processes_every_call_is_answered";
    // The limit doesn't bind who may do everything, so then the process is somebody else's.
    const NOBODY: u32 = 65_534;
    let set = |command: &mut std::process::Command| {
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
    };
    alone_as(TEST, set, || {
        let executor = workers(1 << 20);
        let refuse = || limit(Resource::Nproc, 1);
        check_without_threads(&executor, refuse, |before| {
            setrlimit(Resource::Nproc, before).unwrap();
        });
    });
}

#[test]
fn fault_135_a_capacity_that_cannot_be_is_a_panic_like_any_other() {
    let huge = Tool::new("huge", "", || Ok(Vec::<u8>::with_capacity(black_box(usize::MAX)).len()));
    Case::new(ToolSet::new().with(huge).with(quick())).check(|rig| {
        let report = rig.run(&turn([("huge", ""), ("quick", "")]));
        let Outcome::Panicked(Some(text)) = &report[0].outcome else { panic!("{report:?}") };
        assert!(text.contains("capacity overflow"), "{text}");
        assert!(report[1].outcome.is_success());
    });
}

#[test]
fn fault_136_huge_results_are_cut_before_they_pile_up() {
    const TEST: &str = "faults::resources::fault_136_huge_results_are_cut_before_they_pile_up";
    alone(TEST, || {
        let floods = Tool::new("floods", "", || Ok("x".repeat(10 << 20)));
        let case = Case::new(ToolSet::new().with(floods)).parallel(4);
        let case = case.deadline(Duration::from_secs(100));
        case.set(|b| b.max_calls(1000).max_result_bytes(16 << 10)).check(|rig| {
            // Serialising is slow without optimisation.
            let calls = if cfg!(debug_assertions) { 16 } else { 1000 };
            let before = process::most_resident();
            let report = rig.run(&repeat("floods", calls));
            assert!(report.all_succeeded());
            let longest = (0..calls).map(|n| told(&report, n).len()).max().unwrap();
            assert!(longest <= 16 << 10, "{longest}");
            // Four at work, each with its result and its copy, and the cut ones.
            let grown = (process::most_resident() - before) >> 10;
            println!("figure: {grown} MiB more at most for {calls} results of 10 MiB");
            assert!(grown < 200, "{grown} MiB");
        });
    });
}

/// What a turn of so many calls takes: of the clock, and of the processors, which is the same on a
/// machine that does other work.
fn cost_of(executor: &Executor, calls: usize) -> (Duration, Duration) {
    let asked = repeat("quick", calls);
    let (began, before) = (Instant::now(), process::ticks());
    assert!(executor.run(&asked).all_succeeded());
    (began.elapsed(), ms(10) * (process::ticks() - before) as u32)
}

#[test]
fn fault_137_ten_times_the_calls_take_about_ten_times_as_long() {
    const TEST: &str =
        "faults::resources::fault_137_ten_times_the_calls_take_about_ten_times_as_long";
    alone(TEST, || {
        let executor = Executor::builder(ToolSet::new().with(quick()))
            .max_parallel(4)
            .max_calls(100_000)
            .build()
            .unwrap();
        cost_of(&executor, 1000);
        let before = process::resident();
        let few: Duration = (0..3).map(|_| cost_of(&executor, 10_000).1).sum();
        let (wall, many) = cost_of(&executor, 100_000);
        let ratio = many.as_secs_f64() * 3.0 / few.as_secs_f64();
        let each = (process::most_resident() - before) as f64 / 100_000.0;
        println!(
            "figure: 100 000 calls {wall:?}, {ratio:.1} times what 10 000 take of the processor, {each:.1} KiB a call"
        );
        assert!(ratio < 30.0, "{ratio}");
        assert!(each < 10.0, "{each} KiB a call");
    });
}

/// A logger that does what a test asks for.
struct Logger(AtomicUsize, AtomicUsize);

const COUNTS: usize = 0;
const PANICS: usize = 1;
const BLOCKS: usize = 2;

static LOGGER: Logger = Logger(AtomicUsize::new(COUNTS), AtomicUsize::new(0));

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        match self.0.load(Ordering::Relaxed) {
            PANICS => panic!("a logger that panics"),
            BLOCKS => thread::sleep(Duration::from_secs(30)),
            _ => {}
        }
    }

    fn flush(&self) {}
}

#[test]
fn fault_138_logs_are_bounded_and_a_logger_that_misbehaves_loses_nothing() {
    const TEST: &str =
        "faults::resources::fault_138_logs_are_bounded_and_a_logger_that_misbehaves_loses_nothing";
    alone(TEST, || {
        // Traces of the panics that are asked for would take long.
        std::panic::set_hook(Box::new(|_| ()));
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let gate = Gate::default();
        let acts = |args: Act| match args.act.as_str() {
            "panics" => panic!("as asked"),
            "fails" => Err("as asked".into()),
            _ => Ok("done"),
        };
        let tools = ToolSet::new()
            .with(Tool::new("any", "", acts))
            .with(Tool::new("computes", "", acts).compute())
            .with(stuck(&gate).timeout(ms(100)));
        let executor = Executor::builder(tools).deadline(Duration::from_secs(15)).build().unwrap();
        let asked = turn([
            act("any", ""),
            act("any", "panics"),
            act("any", "fails"),
            act("computes", ""),
            act("computes", "panics"),
            ("stuck".to_owned(), String::new()),
        ]);
        let expected = ["succeeded", "panicked", "failed", "succeeded", "panicked", "timed_out"];
        for misbehaves in [COUNTS, PANICS, BLOCKS] {
            LOGGER.0.store(misbehaves, Ordering::Relaxed);
            LOGGER.1.store(0, Ordering::Relaxed);
            let began = Instant::now();
            let report = executor.run(&asked);
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
            check_report(&asked, &report);
            assert_eq!(names(&report), expected, "{misbehaves}");
            if misbehaves == COUNTS {
                // Another thread logs them, so they are counted once there are no more.
                let lines = || LOGGER.1.load(Ordering::Relaxed);
                let stands_still = || {
                    let before = lines();
                    thread::sleep(ms(200));
                    before > 0 && lines() == before
                };
                assert!(eventually(stands_still), "{} lines", lines());
                assert!(lines() <= 3 * asked.calls().len(), "{} lines", lines());
            }
        }
        // What a panic in it would cut off goes on: the other callbacks of a token.
        LOGGER.0.store(PANICS, Ordering::Relaxed);
        let (hangup, ran) = (CancelToken::new(), Arc::new(AtomicUsize::new(0)));
        let runs = Arc::clone(&ran);
        let _panics = hangup.on_cancel(|| panic!("as asked"));
        let _runs = hangup.on_cancel(move || {
            runs.fetch_add(1, Ordering::Relaxed);
        });
        hangup.cancel();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        // A result that is to be kept whole and can't be, and a report of another turn.
        let folder = std::env::temp_dir().join(format!("toolpool-{}-gone", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let long = Tool::new("long", "", || Ok("x".repeat(1 << 20)));
        let builder = Executor::builder(ToolSet::new().with(long)).keep_cut_results_in(&folder);
        let keeps = builder.build().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let asked_long = turn([("long", "")]);
        let report = keeps.run(&asked_long);
        assert!(report.all_succeeded(), "{report:?}");
        let other = asked.clone().for_wire(toolpool::Wire::OpenAi);
        assert_eq!(other.reply(&report).len(), asked.calls().len() + 1);
        LOGGER.0.store(BLOCKS, Ordering::Relaxed);
        // Nor does it hold up the call that comes next, or a batch whose policy panics.
        LOGGER.1.store(0, Ordering::Relaxed);
        let began = Instant::now();
        for name in ["any", "computes"] {
            let asked = turn((0..20).map(|_| act(name, "")));
            assert!(executor.turn(&asked).max_parallel(1).run().all_succeeded());
        }
        let panics = FailurePolicy::custom(|_| panic!("as asked"));
        let report = executor.turn(&turn([act("any", "")])).policy(panics).run();
        assert!(report.aborted().is_some(), "{report:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        LOGGER.0.store(COUNTS, Ordering::Relaxed);
        gate.open();
        assert!(eventually(|| executor.stats().abandoned == 0), "{:?}", executor.stats());
        assert!(executor.run(&turn([act("any", "")])).all_succeeded());
    });
}

#[test]
fn fault_139_an_idle_executor_uses_no_processor_time() {
    const TEST: &str = "faults::resources::fault_139_an_idle_executor_uses_no_processor_time";
    alone(TEST, || {
        let gate = Gate::default();
        let tools = ToolSet::new().with(quick()).with(stuck(&gate)).with(quick_compute());
        let executor = Executor::new(tools).unwrap();
        assert!(
            executor.run(&turn((0..64).map(|n| (["quick", "adds"][n % 2], "")))).all_succeeded()
        );
        let idle = |what: &str| {
            thread::sleep(ms(200));
            let before = process::ticks();
            thread::sleep(Duration::from_secs(2));
            let used = process::ticks() - before;
            println!("figure: {used} ticks of 10 ms in 2 s, {what}");
            assert!(used <= 1, "{used} ticks, {what}");
        };
        idle("with idle threads");
        // A batch that is open, while the model still writes: its deadline is watched.
        let mut batch = executor.begin();
        batch.push(repeat("quick", 1).calls()[0].clone());
        idle("with an open batch");
        drop(batch);
        thread::scope(|scope| {
            scope.spawn(|| executor.run(&repeat("stuck", 2)).calls().len());
            idle("with calls that wait");
            gate.open();
        });
    });
}

fn quick_compute() -> Tool<()> {
    Tool::new("adds", "", || Ok(black_box(1) + 1)).compute()
}

#[test]
fn fault_140_a_tiny_call_costs_little() {
    const TEST: &str = "faults::resources::fault_140_a_tiny_call_costs_little";
    alone(TEST, || {
        let executor = Executor::builder(ToolSet::new().with(quick()))
            .max_parallel(4)
            .max_calls(20_000)
            .build()
            .unwrap();
        cost_of(&executor, 1000);
        let (wall, busy) = cost_of(&executor, 20_000);
        let (wall, busy) = (wall / 20_000, busy / 20_000);
        println!("figure: {wall:?} a tiny call of a long queue, {busy:?} of the processor");
        assert!(busy < Duration::from_micros(500), "{busy:?}");
        // One call a turn: the hop to a thread and back.
        let (began, before) = (Instant::now(), process::ticks());
        let asked: Turn = repeat("quick", 1);
        for _ in 0..2000 {
            assert!(executor.run(&asked).all_succeeded());
        }
        let (wall, busy) = (began.elapsed(), ms(10) * (process::ticks() - before) as u32);
        let (wall, busy) = (wall / 2000, busy / 2000);
        println!("figure: {wall:?} a turn of one tiny call, {busy:?} of the processor");
        assert!(busy < ms(1) && wall < ms(100), "{busy:?} {wall:?}");
    });
}
