//! Scheduling, limits and keys: how many calls run at once, which waits for which, and what becomes
//! of them when the system gives no thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use toolpool::{
    CallContext, CancelToken, Executor, Group, NotStarted, Outcome, Tool, ToolSet, Turn,
};

use super::harness::{Case, Gate, eventually, ms, names, repeat, slack, told, turn};

#[derive(Deserialize, JsonSchema)]
struct Keyed {
    /// Which thing.
    #[serde(default)]
    key: String,
    #[serde(default)]
    ms: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Keys {
    keys: Vec<String>,
}

/// Something that several threads may be in at once, and how many were at most.
#[derive(Clone, Default)]
struct Room(Arc<(AtomicUsize, AtomicUsize)>);

impl Room {
    fn enter(&self) -> Inside<'_> {
        let inside = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(inside, Ordering::SeqCst);
        Inside(self)
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

struct Inside<'a>(&'a Room);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A span in which a key was read or written.
#[derive(Debug, Clone)]
struct Use {
    key: String,
    writes: bool,
    from: Instant,
    to: Instant,
}

/// Where tools note when they used which key.
#[derive(Clone, Default)]
struct Uses(Arc<Mutex<Vec<Use>>>);

impl Uses {
    fn tool(&self, name: &str, writes: bool) -> Tool<Keyed> {
        let uses = self.clone();
        let tool = Tool::new(name, "", move |args: Keyed| {
            let from = Instant::now();
            thread::sleep(ms(args.ms));
            uses.0.lock().push(Use { key: args.key, writes, from, to: Instant::now() });
            Ok(())
        });
        match writes {
            true => tool.writes(|args| args.key.clone()),
            false => tool.reads(|args| args.key.clone()),
        }
    }

