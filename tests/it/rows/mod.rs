//! Batch work: limits, budgets, the journal, and what a crash leaves.

mod clerk;
mod killed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use toolpool::agent::{Agent, AgentBuilder, End, ParallelPolicy};
use toolpool::model::{Model, ModelError, ModelErrorKind, Request, ScriptedModel};
use toolpool::rows::{Row, RowResult, Rows, RowsReport, Stopped, UnknownOutcome};
use toolpool::{
    Approval, CancelToken, Executor, FailurePolicy, Tool, ToolCall, ToolError, ToolErrorKind,
    ToolSet, Turn, Wire,
};

use self::clerk::Book;
use crate::faults::harness::eventually;

/// A folder that is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("toolpool-rows-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn journal(&self) -> PathBuf {
        self.0.join("journal.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn body(text: &str) -> Turn {
    let body = serde_json::json!({
        "choices": [{ "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 80, "completion_tokens": 20 },
    });
    Wire::OpenAi.parse(&body).unwrap()
}

/// A model of a function of the user's last words and the number of the request.
struct Simple<F>(F, AtomicU64);

fn simple<F>(answer: F) -> Simple<F>
where
    F: Fn(u64, &str) -> Result<Turn, ModelError> + Send + Sync,
{
    Simple(answer, AtomicU64::default())
}

impl<F> Model for Simple<F>
where
    F: Fn(u64, &str) -> Result<Turn, ModelError> + Send + Sync,
{
    fn name(&self) -> &str {
        "simple"
    }

    fn wire(&self) -> Wire {
        Wire::OpenAi
    }

    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
        let last = request.prompt.messages.last().unwrap().to_value().unwrap();
        let number = self.1.fetch_add(1, Ordering::SeqCst);
        (self.0)(number, last["content"].as_str().unwrap_or_default())
    }
}

fn agent(model: impl Model + 'static) -> Agent {
    Agent::builder(model, ToolSet::new()).build().unwrap()
}

fn rows(n: u64) -> impl Iterator<Item = Row> {
    (0..n).map(|n| Row::new(n, format!("row {n}")))
}

/// Runs and collects; every row is told once.
fn run(rows: Rows, all: impl IntoIterator<Item = Row>) -> (RowsReport, Vec<RowResult>) {
    let mut told = Vec::new();
    let report = rows.run(all, |result| told.push(result.clone())).unwrap();
    assert_eq!(report.done + report.failed, told.len() as u64);
    told.sort_by_key(|result| (result.key.len(), result.key.clone()));
    (report, told)
}

#[test]
fn many_rows_are_worked_on_at_once_and_each_is_told_once() {
    let running = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let agent = agent(simple(move |_, asked| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(ms(2));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(body(&asked.to_uppercase()))
    }));
    let all = rows(100).chain([Row::new(7, "row 7 again")]);
    let (report, told) = run(Rows::builder(&agent).threads(4).build().unwrap(), all);
    assert_eq!((report.done, report.failed, report.unfinished), (100, 1, 0));
    assert_eq!((report.usage.input_tokens, report.stats.turns), (8000, 100));
    assert!(most.load(Ordering::SeqCst) <= 4);
    let answers = told.iter().filter_map(RowResult::answer).collect::<Vec<_>>();
    assert_eq!((answers.len(), answers[41]), (100, "ROW 41"));
    let twice = told.iter().find(|result| !result.is_done()).unwrap();
    assert_eq!(twice.end, Err("an earlier row has the same key".to_owned()));
}

#[test]
fn rows_that_come_slowly_are_told_while_others_are_still_to_come() {
    let agent = agent(simple(|_, _| Ok(body("ok"))));
    let told = AtomicU32::new(0);
    let all = rows(4).inspect(|row| {
        std::thread::sleep(ms(200));
        let n: u32 = row.key.parse().unwrap();
        assert!(told.load(Ordering::SeqCst) + 1 >= n, "before row {n}");
    });
    let rows = Rows::builder(&agent).build().unwrap();
    let tell = |_: &RowResult| {
        told.fetch_add(1, Ordering::SeqCst);
    };
    rows.run(all, tell).unwrap();
    assert_eq!(told.into_inner(), 4);
}

