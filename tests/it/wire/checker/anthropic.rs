//! Anthropic Messages.

use serde_json::Value;
use toolpool::{StopKind, Turn};

use super::{Rules, calls_come_last, came, elements, is_made_of, text, was_cut, word};

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let came = came(turn);
    let Some((echo, results)) = messages.split_first() else {
        let says_nothing = |blocks: &[Value]| {
            let unfinished = unfinished(blocks);
            blocks.iter().all(|block| is_blank(block, &unfinished))
        };
        let nothing = came.is_none_or(|came| says_nothing(without_cut_thinking(&came, turn)));
        let holds = nothing && (turn.calls().is_empty() || turn.message().is_some());
        return rules.demand(holds, "the model's message is missing");
    };
    let blocks = elements(echo, "content");
    rules.only_keys(echo, &["role", "content"], "echo");
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    let filled = !blocks.is_empty() || !text(echo, "content").trim().is_empty();
    rules.demand(filled, "echo: all messages must have non-empty content");
    if let Some(came) = &came {
        thinking_is_unchanged(without_cut_thinking(came, turn), blocks, rules);
    }

    let pending = pending(blocks);
    check_blocks(turn, blocks, &pending, rules);
    rules.unique(pending.iter().copied(), "echo: `tool_use` ids must be unique");
    let is_call =
        |block: &Value| text(block, "type") == "tool_use" && pending.contains(&text(block, "id"));
    let ends_thinking = blocks.last().is_some_and(is_thinking);
    rules.demand(!ends_thinking, "echo: the final block cannot be thinking");
    rules.demand(
        calls_come_last(blocks, is_call, is_thinking),
        "echo: only tool_use may follow tool_use, and thinking that leads to another",
    );

    if pending.is_empty() {
        return rules.demand(results.is_empty(), "a message that no call asked for");
    }
    let [results] = results else {
        return rules.demand(false, "all results must be in one message");
    };
    rules.only_keys(results, &["role", "content"], "results");
    rules.demand(text(results, "role") == "user", "results: role");
    let results = elements(results, "content");
    let answered: Vec<_> = results.iter().map(|result| text(result, "tool_use_id")).collect();
    rules.demand(answered == pending, format!("results for {answered:?}, calls {pending:?}"));
    for result in results {
        check_result(result, rules);
        let mut calls = blocks.iter().filter(|block| text(block, "type") == "tool_use");
        let call = calls.find(|block| text(block, "id") == text(result, "tool_use_id"));
        let toolset = call.map(|call| &call["toolset_name"]);
        rules.demand(toolset == Some(&result["toolset_name"]), "results: toolset_name");
    }
}

/// Whether a block says nothing: no text, or what the provider itself would have had to answer, or
/// what is part of that.
fn is_blank(block: &Value, unfinished: &[&str]) -> bool {
    match text(block, "type") {
        "text" => text(block, "text").trim().is_empty(),
        "" | "server_tool_use" | "mcp_tool_use" => true,
        _ => names(block).iter().any(|id| unfinished.contains(id)),
    }
}

/// The ids of the server's calls that were cut or have no result behind them, and of all that names
/// one.
fn unfinished(blocks: &[Value]) -> Vec<&str> {
    let is_result = |block: &Value, id: &str| {
        text(block, "type").ends_with("_tool_result") && text(block, "tool_use_id") == id
    };
    let is_answered = |at: usize, id: &str| blocks[at..].iter().any(|after| is_result(after, id));
    let servers = |block: &Value| matches!(text(block, "type"), "server_tool_use" | "mcp_tool_use");
    let calls = blocks.iter().enumerate().filter(|(_, block)| servers(block));
    let is_whole = |block: &Value| block["input"].is_null() || block["input"].is_object();
    let open = calls.filter(|(at, block)| {
        let id = text(block, "id");
        let is_done = is_whole(block) && is_answered(*at, id);
        !id.is_empty() && !is_done
    });
    let mut found: Vec<_> = open.map(|(_, block)| text(block, "id")).collect();
    let mut before = usize::MAX;
    while before != found.len() {
        before = found.len();
        for block in blocks {
            let names = names(block);
            if names.iter().any(|id| found.contains(id)) {
                let [_caller, own @ ..] = names;
                found.extend(own.into_iter().filter(|id| !id.is_empty()));
                found.sort_unstable();
                found.dedup();
            }
        }
    }
    found
}

/// The ids of its caller, of itself and of its call.
fn names(block: &Value) -> [&str; 3] {
    [text(&block["caller"], "tool_id"), text(block, "id"), text(block, "tool_use_id")]
}

