use crate::error::Error;
use crate::json::Json;
use crate::report::Report;
use crate::tool::ToolSet;
use crate::turn::Turn;
use crate::wire::Reply;

pub(super) fn parse(_body: &str) -> Result<Turn, Error> {
    Err(Error::input("not yet read"))
}

pub(super) fn tools(_tools: &ToolSet) -> Json {
    Json::from_value(&serde_json::json!([]))
}

pub(super) fn reply(_turn: &Turn, _report: &Report) -> Reply {
    Reply::default()
}