#[test]
fn rows_have_a_thousand_threads_at_most() {
    let agent = agent(simple(|_, _| Ok(body("ok"))));
    let rows_of_all = Rows::builder(&agent).threads(usize::MAX).build().unwrap();
    assert!(format!("{rows_of_all:?}").contains("threads: 1000"), "{rows_of_all:?}");
    assert_eq!(run(rows_of_all, rows(5)).0.done, 5);
}

#[test]
fn when_the_provider_asks_one_row_to_slow_down_all_wait() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let agent = agent(simple(move |number, _| {
        seen.lock().push(Instant::now());
        match number {
            0 => Err(ModelError::new(ModelErrorKind::RateLimited, "simple", "slow down")
                .with_retry_after(ms(1500))),
            _ => {
                std::thread::sleep(ms(5));
                Ok(body("ok"))
            }
        }
    }));
    // One thread begins; the others come while it is told to wait.
    let all = rows(8).inspect(|row| {
        if row.key == "1" {
            assert!(eventually(|| times.lock().len() == 1));
            std::thread::sleep(ms(500));
        }
    });
    let (report, _) = run(Rows::builder(&agent).threads(8).build().unwrap(), all);
    assert_eq!((report.done, report.failed), (8, 0));
    let times = times.lock();
    assert_eq!(times.len(), 9);
    for time in &times[1..] {
        assert!(time.duration_since(times[0]) >= ms(1500), "{:?}", time.duration_since(times[0]));
    }
}

#[test]
fn a_provider_that_is_never_satisfied_fails_the_row() {
    let agent = agent(simple(|_, _| {
        let error = ModelError::new(ModelErrorKind::RateLimited, "simple", "no");
        Err(error.with_retry_after(ms(1)))
    }));
    let builder = Rows::builder(&agent).threads(1).rate_limit_retries(2);
    let (report, told) = run(builder.build().unwrap(), rows(1));
    assert_eq!((report.failed, report.stats.turns), (1, 0));
    assert!(told[0].end.as_ref().unwrap_err().contains("asks to slow down"));
}

#[test]
fn the_token_budget_leaves_rows_to_a_later_run() {
    let folder = Folder::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let agent = agent(simple(move |_, row| {
        seen.lock().push(row.to_owned());
        Ok(body("ok"))
    }));
    let builder = || Rows::builder(&agent).threads(1).journal(folder.journal());
    let (report, told) = run(builder().max_tokens(300).build().unwrap(), rows(10));
    assert_eq!((report.done, report.stopped), (3, Some(Stopped::Tokens)));
    assert_eq!(told.len(), 3);
    // What was taken before counts.
    let (report, _) = run(builder().max_tokens(300).build().unwrap(), rows(10));
    assert_eq!((report.done, report.resumed), (3, 3));
    assert_eq!((report.stopped, asked.lock().len()), (Some(Stopped::Tokens), 3));
    let (report, _) = run(builder().max_tokens(301).build().unwrap(), rows(4));
    assert_eq!((report.done, report.resumed, report.stopped), (4, 3, None));
    let (report, told) = run(builder().build().unwrap(), rows(10));
    assert_eq!((report.done, report.resumed, report.stopped), (10, 4, None));
    assert_eq!(told.iter().filter(|result| result.resumed).count(), 4);
    let mut asked = asked.lock().clone();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 10, "no row was asked twice");
}

#[test]
fn fault_078_one_failure_more_than_allowed_stops_the_run() {
    let agent = agent(simple(|number, _| match number % 2 {
        0 => Err(ModelError::new(ModelErrorKind::Configuration, "simple", "no")),
        _ => Ok(body("ok")),
    }));
    for allowed in [0, 3] {
        for threads in [1, 4] {
            let builder = Rows::builder(&agent).threads(threads).max_failures(allowed);
            let (report, told) = run(builder.build().unwrap(), rows(50));
            assert_eq!((report.stopped, report.failed), (Some(Stopped::Failures), allowed + 1));
            let failed = told.iter().filter(|result| !result.is_done()).count() as u64;
            assert_eq!(failed, allowed + 1);
        }
    }
}