/// The ids of the calls that wait for a result: all but those that code in the provider's sandbox
/// made and that were answered before it was done.
fn pending(blocks: &[Value]) -> Vec<&str> {
    let answered = |block: &Value, after: &[Value]| {
        let caller = text(&block["caller"], "tool_id");
        !caller.is_empty()
            && after.iter().any(|other| {
                text(other, "type").ends_with("_tool_result")
                    && text(other, "tool_use_id") == caller
            })
    };
    blocks
        .iter()
        .enumerate()
        .filter(|(at, block)| text(block, "type") == "tool_use" && !answered(block, &blocks[*at..]))
        .map(|(_, block)| text(block, "id"))
        .collect()
}

fn check_blocks(turn: &Turn, blocks: &[Value], pending: &[&str], rules: &mut Rules) {
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("echo: content.{at}");
        let id = text(block, "id");
        match text(block, "type") {
            "" => rules.demand(false, format!("{place}: type: Field required")),
            "text" => {
                let filled = !text(block, "text").trim().is_empty();
                rules.demand(filled, format!("{place}: text content blocks must be non-empty"));
            }
            "tool_use" if pending.contains(&id) => {
                rules.demand(is_made_of(id, usize::MAX, word), format!("{place}: id {id:?}"));
                let name = text(block, "name");
                rules.demand(is_made_of(name, 128, word), format!("{place}: name {name:?}"));
                rules.demand(block["input"].is_object(), format!("{place}: input is no object"));
            }
            "server_tool_use" | "mcp_tool_use" => {
                let answered = blocks[at..].iter().any(|other| text(other, "tool_use_id") == id);
                let open = !pending.is_empty() || turn.stop().kind == StopKind::Pause;
                rules.demand(answered || open, format!("{place}: no result for {id}"));
            }
            _ => {}
        }
    }
}

/// The content, less thinking at the end of a message that was cut before its signature came.
fn without_cut_thinking<'a>(came: &'a Value, turn: &Turn) -> &'a [Value] {
    match elements(came, "content") {
        [before @ .., last]
            if text(last, "type") == "thinking"
                && text(last, "signature").is_empty()
                && was_cut(turn) =>
        {
            before
        }
        all => all,
    }
}

/// Every thinking block that came is there as it came, before as many calls as it came before.
fn thinking_is_unchanged(came: &[Value], echoed: &[Value], rules: &mut Rules) {
    let thinking = |blocks: &[Value]| -> Vec<(Value, usize)> {
        let calls =
            |after: &[Value]| after.iter().filter(|b| text(b, "type") == "tool_use").count();
        let places = (0..blocks.len()).filter(|at| is_thinking(&blocks[*at]));
        places.map(|at| (blocks[at].clone(), calls(&blocks[at..]))).collect()
    };
    let (came, echoed) = (thinking(came), thinking(echoed));
    // What no call follows can't stay behind the calls.
    let same = came.len() == echoed.len()
        && came.iter().zip(&echoed).all(|(a, b)| a.0 == b.0 && (a.1 == b.1 || a.1 == 0));
    rules.demand(same, "echo: thinking blocks cannot be modified");
}

fn is_thinking(block: &Value) -> bool {
    text(block, "type").ends_with("thinking")
}

fn check_result(result: &Value, rules: &mut Rules) {
    let id = text(result, "tool_use_id");
    let known = ["type", "tool_use_id", "content", "is_error", "toolset_name"];
    rules.only_keys(result, &known, id);
    rules.demand(text(result, "type") == "tool_result", format!("{id}: type"));
    let is_error = match &result["is_error"] {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        other => return rules.demand(false, format!("{id}: is_error is {other}")),
    };
    let blocks = match &result["content"] {
        Value::String(text) => {
            return rules.demand(!text.is_empty(), format!("{id}: empty content"));
        }
        Value::Array(blocks) => blocks,
        other => return rules.demand(false, format!("{id}: content is {other}")),
    };
    rules.demand(!blocks.is_empty(), format!("{id}: empty content"));
    for block in blocks {
        let source = &block["source"];
        let media = text(source, "media_type");
        let base64 = text(source, "type") == "base64" && !text(source, "data").is_empty();
        let holds = match text(block, "type") {
            "text" => !text(block, "text").trim().is_empty(),
            "image" => {
                let legal = ["image/png", "image/jpeg", "image/gif", "image/webp"];
                !is_error && base64 && legal.contains(&media)
            }
            "document" => !is_error && base64 && media == "application/pdf",
            _ => false,
        };
        rules.demand(holds, format!("{id}: block {block}, with is_error {is_error}"));
    }
}
