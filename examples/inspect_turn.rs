//! Prints the tool calls of a model's response body as JSON lines, and the reply it would get.
//!
//! ```text
//! inspect_turn [--wire auto|NAME] [--stream] [--reply] [FILE|-]
//! ```
//!
//! A line a call: `{"id": …, "name": …, "arguments": …}`; `id` is null where the provider sent
//! none, free text is a JSON string. A call whose arguments can't be read has
//! `"malformed": "<their text>"` and `"error"` in their place; one that must not run because of
//! the stop reason has `"withheld": "<stop reason>"` beside them. With `--reply`, the messages
//! follow that answer every call as a call of an unknown tool.
//!
//! With `--stream`, the body is a streamed one: server-sent events, lines of JSON, a JSON array or
//! Amazon's event stream. What is printed is the same as for the whole body.
//!
//! Exits with 2 when it is called wrongly and with 3 when the body can't be read.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::value::RawValue;
use toolpool::{CallState, Executor, ToolCall, ToolSet, Turn, Wire};

const USAGE: &str = "usage: inspect_turn [--wire auto|NAME] [--stream] [--reply] [FILE|-]";

struct Options {
    wire: Option<Wire>,
    stream: bool,
    reply: bool,
    file: String,
}

fn main() -> ExitCode {
    let (code, message) = match options(std::env::args().skip(1)) {
        Err(message) => (2, message),
        Ok(options) => match inspect(&options) {
            Err(error) => (3, error.to_string()),
            Ok(lines) => {
                // Whoever closes the pipe has seen enough.
                let _ = io::stdout().write_all(lines.as_bytes());
                return ExitCode::SUCCESS;
            }
        },
    };
    let line = message.replace(char::is_control, " ");
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(code)
}

fn options(args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { wire: None, stream: false, reply: false, file: "-".to_owned() };
    let mut files = 0;
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--wire" => {
                let name = args.next().ok_or_else(|| format!("--wire needs a name; {USAGE}"))?;
                options.wire = match name.as_str() {
                    "auto" => None,
                    name => Some(name.parse().map_err(|error| format!("{error}, or auto"))?),
                };
            }
            "--stream" => options.stream = true,
            "--reply" => options.reply = true,
            other if other.starts_with("--") => {
                return Err(format!("unknown option {other}; {USAGE}"));
            }
            file => {
                files += 1;
                options.file = file.to_owned();
            }
        }
    }
    if files > 1 {
        return Err(format!("more than one file; {USAGE}"));
    }
    Ok(options)
}

fn inspect(options: &Options) -> Result<String, Box<dyn Error>> {
    let mut body = Vec::new();
    if options.file == "-" {
        io::stdin().read_to_end(&mut body).map_err(|error| format!("standard input: {error}"))?;
    } else {
        body =
            std::fs::read(&options.file).map_err(|error| format!("{}: {error}", options.file))?;
    }
    let wire = options
        .wire
        .or_else(|| Wire::detect(&body))
        .ok_or("the body is in no known format; name one with --wire")?;
    let turn = if options.stream { streamed(wire, &body)? } else { wire.parse(&body)? };
    let mut lines = String::new();
    for call in turn.calls() {
        lines += &compact(&serde_json::to_string(&Line::of(call)?)?);
        lines.push('\n');
    }
    if options.reply {
        let report = Executor::builder(ToolSet::new()).build()?.run(&turn);
        for message in turn.reply(&report) {
            lines += &compact(message.as_str());
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// A program that shows text as it arrives, or runs calls while the model is still writing, does
/// it in the closure.
fn streamed(wire: Wire, body: &[u8]) -> Result<Turn, toolpool::Error> {
    let mut stream = wire.stream();
    stream.feed(body, &mut |_| {})?;
    stream.finish(&mut |_| {})
}

#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(call: &'a ToolCall) -> Result<Self, serde_json::Error> {
        let mut line = Self {
            id: call.has_id().then(|| call.id()),
            name: call.name(),
            arguments: None,
            malformed: None,
            error: None,
            withheld: call.withheld_reason(),
        };
        match call.state() {
            CallState::Malformed(why) => {
                line.malformed = Some(call.arguments());
                line.error = Some(why);
            }
            _ => line.arguments = Some(serde_json::from_str(call.arguments())?),
        }
        Ok(line)
    }
}

/// The JSON text without white space between its tokens, so that it is one line.
fn compact(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\r']) {
        return text.into();
    }
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|c| {
        let keep = in_string || !c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *c == '\\' && !escaped;
        keep
    });
    kept.collect::<String>().into()
}