#[test]
fn cancelling_leaves_what_has_begun_to_a_later_run() {
    let folder = Folder::new();
    let token = CancelToken::new();
    let from_within = token.clone();
    let agent = agent(simple(move |number, _| {
        if number == 4 {
            from_within.cancel();
            return Err(ModelError::new(ModelErrorKind::Cancelled, "simple", ""));
        }
        Ok(body("ok"))
    }));
    let builder = || Rows::builder(&agent).threads(1).journal(folder.journal());
    let (report, _) = run(builder().cancel(&token).build().unwrap(), rows(10));
    assert_eq!((report.done, report.failed, report.stopped), (4, 0, Some(Stopped::Cancelled)));
    let (report, _) = run(builder().build().unwrap(), rows(10));
    assert_eq!((report.done, report.resumed), (10, 4));
}

#[test]
fn failed_rows_stay_failed_unless_they_are_to_be_tried_again() {
    let folder = Folder::new();
    let agent = agent(simple(|number, _| match number {
        0 => Err(ModelError::new(ModelErrorKind::Overloaded, "simple", "busy")),
        _ => Ok(body("ok")),
    }));
    let builder = || Rows::builder(&agent).threads(1).journal(folder.journal());
    let (report, _) = run(builder().build().unwrap(), rows(2));
    assert_eq!((report.done, report.failed), (1, 1));
    let (report, told) = run(builder().build().unwrap(), rows(2));
    assert_eq!((report.done, report.failed, report.resumed), (1, 1, 2));
    assert!(told[0].end.as_ref().unwrap_err().contains("busy"));
    let (report, _) = run(builder().retry_failed().build().unwrap(), rows(2));
    assert_eq!((report.done, report.failed, report.resumed), (2, 0, 1));
}

#[test]
fn a_model_that_panics_fails_its_row_alone() {
    let agent = agent(simple(|number, _| match number {
        1 => panic!("on purpose"),
        _ => Ok(body("ok")),
    }));
    let (report, told) = run(Rows::builder(&agent).threads(1).build().unwrap(), rows(3));
    assert_eq!((report.done, report.failed), (2, 1));
    assert_eq!(told[1].end, Err("the model panicked".to_owned()));
}

#[test]
fn a_journal_is_for_one_process_one_prompt_one_model_and_one_set_of_tools() {
    let folder = Folder::new();
    let model = || simple(|_, _| Ok(body("ok")));
    let build = |agent: AgentBuilder| {
        Rows::builder(&agent.build().unwrap()).journal(folder.journal()).build()
    };
    let look = || Tool::new("look", "Looks", || Ok("seen"));
    let plain = || Agent::builder(model(), ToolSet::new().with(look()));
    let first = build(plain()).unwrap();
    let error = build(plain()).unwrap_err();
    assert!(error.is_io() && error.to_string().ends_with("is in use"), "{error}");
    drop(first);
    drop(build(plain()).unwrap());
    let gemini = || ScriptedModel::new(Wire::Gemini);
    for (other, part) in [
        (plain().system("Be brief."), "system prompt"),
        (plain().parallel(ParallelPolicy::Encourage), "policy for parallel calls"),
        (plain().ends_with("look"), "choice of tools that end a run"),
        (Agent::builder(model(), ToolSet::new()), "set of tools"),
        (Agent::builder(model(), ToolSet::new().with(look().read_only())), "set of tools"),
        (Agent::builder(gemini(), ToolSet::new().with(look())), "model"),
        (Agent::builder(gemini(), ToolSet::new()), "model and another set of tools"),
    ] {
        let error = build(other).unwrap_err();
        let says = format!("was begun with another {part}; finish it");
        assert!(error.is_config() && error.to_string().contains(&says), "{error}");
    }
    drop(build(plain()).unwrap());

    let agent = plain().build().unwrap();
    let builder = || Rows::builder(&agent).journal(folder.journal());
    let (report, _) = run(builder().build().unwrap(), [Row::new(1, "one")]);
    assert_eq!(report.done, 1);
    let (report, told) = run(builder().build().unwrap(), [Row::new(1, "another")]);
    assert_eq!(report.failed, 1);
    assert!(told[0].end.as_ref().unwrap_err().contains("another prompt"));
}

