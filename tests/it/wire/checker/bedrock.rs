//! Bedrock Converse.

use serde_json::Value;
use toolpool::Turn;

use super::{Rules, calls_come_last, came, elements, is_made_of, text, word};

pub(super) fn check(turn: &Turn, messages: &[Value], rules: &mut Rules) {
    let Some((echo, results)) = messages.split_first() else {
        return rules.demand(false, "the model's message is missing: roles must alternate");
    };
    let blocks = elements(echo, "content");
    rules.only_keys(echo, &["role", "content"], "echo");
    rules.demand(text(echo, "role") == "assistant", "echo: role");
    rules.demand(!blocks.is_empty(), "echo: the content field is empty");
    for (at, block) in blocks.iter().enumerate() {
        check_block(block, &format!("echo: content.{at}"), rules);
    }
    for theirs in blocks.iter().filter(|block| is_theirs(block)).map(|block| &block["toolUse"]) {
        let of = |block: &Value| block["toolResult"]["toolUseId"] == theirs["toolUseId"];
        let is_open = theirs["input"].is_object() && blocks.iter().any(is_call);
        rules.demand(is_open || blocks.iter().any(of), format!("echo: no result for {theirs}"));
    }
    if let Some(came) = came(turn) {
        fn reasoning(blocks: &[Value]) -> impl Iterator<Item = &Value> {
            let contents = blocks.iter().map(|block| &block["reasoningContent"]);
            contents.filter(|content| content.is_object())
        }
        let is_signed = |content: &&Value| {
            let text = &content["reasoningText"];
            !text.is_object() || !text["signature"].as_str().unwrap_or_default().is_empty()
        };
        let came = reasoning(elements(&came, "content")).filter(is_signed);
        let same = came.eq(reasoning(blocks));
        rules.demand(same, "echo: reasoningContent cannot be modified");
    }

    let calls: Vec<&Value> = blocks.iter().filter(|block| is_call(block)).collect();
    let pending: Vec<&str> = calls.iter().map(|call| text(&call["toolUse"], "toolUseId")).collect();
    rules.unique(pending.iter().copied(), "echo: toolUseId");
    let is_reasoning = |block: &Value| block.get("reasoningContent").is_some();
    rules.demand(
        calls_come_last(blocks, is_call, is_reasoning),
        "echo: only toolUse may follow toolUse, and reasoning that leads to another",
    );

    let ends_thinking = blocks.last().is_some_and(is_reasoning);
    rules.demand(!ends_thinking, "echo: the final block cannot be reasoningContent");
    if pending.is_empty() {
        return rules.demand(results.is_empty(), "a message that no call asked for");
    }
    let [results] = results else {
        return rules.demand(false, "all results must be in one message");
    };
    rules.only_keys(results, &["role", "content"], "results");
    rules.demand(text(results, "role") == "user", "results: role");
    let results: Vec<&Value> =
        elements(results, "content").iter().map(|block| &block["toolResult"]).collect();
    let answered: Vec<&str> = results.iter().map(|result| text(result, "toolUseId")).collect();
    rules.demand(answered == pending, format!("results for {answered:?}, calls {pending:?}"));
    for result in &results {
        check_result(result, rules);
    }
    let documents = results
        .iter()
        .flat_map(|result| elements(result, "content"))
        .filter_map(|block| block["document"]["name"].as_str());
    rules.unique(documents, "results: names of documents");
}

fn is_call(block: &Value) -> bool {
    block.get("toolUse").is_some() && !is_theirs(block)
}

/// Whether the provider ran the call itself.
fn is_theirs(block: &Value) -> bool {
    text(&block["toolUse"], "type") == "server_tool_use"
}

fn check_block(block: &Value, place: &str, rules: &mut Rules) {
    let keys = block.as_object().map_or(0, serde_json::Map::len);
    rules.demand(keys == 1, format!("{place}: a union of one member, not {block}"));
    if block.get("text").is_some() {
        rules.demand(!text(block, "text").trim().is_empty(), format!("{place}: text is blank"));
    }
    if let Some(call) = block.get("toolUse").filter(|_| !is_theirs(block)) {
        rules.demand(call.get("type").is_none(), format!("{place}: type is the provider's own"));
        let id = text(call, "toolUseId");
        let legal = |c| word(c) || c == '.' || c == ':';
        rules.demand(is_made_of(id, 64, legal), format!("{place}: toolUseId {id:?}"));
        let name = text(call, "name");
        rules.demand(is_made_of(name, 64, word), format!("{place}: name {name:?}"));
        rules.demand(call["input"].is_object(), format!("{place}: input is no object"));
    }
}

fn check_result(result: &Value, rules: &mut Rules) {
    let id = text(result, "toolUseId");
    rules.only_keys(result, &["toolUseId", "content", "status"], id);
    let status = &result["status"];
    let known = status.is_null() || status == "success" || status == "error";
    rules.demand(known, format!("{id}: status {status}"));
    let content = elements(result, "content");
    rules.demand(!content.is_empty(), format!("{id}: empty content"));
    for block in content {
        let one = block.as_object().is_some_and(|block| block.len() == 1);
        let bytes = |media: &Value| !text(&media["source"], "bytes").is_empty();
        let media = status != "error";
        let holds = if let Some(text) = block.get("text") {
            text.as_str().is_some_and(|text| !text.trim().is_empty())
        } else if let Some(json) = block.get("json") {
            json.is_object()
        } else if let Some(image) = block.get("image") {
            let legal = ["png", "jpeg", "gif", "webp"];
            media && bytes(image) && legal.contains(&text(image, "format"))
        } else if let Some(document) = block.get("document") {
            let legal = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];
            media
                && bytes(document)
                && legal.contains(&text(document, "format"))
                && is_document_name(text(document, "name"))
        } else {
            false
        };
        rules.demand(one && holds, format!("{id}: block {block}, status {status}"));
    }
}

fn is_document_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || " -()[]".contains(c);
    is_made_of(name, 200, legal) && !name.contains("  ")
}