    /// A write overlaps with no other use of its key.
    fn check(&self) -> Vec<Use> {
        let uses = self.0.lock().clone();
        for (n, a) in uses.iter().enumerate() {
            for b in uses.iter().skip(n + 1).filter(|b| a.key == b.key && (a.writes || b.writes)) {
                assert!(a.to <= b.from || b.to <= a.from, "{a:?} overlaps with {b:?}");
            }
        }
        uses
    }
}

fn quick(name: &str) -> Tool<()> {
    Tool::new(name, "", || Ok("done"))
}

/// Waits for the gate, whatever it is told.
fn stuck(name: &str, gate: &Gate) -> Tool<()> {
    let gate = gate.clone();
    Tool::new(name, "", move || {
        gate.wait();
        Ok("let go")
    })
}

fn naps(name: &str) -> Tool<Keyed> {
    Tool::new(name, "", |args: Keyed| {
        thread::sleep(ms(args.ms));
        Ok(args.ms)
    })
}

#[test]
fn fault_033_no_call_needs_no_thread_and_one_call_needs_one() {
    Case::new(ToolSet::new().with(quick("quick"))).check(|rig| {
        let report = rig.run(&Turn::from_calls([]));
        assert!(report.calls().is_empty());
        assert_eq!(report.wall(), Duration::ZERO);
        assert_eq!(rig.stats().blocking_threads, 0);
        assert!(rig.run(&repeat("quick", 1)).all_succeeded());
        assert_eq!(rig.stats().blocking_threads, 1);
    });
}

#[test]
fn fault_034_ten_thousand_calls_keep_their_order_and_their_cap() {
    let room = Room::default();
    let tool = Tool::new("echo", "", {
        let room = room.clone();
        move |args: Keyed| {
            let _inside = room.enter();
            thread::sleep(Duration::from_micros(20));
            Ok(args.key)
        }
    });
    let case = Case::new(ToolSet::new().with(tool)).parallel(8).set(|b| b.max_calls(10_000));
    case.check(|rig| {
        let asked = (0..10_000).map(|n| ("echo", format!(r#"{{"key":"{n}"}}"#)));
        let report = rig.run(&turn(asked));
        for (n, result) in report.results().enumerate() {
            assert_eq!(result.content.to_text(), n.to_string());
        }
        assert!(rig.stats().blocking_threads <= 8, "{:?}", rig.stats());
    });
    assert!((2..=8).contains(&room.most()), "{}", room.most());
}

#[test]
fn fault_035_caps_of_executor_group_and_tool_hold_together() {
    #[derive(Deserialize, JsonSchema)]
    struct Act {
        act: String,
    }
    let (all, in_group, of_tool) = (Room::default(), Room::default(), Room::default());
    let group = Group::new("backend").max_parallel(2);
    let tool = |name: &str, rooms: Vec<Room>| {
        Tool::new(name, "", move |args: Act| {
            let _inside: Vec<_> = rooms.iter().map(Room::enter).collect();
            match args.act.as_str() {
                "panics" => panic!("as asked"),
                "fails" => return Err("as asked".into()),
                "is late" => thread::sleep(ms(60)),
                _ => thread::sleep(ms(2)),
            }
            Ok(())
        })
    };
    let tools = |timeout| {
        ToolSet::new()
            .with(
                tool("one", vec![all.clone(), in_group.clone(), of_tool.clone()])
                    .max_parallel(1)
                    .group(&group)
                    .timeout(timeout),
            )
            .with(tool("two", vec![all.clone(), in_group.clone()]).group(&group).timeout(timeout))
            .with(tool("any", vec![all.clone()]).timeout(timeout))
    };
    let calls = |acts: &[&str], n: usize| {
        turn((0..n).map(|n| {
            let act = acts[n % acts.len()];
            (["one", "two", "any"][n % 3], format!(r#"{{"act":"{act}"}}"#))
        }))
    };
    Case::new(tools(Duration::from_secs(20))).parallel(4).check(|rig| {
        let report = rig.run(&calls(&["works", "panics", "fails", "works", "works"], 60));
        let succeeded = names(&report).iter().filter(|name| **name == "succeeded").count();
        assert_eq!(succeeded, 36);
    });
    assert!((2..=4).contains(&all.most()), "{}", all.most());
    // Now with calls that are walked away from: those hold their tool's and their group's permits,
    // but not the executor's.
    Case::new(tools(ms(20))).parallel(4).check(|rig| {
        let report = rig.run(&calls(&["is late", "works", "panics", "works"], 24));
        assert!(names(&report).contains(&"timed_out"), "{:?}", names(&report));
        let hangup = CancelToken::new();
        let calls = calls(&["works", "is late"], 200);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(ms(50));
                hangup.cancel();
            });
            let report = rig.run_with(&calls, |run| run.cancel(&hangup));
            assert!(names(&report).contains(&"cancelled"), "{:?}", names(&report));
        });
    });
    assert_eq!((in_group.most(), of_tool.most()), (2, 1));
}

#[test]
fn fault_036_a_cap_of_zero_is_refused_when_the_executor_is_built() {
    let tools = || ToolSet::new().with(quick("quick"));
    let refused = [
        Executor::builder(tools()).max_parallel(0).build(),
        Executor::builder(tools()).blocking_threads(0).build(),
        Executor::builder(tools()).rayon_threads(0).build(),
        Executor::builder(tools()).max_calls(0).build(),
        Executor::builder(tools()).max_queued(0).build(),
        Executor::builder(tools()).max_abandoned(0).build(),
        Executor::new(ToolSet::new().with(quick("quick").max_parallel(0))),
        Executor::new(ToolSet::new().with(quick("quick").group(&Group::new("g").max_parallel(0)))),
    ];
    for built in refused {
        let error = built.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(" is 0"), "{error}");
    }
}

#[test]
fn a_priority_that_no_tool_can_have_is_refused_when_the_executor_is_built() {
    let with = |nice| Executor::builder(ToolSet::new().with(quick("quick"))).tool_priority(nice);
    for nice in [i32::MIN, -5, 0, 20] {
        let error = with(nice).build().unwrap_err();
        assert_eq!(error.to_string(), format!("tool_priority is {nice}, not from 1 to 19"));
    }
    assert!(with(1).build().is_ok() && with(19).build().is_ok());
}

#[test]
fn fault_037_reads_of_a_key_share_it_and_a_write_has_it_alone() {
    let met = Arc::new(Barrier::new(3));
    let meets = Tool::new("meets", "", move |_: Keyed| {
        met.wait();
        Ok(())
    })
    .reads(|args: &Keyed| args.key.clone());
    let uses = Uses::default();
    let tools =
        ToolSet::new().with(meets).with(uses.tool("read", false)).with(uses.tool("write", true));
    Case::new(tools).check(|rig| {
        // Each waits for the two others.
        assert!(rig.run(&turn((0..3).map(|_| ("meets", r#"{"key":"a"}"#)))).all_succeeded());
        let asked = (0..40).map(|n| {
            let name = if n % 3 == 0 { "write" } else { "read" };
            (name, format!(r#"{{"key":"{}","ms":{}}}"#, n % 2, n % 4))
        });
        assert!(rig.run(&turn(asked)).all_succeeded());
    });
    assert_eq!(uses.check().len(), 40);
}

#[test]
fn fault_038_keys_in_opposite_order_do_not_deadlock() {
    let room = Room::default();
    let tool = |name: &str| {
        let room = room.clone();
        Tool::new(name, "", move |_: Keys| {
            let _inside = room.enter();
            thread::yield_now();
            Ok(())
        })
        .writes(|args| args.keys.clone())
    };
    Case::new(ToolSet::new().with(tool("both"))).check(|rig| {
        let orders = [r#"{"keys":["a","b"]}"#, r#"{"keys":["b","a"]}"#];
        thread::scope(|scope| {
            for n in 0..4 {
                let asked = turn((0..40).map(move |i| ("both", orders[(n + i) % 2])));
                scope.spawn(move || assert!(rig.run(&asked).all_succeeded()));
            }
        });
    });
    assert_eq!(room.most(), 1);
}

#[test]
fn fault_039_a_stream_of_readers_does_not_starve_a_writer() {
    let reads = Arc::new(AtomicUsize::new(0));
    let tools = ToolSet::new()
        .with(
            Tool::new("read", "", {
                let reads = Arc::clone(&reads);
                move |args: Keyed| {
                    thread::sleep(ms(args.ms));
                    reads.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            })
            .reads(|args: &Keyed| args.key.clone()),
        )
        .with(
            Tool::new("write", "", {
                let reads = Arc::clone(&reads);
                move |_: Keyed| Ok(reads.load(Ordering::Relaxed))
            })
            .writes(|args: &Keyed| args.key.clone()),
        );
    Case::new(tools).check(|rig| {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..6 {
                // While one turn of reads runs, another waits already.
                scope.spawn(|| {
                    let asked = turn((0..2).map(|_| ("read", r#"{"key":"k","ms":4}"#)));
                    while !over.load(Ordering::Relaxed) {
                        assert!(rig.run(&asked).all_succeeded());
                    }
                });
            }
            assert!(eventually(|| reads.load(Ordering::Relaxed) > 20));
            let before = reads.load(Ordering::Relaxed);
            let report = rig.run(&turn([("write", r#"{"key":"k"}"#)]));
            over.store(true, Ordering::Relaxed);
            let at: usize = told(&report, 0).parse().unwrap();
            // Those that ran or waited, and what was handed in while the write was.
            assert!(at - before < 200, "{} reads went before the write", at - before);
        });
    });
}

#[test]
fn fault_040_a_key_held_by_an_abandoned_writer_is_told_and_never_shared() {
    let gate = Gate::default();
    let uses = Uses::default();
    let hangs = {
        let (gate, uses) = (gate.clone(), uses.clone());
        Tool::new("hangs", "", move |args: Keyed| {
            let from = Instant::now();
            gate.wait();
            uses.0.lock().push(Use { key: args.key, writes: true, from, to: Instant::now() });
            Ok(())
        })
        .writes(|args: &Keyed| args.key.clone())
        .timeout(ms(400))
    };
    let tools = ToolSet::new().with(hangs).with(uses.tool("write", true).timeout(ms(900)));
    Case::gated(tools, &gate).check(|rig| {
        let asked = [("hangs", r#"{"key":"k"}"#), ("write", r#"{"key":"k"}"#)];
        let report = rig.run(&turn(asked));
        assert_eq!(names(&report), ["timed_out", "key_held"]);
        let held =
            |index| Outcome::NotStarted(NotStarted::KeyHeld { index, tool: "hangs".to_owned() });
        assert_eq!(report[1].outcome, held(Some(0)));
        assert!(told(&report, 1).contains("hangs"), "{}", told(&report, 1));
        // One wait after the other, and each may be late.
        assert!(report.wall() < ms(1300) + slack() * 2, "{:?}", report.wall());
        // By a later turn, too, which may use another key.
        let report = rig.run(&turn([("write", r#"{"key":"k"}"#), ("write", r#"{"key":"other"}"#)]));
        assert_eq!(report[0].outcome, held(None));
        assert!(report[1].outcome.is_success());
        gate.open();
        assert!(eventually(|| rig.stats().abandoned == 0));
        assert!(rig.run(&turn([("write", r#"{"key":"k"}"#)])).all_succeeded());
    });
    assert_eq!(uses.check().len(), 3);
}

#[test]
fn fault_041_a_call_that_waits_for_a_key_holds_up_only_that_key() {
    let (uses, others) = (Uses::default(), Arc::new(AtomicUsize::new(0)));
    let counts = |name: &str| {
        let others = Arc::clone(&others);
        Tool::new(name, "", move |_: Keyed| Ok(others.fetch_add(1, Ordering::SeqCst)))
    };
    let first = {
        let (uses, others) = (uses.clone(), Arc::clone(&others));
        Tool::new("first", "", move |args: Keyed| {
            let from = Instant::now();
            let both = eventually(|| others.load(Ordering::SeqCst) == 2);
            uses.0.lock().push(Use { key: args.key, writes: true, from, to: Instant::now() });
            Ok(both)
        })
    };
    let tools = ToolSet::new()
        .with(first.writes(|args| args.key.clone()))
        .with(uses.tool("write", true))
        .with(counts("other").writes(|args| args.key.clone()))
        .with(counts("quick"));
    Case::new(tools).parallel(2).check(|rig| {
        let report = rig.run(&turn([
            ("first", r#"{"key":"a"}"#),
            ("write", r#"{"key":"a","ms":1}"#),
            ("write", r#"{"key":"a","ms":2}"#),
            ("other", r#"{"key":"b"}"#),
            ("quick", "{}"),
        ]));
        assert!(report.all_succeeded());
        assert_eq!(told(&report, 0), "true", "the others ran while it held its key");
        let began: Vec<_> = (0..3).map(|n| report[n].started).collect();
        assert!(began.is_sorted(), "{began:?}");
    });
    uses.check();
}

#[test]
fn fault_042_a_nested_call_shares_its_parents_read_and_is_refused_its_write() {
    let uses = Uses::default();
    let child = |name: &'static str| {
        move |_: Keyed, cx: &CallContext| {
            let report = cx.run(&turn([(name, r#"{"key":"k"}"#)]));
            Ok(report[0].outcome.name())
        }
    };
    let tools = ToolSet::new()
        .with(uses.tool("read", false))
        .with(uses.tool("write", true))
        .with(Tool::new("write_in_write", "", child("write")).writes(|a: &Keyed| a.key.clone()))
        .with(Tool::new("read_in_write", "", child("read")).writes(|a: &Keyed| a.key.clone()))
        .with(Tool::new("write_in_read", "", child("write")).reads(|a: &Keyed| a.key.clone()))
        .with(Tool::new("read_in_read", "", child("read")).reads(|a: &Keyed| a.key.clone()));
    Case::new(tools).check(|rig| {
        let inner = |name| {
            let began = Instant::now();
            let report = rig.run(&turn([(name, r#"{"key":"k"}"#)]));
            assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
            told(&report, 0)
        };
        assert_eq!(inner("write_in_write"), "would_deadlock");
        assert_eq!(inner("read_in_write"), "would_deadlock");
        assert_eq!(inner("write_in_read"), "would_deadlock");
        assert_eq!(inner("read_in_read"), "succeeded");
        // A writer that waits doesn't come between a parent's read and its child's.
        let report =
            rig.run(&turn([("read_in_read", r#"{"key":"k"}"#), ("write", r#"{"key":"k"}"#)]));
        assert!(report.all_succeeded());
        assert_eq!(told(&report, 0), "succeeded");
    });
}

#[test]
fn fault_043_a_turn_of_one_call_is_not_behind_a_turn_of_ten_thousand() {
    let tools = ToolSet::new().with(naps("nap"));
    let case = Case::new(tools).parallel(4).set(|b| b.max_calls(10_000));
    case.check(|rig| {
        thread::scope(|scope| {
            let long = scope.spawn(|| {
                let calls = turn((0..10_000).map(|_| ("nap", r#"{"ms":1}"#)));
                rig.run_with(&calls, |run| run)
            });
            assert!(eventually(|| rig.stats().queued > 1000));
            for n in 0..10 {
                let report = rig.run_within(
                    &turn([("nap", format!(r#"{{"ms":{n}}}"#))]),
                    Duration::from_secs(10),
                    |run| run,
                );
                assert_eq!(told(&report, 0), n.to_string());
                assert!(report[0].queue_wait() < slack(), "{:?}", report[0].queue_wait());
            }
            assert!(!long.is_finished(), "the long turn should have taken longer");
            let report = long.join().unwrap();
            assert!(report.all_succeeded());
            assert!(report.results().all(|result| result.content.to_text() == "1"));
        });
    });
}

/// Turns from many threads at once, each call of which echoes who asked. `TOOLPOOL_STRESS_BATCHES`
/// says how many turns there are in all; 1 280 where it isn't set.
#[test]
fn fault_044_many_threads_run_turns_and_nothing_is_lost_doubled_or_misplaced() {
    let turns = std::env::var("TOOLPOOL_STRESS_BATCHES").ok().and_then(|n| n.parse().ok());
    let turns: usize = turns.unwrap_or(1280);
    let began = Instant::now();
    let calls: usize =
        (0..turns.div_ceil(10_000)).map(|part| stress(10_000.min(turns - part * 10_000))).sum();
    println!(
        "figure: {turns} turns of {calls} calls from {THREADS} threads: {:?}",
        began.elapsed()
    );
}

const THREADS: usize = 64;

/// Returns how many calls there were.
fn stress(batches: usize) -> usize {
    let runs: Arc<Vec<AtomicUsize>> = Arc::new((0..batches * 8).map(|_| 0.into()).collect());
    let echo = |name: &str| {
        let runs = Arc::clone(&runs);
        Tool::new(name, "", move |args: Keyed| {
            let number: usize = args.key.parse().unwrap_or(usize::MAX);
            runs[number].fetch_add(1, Ordering::Relaxed);
            if number.is_multiple_of(17) {
                panic!("{number}");
            }
            if number.is_multiple_of(13) {
                return Err(args.key.into());
            }
            Ok(args.key)
        })
    };
    let tools = ToolSet::new()
        .with(echo("plain"))
        .with(echo("computes").compute())
        .with(echo("writes").writes(|args| args.key.len().to_string()))
        .with(echo("capped").max_parallel(3));
    Case::new(tools).deadline(Duration::from_secs(110)).check(|rig| {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let batch = next.fetch_add(1, Ordering::Relaxed);
                        if batch >= batches {
                            return;
                        }
                        let size = 1 + batch % 8;
                        let report = rig.run(&turn((0..size).map(|n| {
                            let name = ["plain", "computes", "writes", "capped"][(batch + n) % 4];
                            (name, format!(r#"{{"key":"{}"}}"#, batch * 8 + n))
                        })));
                        for (n, call) in report.calls().iter().enumerate() {
                            let number = batch * 8 + n;
                            let is = match &call.outcome {
                                Outcome::Succeeded(output) => output.to_text(),
                                Outcome::Failed(error) => error.model_text().to_owned(),
                                Outcome::Panicked(Some(text)) => text.clone(),
                                other => panic!("{number}: {other:?}"),
                            };
                            assert_eq!(is, number.to_string());
                        }
                    }
                });
            }
        });
    });
    for (number, runs) in runs.iter().enumerate() {
        let expected = usize::from(number % 8 < 1 + number / 8 % 8);
        assert_eq!(runs.load(Ordering::Relaxed), expected, "call {number}");
    }
    runs.iter().filter(|runs| runs.load(Ordering::Relaxed) > 0).count()
}

#[test]
fn fault_045_quick_calls_do_not_wait_for_slow_ones() {
    Case::new(ToolSet::new().with(naps("nap"))).check(|rig| {
        let spans = [1500, 1, 800, 2, 400, 3, 1000, 5];
        let report =
            rig.run(&turn(spans.iter().map(|span| ("nap", format!(r#"{{"ms":{span}}}"#)))));
        for (call, span) in report.calls().iter().zip(spans) {
            let late = call.ended.saturating_sub(ms(span));
            assert!(late < slack(), "{span} ms ended after {:?}", call.ended);
        }
        assert!(report.wall() < ms(1500) + slack());
    });
}

#[test]
fn fault_047_a_thread_that_gives_up_waiting_leaves_no_call_behind() {
    let case = Case::new(ToolSet::new().with(quick("quick"))).set(|b| b.keep_alive(ms(3)));
    case.check(|rig| {
        // New turns come just when idle threads are about to leave.
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                scope.spawn(move || {
                    for n in 0..100 {
                        let report = rig.run(&repeat("quick", 1 + n % 3));
                        assert!(report.all_succeeded(), "{:?}", names(&report));
                        let wait = 2_500 + (thread * 977 + n as u64 * 131) % 1_000;
                        thread::sleep(Duration::from_micros(wait));
                    }
                });
            }
        });
        assert!(eventually(|| rig.stats().blocking_threads == 0), "{:?}", rig.stats());
        assert!(rig.run(&repeat("quick", 1)).all_succeeded());
    });
}

#[test]
fn fault_048_hung_compute_tools_are_replaced_by_a_new_pool() {
    let gate = Gate::default();
    let tools = ToolSet::new()
        .with(stuck("hangs", &gate).compute().timeout(ms(50)))
        .with(Tool::new("where", "", || Ok(rayon::current_num_threads())).compute());
    Case::gated(tools, &gate).set(|b| b.rayon_threads(2)).check(|rig| {
        let report = rig.run(&turn([("hangs", ""), ("hangs", ""), ("where", "")]));
        assert_eq!(names(&report), ["timed_out", "timed_out", "succeeded"]);
        assert_eq!(told(&report, 2), "2");
        assert_eq!(rig.stats().abandoned, 2);
        assert!(rig.run(&repeat("where", 8)).all_succeeded());
    });
}

#[test]
fn fault_048_a_worker_that_gave_back_its_permit_is_free() {
    let on = Tool::new("on", "", || Ok(thread::current().name().map(str::to_owned)));
    let nests = Tool::new("nests", "", |(): (), cx: &CallContext| {
        Ok(cx.run(&repeat("on", 2))[1].content().to_text())
    });
    let tools = ToolSet::new().with(on.compute()).with(nests.compute());
    Case::new(tools).set(|b| b.rayon_threads(1)).check(|rig| {
        for _ in 0..2000 {
            assert_eq!(told(&rig.run(&repeat("on", 1)), 0), "toolpool-compute-0-0");
        }
        // While a worker waits for a nested turn, another pool takes its calls.
        for _ in 0..100 {
            for name in ["nests", "on"] {
                let on = told(&rig.run(&repeat(name, 1)), 0);
                assert!(matches!(&*on, "toolpool-compute-0-0" | "toolpool-compute-1-0"), "{on}");
            }
        }
    });
}

#[test]
fn fault_050_odd_long_and_many_keys_cost_no_time() {
    let tools = ToolSet::new().with(
        Tool::new("touch", "", |args: Keys| Ok(args.keys.len()))
            .writes(|args: &Keys| args.keys.clone()),
    );
    let tools = tools.with(
        Tool::new("touch_many", "", |args: Keyed| Ok(args.ms))
            .writes(|args: &Keyed| (0..args.ms).map(|n| n.to_string()).collect::<Vec<_>>()),
    );
    let tools = tools.with(
        Tool::new("touch_long", "", |args: Keyed| Ok(args.ms))
            .writes(|args: &Keyed| "k".repeat(args.ms as usize)),
    );
    Case::new(tools).check(|rig| {
        let began = Instant::now();
        let report = rig.run(&turn([
            ("touch", r#"{"keys":[]}"#.to_owned()),
            ("touch", r#"{"keys":[""]}"#.to_owned()),
            ("touch", r#"{"keys":["a\u0000b","a","a","\u202e"]}"#.to_owned()),
            ("touch_long", format!(r#"{{"ms":{}}}"#, 1 << 20)),
            ("touch_long", format!(r#"{{"ms":{}}}"#, (1 << 20) + 1)),
            ("touch_many", r#"{"ms":10000}"#.to_owned()),
            ("touch_many", r#"{"ms":10000}"#.to_owned()),
            ("touch_many", r#"{"ms":10001}"#.to_owned()),
        ]));
        let too_much = "bad_arguments";
        let fine = "succeeded";
        assert_eq!(
            names(&report),
            [fine, fine, fine, fine, too_much, fine, fine, too_much],
            "{report:?}"
        );
        let took = began.elapsed();
        println!("figure: {took:?} for odd, long and many keys");
        let most = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
        assert!(took < most + slack(), "{took:?}");
    });
}