#[test]
fn a_torn_last_line_is_taken_off_and_any_other_damage_refused() {
    let folder = Folder::new();
    let agent = agent(simple(|_, _| Ok(body("ok"))));
    let builder = || Rows::builder(&agent).threads(1).journal(folder.journal());
    run(builder().build().unwrap(), rows(3));
    let whole = std::fs::read(folder.journal()).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    // Torn anywhere in the last line, and in the first one.
    for end in [0, 1, 10, last + 2, whole.len() - 1] {
        std::fs::write(folder.journal(), &whole[..end]).unwrap();
        let (report, _) = run(builder().build().unwrap(), rows(3));
        assert_eq!(report.done, 3, "cut at {end}");
        assert_eq!(report.resumed, if end > last { 2 } else { 0 }, "cut at {end}");
    }
    let mut damaged = whole.clone();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    damaged[second] = b'x';
    std::fs::write(folder.journal(), &damaged).unwrap();
    let error = builder().build().unwrap_err();
    assert!(error.is_input() && error.to_string().contains("line 2"), "{error}");
    let older = r#"{"journal":{"version":1,"id":"a","fingerprint":"b"}}"#;
    std::fs::write(folder.journal(), format!("{older}\n")).unwrap();
    let error = builder().build().unwrap_err();
    assert!(error.is_input() && error.to_string().ends_with("of version 1, this is 2"), "{error}");
    let periodical = r#"{"journal":"Nature","year":1999}"#;
    for other in ["a,b\n1,2\n", "one line", "{\"row\": 1}\n", "\n", periodical] {
        std::fs::write(folder.journal(), other).unwrap();
        let error = builder().build().unwrap_err();
        assert!(error.is_input() && error.to_string().ends_with("is no journal"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.journal()).unwrap(), other, "it is left alone");
    }
    let nowhere = Rows::builder(&agent).journal(folder.0.join("none").join("j")).build();
    assert!(nowhere.unwrap_err().is_io());
}

/// What the journal says of one row whose two bookings went well.
fn booked_once(folder: &Path) -> String {
    let agent = clerk::agent(&Book::new(folder), ms(0));
    let rows = Rows::builder(&agent).threads(1).journal(folder.join("journal.jsonl"));
    let (report, _) = run(rows.build().unwrap(), [Row::new("a", "a")]);
    assert_eq!((report.done, report.stats.turns), (1, 2));
    std::fs::read_to_string(folder.join("journal.jsonl")).unwrap()
}

#[test]
fn cut_after_any_line_a_row_goes_on_and_nothing_is_repeated_silently() {
    let first = Folder::new();
    let journal = booked_once(&first.0);
    let lines: Vec<&str> = journal.lines().collect();
    let kinds: Vec<_> = lines.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "intent").count(), 2);
    for kept in 1..=lines.len() {
        for took_effect in [false, true] {
            let folder = Folder::new();
            let book = Book::new(&folder.0);
            let text: String = lines[..kept].iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(folder.journal(), text).unwrap();
            let count = |kind: &str| kinds[..kept].iter().filter(|of| **of == kind).count();
            let open = count("intent") - count("result");
            if open == 0 && took_effect {
                continue;
            }
            // What had ended took effect for sure; what was open may have.
            let accounts = accounts(&lines[..kept]);
            for (account, ended) in &accounts {
                if *ended || took_effect {
                    book.append(account, "earlier");
                }
            }
            let agent = clerk::agent(&book, ms(0));
            let place = format!("{kept} lines, {open} open, {took_effect}");
            // The second run only reads what the first wrote down.
            for again in [false, true] {
                let rows = Rows::builder(&agent).threads(1).journal(folder.journal());
                let (report, told) = run(rows.build().unwrap(), [Row::new("a", "a")]);
                let is_resumed = again || kept == lines.len();
                let counts = (report.done, report.failed, report.resumed);
                assert_eq!(counts, (1, 0, u64::from(is_resumed)), "{place}");
                assert_eq!(told[0].unknown, vec!["book"; open], "{place}");
                assert_eq!(report.unknown, u64::from(open > 0), "{place}");
            }
            let mut booked = book.accounts();
            booked.sort();
            assert_eq!(booked, ["a/1", "a/2"], "{place}");
            let told = std::fs::read_to_string(folder.journal()).unwrap();
            let unknown = told.matches("outcome unknown: the program stopped").count();
            assert_eq!(unknown > 0, open > 0, "{place}: the model is told");
        }
    }
}

