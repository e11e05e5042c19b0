//! A turn, an agent and a model's client on the workers of somebody else: of an async runtime, as a
//! task and as blocking work, and of a rayon pool.

use toolpool::agent::Agent;
use toolpool::model::ScriptedModel;
use toolpool::{Executor, Tool, ToolCall, ToolSet, Turn, Wire};

fn tools() -> ToolSet {
    let look = Tool::new("look", "", || Ok("seen")).read_only();
    let nested = Tool::new("nested", "", |(): (), cx: &toolpool::CallContext| {
        Ok(cx.run(&Turn::from_calls([ToolCall::new("", "look", "")])).all_succeeded())
    });
    let computes = Tool::new("computes", "", || Ok(rayon::join(|| 1, || 2))).compute();
    ToolSet::new().with(look).with(nested).with(computes)
}

fn turn() -> Turn {
    Turn::from_calls(["look", "nested", "computes"].map(|name| ToolCall::new("", name, "")))
}

/// A whole run of each kind, on the thread that calls it.
fn everything() {
    let executor = Executor::builder(tools()).max_parallel(1).build().unwrap();
    let report = executor.run(&turn());
    assert!(report.all_succeeded(), "{report:?}");
    let mut batch = executor.begin();
    turn().calls().iter().for_each(|call| batch.push(call.clone()));
    assert!(batch.finish(&turn()).all_succeeded());

    let said = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let model = ScriptedModel::new(Wire::OpenAi).turn(turn()).body(said);
    let agent = Agent::builder(model, &executor).build().unwrap();
    assert_eq!(agent.ask("hello").unwrap(), "hi");
    #[cfg(feature = "http")]
    over_the_wire();
    assert!(executor.shutdown(std::time::Duration::from_secs(20)));
}

/// An agent whose model is a client of a server on loopback.
#[cfg(feature = "http")]
fn over_the_wire() {
    use crate::model::replay::{Answer, Replay};
    use crate::model::{SAID_HI, client_of, ms};

    let calls = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"look","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let said = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let answers = [calls, said].map(|body| Answer::stream([(ms(0), body)]));
    let server = Replay::new(answers);
    let client = client_of(&server).build().unwrap();
    let agent = Agent::builder(client, tools()).build().unwrap();
    assert_eq!(agent.ask("hello").unwrap(), "hi");
    server.push(Answer::json(SAID_HI));
    let conversation = [agent.model().wire().user_message("hello")];
    let request = toolpool::model::Request::new(&conversation);
    assert_eq!(agent.model().respond(&request).unwrap().text(), "hi");
}

#[test]
fn fault_147_everything_runs_on_the_workers_of_an_async_runtime() {
    for threads in [1, 4] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap();
        runtime.block_on(async {
            // As a task, which holds up its worker; as blocking work; and both at once.
            tokio::spawn(async { everything() }).await.unwrap();
            tokio::task::spawn_blocking(everything).await.unwrap();
            let tasks = [0; 4].map(|_| tokio::spawn(async { everything() }));
            for task in tasks {
                task.await.unwrap();
            }
            everything();
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { everything() });
}

#[test]
fn fault_147_everything_runs_on_a_rayon_worker() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(everything);
    pool.install(|| rayon::join(everything, everything));
}