#[test]
fn a_run_that_stops_waits_for_no_rows_turn() {
    let start = Instant::now();
    let failing =
        simple(|_, _| Err(ModelError::new(ModelErrorKind::Configuration, "simple", "no")));
    let agent = agent(failing);
    let builder = || Rows::builder(&agent).threads(2).requests_per_minute(1).max_failures(0);
    let (report, _) = run(builder().build().unwrap(), rows(5));
    assert_eq!((report.stopped, report.failed), (Some(Stopped::Failures), 1));
    // A panic where rows are told comes out at once, too.
    let all = builder().max_failures(9).build().unwrap();
    let told = std::panic::AssertUnwindSafe(|| all.run(rows(5), |_| panic!("nobody listens")));
    assert!(std::panic::catch_unwind(told).is_err());
    assert!(start.elapsed() < ms(20_000), "{:?}", start.elapsed());
}

#[test]
fn a_row_whose_model_panics_is_written_down_with_its_tokens() {
    let folder = Folder::new();
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let model = simple(move |_, _| match counts.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(Turn::from_calls([ToolCall::new("c", "look", "{}")])),
        _ => panic!("a model that panics"),
    });
    let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")));
    let agent = Agent::builder(model, tools).build().unwrap();
    for resumed in [0, 1] {
        let rows = Rows::builder(&agent).journal(folder.journal()).build().unwrap();
        let (report, told) = run(rows, [Row::new("a", "a")]);
        assert_eq!((report.failed, report.resumed), (1, resumed));
        assert_eq!(told[0].end, Err("the model panicked".to_owned()));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "it isn't asked again");
    }
}

#[test]
fn a_message_of_several_lines_is_one_line_of_the_journal() {
    let folder = Folder::new();
    let pretty = serde_json::json!({
        "choices": [{ "finish_reason": "tool_calls", "message": {
            "role": "assistant",
            "content": "first\nsecond",
            "tool_calls": [{ "id": "c", "type": "function", "function": {
                "name": "look", "arguments": "{\n}"
            } }],
        } }],
    });
    let pretty = format!("{pretty:#}").replace('\n', "\r\n");
    let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")));
    let model = ScriptedModel::new(Wire::OpenAi).body(pretty).turn(body("fine"));
    let agent = Agent::builder(model, tools).build().unwrap();
    for resumed in [0, 1] {
        let rows = Rows::builder(&agent).journal(folder.journal()).build().unwrap();
        let (report, _) = run(rows, [Row::new("a", "a")]);
        assert_eq!((report.done, report.resumed), (1, resumed));
    }
    let journal = std::fs::read_to_string(folder.journal()).unwrap();
    for line in journal.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(journal.contains(r#""content": "first\nsecond""#), "{journal}");
}

#[test]
fn a_row_that_goes_on_names_the_container_of_its_code() {
    let folder = Folder::new();
    let of = |content: &str, stop: &str, more: &str| {
        let (role, stop) = (r#""role":"assistant""#, format!(r#""stop_reason":"{stop}""#));
        format!(r#"{{"type":"message",{role},"content":[{content}],{stop}{more}}}"#)
    };
    let container = r#","container":{"id":"container_1"}"#;
    let calls =
        of(r#"{"type":"tool_use","id":"c","name":"look","input":{}}"#, "tool_use", container);
    let runs = r#"{"type":"server_tool_use","id":"s","name":"code_execution","input":{}}"#;
    let pause = of(runs, "pause_turn", container);
    let answer = of(r#"{"type":"text","text":"fine"}"#, "end_turn", "");
    let done = |model: &ScriptedModel| {
        let tools = ToolSet::new().with(Tool::new("look", "Looks", || Ok("seen")));
        let agent = Agent::builder(model.clone(), tools).build().unwrap();
        let rows = Rows::builder(&agent).journal(folder.journal()).build().unwrap();
        run(rows, [Row::new("a", "a")]).0.done
    };
    for first in [calls, pause] {
        std::fs::remove_file(folder.journal()).unwrap_or_default();
        assert_eq!(done(&ScriptedModel::new(Wire::Anthropic).body(first).body(&*answer)), 1);
        let journal = std::fs::read_to_string(folder.journal()).unwrap();
        let lines: Vec<&str> = journal.split_inclusive('\n').collect();
        let answered = lines.iter().position(|line| line.starts_with(r#"{"answered""#)).unwrap();
        for kept in (answered..=answered + 1).filter(|kept| *kept > 1) {
            std::fs::write(folder.journal(), lines[..kept].concat()).unwrap();
            let model = ScriptedModel::new(Wire::Anthropic).body(&*answer);
            assert_eq!(done(&model), 1);
            let asked = model.asked()[0].body.as_str().to_owned();
            assert!(asked.contains(r#""container":"container_1""#), "{kept} lines: {asked}");
        }
    }
}

#[test]
fn a_row_that_goes_on_is_told_the_fallback_of_a_call_that_had_failed() {
    let folder = Folder::new();
    let calls = r#"{"choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",
        "tool_calls":[{"id":"c","type":"function","function":{"name":"pay","arguments":"{}"}}]}}]}"#;
    let told = |model: &ScriptedModel| {
        let pay = Tool::new("pay", "Pays", || Err::<(), _>("broken".into())).fallback("later");
        let agent = Agent::builder(model.clone(), ToolSet::new().with(pay)).build().unwrap();
        let rows = Rows::builder(&agent).journal(folder.journal()).build().unwrap();
        assert_eq!(run(rows, [Row::new("a", "a")]).0.done, 1);
        let asked = model.asked();
        asked.last().unwrap().messages.last().unwrap().as_str().to_owned()
    };
    let first = told(&ScriptedModel::new(Wire::OpenAi).body(calls).turn(body("fine")));
    assert!(first.contains("later") && !first.contains("broken"), "{first}");
    let journal = std::fs::read_to_string(folder.journal()).unwrap();
    let kept = journal.find(r#"{"answered""#).unwrap();
    assert!(journal[..kept].contains("broken"), "the call's own end is written down");
    std::fs::write(folder.journal(), &journal[..kept]).unwrap();
    assert_eq!(told(&ScriptedModel::new(Wire::OpenAi).turn(body("fine"))), first);
}

#[test]
fn a_row_whose_call_was_walked_away_from_says_so() {
    let folder = Folder::new();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let hang = Tool::new("pay", "Pays", move || {
        let _ = gate.lock().recv();
        Ok("paid")
    });
    let tools = ToolSet::new().with(hang.timeout(ms(30)).grace(ms(10)));
    let model = ScriptedModel::new(Wire::OpenAi)
        .body(
            r#"{"choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",
            "tool_calls":[{"id":"c","type":"function",
            "function":{"name":"pay","arguments":"{}"}}]}}]}"#,
        )
        .turn(body("fine"));
    let agent = Agent::builder(model, tools).build().unwrap();
    let rows = || Rows::builder(&agent).journal(folder.journal()).build();
    let (report, told) = run(rows().unwrap(), [Row::new("a", "a")]);
    assert_eq!((report.done, report.unknown), (1, 1));
    assert_eq!(told[0].unknown, ["pay"]);
    // It ends after all, which the journal is told; until then it has the journal.
    drop(release);
    let patience = Instant::now() + ms(20_000);
    let rows = loop {
        match rows() {
            Ok(rows) => break rows,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
        std::thread::sleep(ms(5));
    };
    let (report, told) = run(rows, [Row::new("a", "a")]);
    assert_eq!((report.done, report.resumed, report.unknown), (1, 1, 0));
    assert!(told[0].unknown.is_empty());
}

/// The accounts for which a booking had started, and whether it had ended.
fn accounts(lines: &[&str]) -> Vec<(String, bool)> {
    let mut accounts: Vec<(u64, bool)> = Vec::new();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let index = |of: &str| line[of]["index"].as_u64();
        if let Some(index) = index("intent") {
            accounts.push((index, false));
        }
        if let Some(index) = index("result") {
            accounts.iter_mut().filter(|(of, _)| *of == index).for_each(|(_, ended)| *ended = true);
        }
    }
    // The first call only looks.
    accounts.into_iter().map(|(index, ended)| (format!("a/{index}"), ended)).collect()
}

/// A journal as it was before the first result of a call came.
fn before_any_result(journal: &str) -> String {
    let until = journal.lines().position(|line| line.starts_with(r#"{"result""#)).unwrap();
    journal.lines().take(until).map(|line| format!("{line}\n")).collect()
}

#[test]
fn an_open_intent_fails_the_row_or_is_tried_again_with_the_same_key_if_so_chosen() {
    let first = Folder::new();
    let journal = booked_once(&first.0);
    let before: Vec<(String, String)> = Book::new(&first.0).entries();
    let cut = before_any_result(&journal);
    let goes_on = |folder: &Folder, unknown| {
        let book = Book::new(&folder.0);
        let agent = clerk::agent(&book, ms(0));
        let rows = Rows::builder(&agent).journal(folder.journal()).unknown_outcome(unknown);
        let (_, mut told) = run(rows.retry_failed().build().unwrap(), [Row::new("a", "a")]);
        (told.remove(0), book.entries())
    };
    let begun_anew = || {
        let folder = Folder::new();
        std::fs::write(folder.journal(), &cut).unwrap();
        folder
    };
    let resumed = |unknown| goes_on(&begun_anew(), unknown);
    let (result, entries) = resumed(UnknownOutcome::Fail);
    assert!(result.end.unwrap_err().ends_with("its outcome is unknown"));
    let begun = cut.matches(r#"{"intent""#).count();
    assert_eq!(result.unknown, vec!["book"; begun]);
    assert!(entries.is_empty(), "nothing else of the turn runs");
    // Somebody has looked.
    for unknown in [UnknownOutcome::Tell, UnknownOutcome::Retry] {
        let folder = begun_anew();
        assert!(goes_on(&folder, UnknownOutcome::Fail).0.end.is_err());
        assert!(goes_on(&folder, UnknownOutcome::Fail).0.end.is_err(), "it fails again");
        let (result, _) = goes_on(&folder, unknown);
        assert!(result.is_done(), "{:?}", result.end);
        assert_eq!(result.unknown.is_empty(), unknown == UnknownOutcome::Retry);
    }
    let (result, mut entries) = resumed(UnknownOutcome::Retry);
    assert!(matches!(result.end, Ok(End::Answer(_))));
    assert!(result.unknown.is_empty(), "{:?}", result.unknown);
    let mut before = before;
    before.sort();
    entries.sort();
    assert_eq!(entries, before, "the same accounts with the same keys");
}

/// A model that calls `stock` and `pay`, and answers with what it was told of the last.
fn pays() -> impl Model + 'static {
    simple(|_, last| {
        if last != "go" && !last.starts_with("row") {
            return Ok(body(last));
        }
        let calls = ["stock", "pay"].map(|name| {
            serde_json::json!({ "id": name, "type": "function",
                "function": { "name": name, "arguments": "{}" } })
        });
        let message = serde_json::json!({ "role": "assistant", "tool_calls": calls });
        let choice = serde_json::json!({ "finish_reason": "tool_calls", "message": message });
        let body = serde_json::json!({ "choices": [choice] }).to_string();
        Ok(Wire::OpenAi.parse(&body).unwrap())
    })
}

#[test]
fn a_payment_that_had_begun_and_does_not_start_again_was_not_not_run() {
    let folder = Folder::new();
    let build = |stock: bool| {
        let stock = Tool::new("stock", "", move || match stock {
            true => Ok(7),
            false => Err(ToolError::of_kind(ToolErrorKind::NotFound)),
        });
        let tools =
            ToolSet::new().with(stock.read_only()).with(Tool::new("pay", "", || Ok("paid")));
        let executor = Executor::builder(tools).max_parallel(1).build().unwrap();
        let agent = Agent::builder(pays(), &executor).policy(FailurePolicy::abort_on_first());
        let agent = agent.build().unwrap();
        Rows::builder(&agent)
            .journal(folder.journal())
            .unknown_outcome(UnknownOutcome::Retry)
            .build()
            .unwrap()
    };
    run(build(true), [Row::new("a", "go")]);
    // Killed after the backend took the payment.
    let whole = std::fs::read_to_string(folder.journal()).unwrap();
    let cut = before_any_result(&whole);
    assert!(cut.contains(r#"{"intent""#), "{cut}");
    std::fs::write(folder.journal(), cut).unwrap();
    let (_, told) = run(build(false), [Row::new("a", "go")]);
    let Ok(End::Answer(answer)) = &told[0].end else { panic!("{:?}", told[0].end) };
    assert!(answer.contains("outcome unknown: the program stopped while pay ran"), "{answer}");
}

#[test]
fn a_row_with_a_deferred_call_fails_and_approval_is_asked_for_again_when_it_is_retried() {
    let folder = Folder::new();
    let looked = Arc::new(AtomicU32::new(0));
    let build = |decision: Approval| {
        let looked = Arc::clone(&looked);
        let stock = Tool::new("stock", "", move || Ok(looked.fetch_add(1, Ordering::SeqCst)));
        let pay = Tool::new("pay", "", || Ok("paid")).needs_approval();
        let agent = Agent::builder(pays(), ToolSet::new().with(stock).with(pay))
            .approval(move |requests| requests.iter().map(|_| decision.clone()).collect());
        Rows::builder(&agent.build().unwrap()).journal(folder.journal()).retry_failed()
    };
    let (_, told) = run(build(Approval::Defer).build().unwrap(), rows(1));
    assert_eq!(told[0].end, Err("a call waits for a decision".to_owned()));
    let (_, told) = run(build(Approval::Allow).build().unwrap(), rows(1));
    assert_eq!(told[0].answer(), Some("paid"));
    assert_eq!(looked.load(Ordering::SeqCst), 1, "what had run isn't run again");
}

#[test]
fn a_shutdown_of_the_executor_leaves_rows_to_a_later_run() {
    let folder = Folder::new();
    let build = |executor: &Executor| {
        let agent = Agent::builder(pays(), executor).build().unwrap();
        Rows::builder(&agent).threads(1).journal(folder.journal()).build().unwrap()
    };
    let tools = || {
        let stock = Tool::new("stock", "", || Ok(7)).read_only();
        ToolSet::new().with(stock).with(Tool::new("pay", "", || Ok("paid")))
    };
    let executor = Executor::new(tools()).unwrap();
    executor.shutdown(ms(0));
    let (report, told) = run(build(&executor), rows(3));
    assert_eq!((report.done, report.stopped, told.len()), (0, Some(Stopped::Cancelled), 0));
    let (report, told) = run(build(&Executor::new(tools()).unwrap()), rows(3));
    assert_eq!((report.done, report.stopped), (3, None), "{told:?}");
}

#[test]
fn what_a_journal_says_twice_counts_once_and_two_in_one_file_are_refused() {
    let (folder, other) = (Folder::new(), Folder::new());
    let agent = agent(simple(|_, _| Ok(body("ok"))));
    let rows_in =
        |folder: &Folder| Rows::builder(&agent).threads(1).journal(folder.journal()).build();
    run(rows_in(&folder).unwrap(), rows(2));
    run(rows_in(&other).unwrap(), rows(2));
    let read = |folder: &Folder| std::fs::read_to_string(folder.journal()).unwrap();
    let (one, two) = (read(&folder), read(&other));
    std::fs::write(folder.journal(), one.repeat(2)).unwrap();
    let (report, _) = run(rows_in(&folder).unwrap(), rows(3));
    assert_eq!((report.resumed, report.done), (2, 3));
    std::fs::write(folder.journal(), one + &two).unwrap();
    let error = rows_in(&folder).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("begins another one"), "{error}");
}
