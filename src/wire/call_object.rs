//! A call whose arguments are a JSON object, in an echoed message: made such that the provider
//! takes it back.

use std::borrow::Cow;

use crate::call::ToolCall;
use crate::text::Shown;
use crate::wire::fields;
use crate::wire::raw::{self, RawObject};
use crate::wire::tool_calls::object_text;

/// How a format names the parts of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
}

/// Repairs the call that `object` holds: `id`, where there must be one, a legal name, arguments
/// that are an object.
pub(super) fn repair(
    object: &mut RawObject<'_>,
    keys: Keys,
    call: &ToolCall,
    id: Option<&str>,
    name: fn(&str) -> Cow<'_, str>,
    mut repair: impl FnMut(String),
) {
    if object.deduplicate() {
        repair("keys that stood twice were left once".to_owned());
    }
    let quoted = |text| format!("\"{}\"", Shown::new(text, 64));
    if let Some(id) = id
        && object.text(keys.id).as_deref() != Some(id)
    {
        repair(match call.has_id() {
            true => format!("the id {} was replaced by {id:?}", quoted(call.id())),
            false => format!("the missing id became {id:?}"),
        });
        object.set(keys.id, id);
    }
    let legal = name(call.name());
    if object.get(keys.name).and_then(|raw| fields::string(raw.get())).as_deref() != Some(&*legal) {
        repair(format!("the name {} was replaced by {legal:?}", quoted(call.name())));
        object.set(keys.name, &*legal);
    }
    if !object.get(keys.arguments).is_some_and(|raw| raw.get().starts_with('{')) {
        let text = object_text(call);
        repair(match text.as_str() {
            "{}" => "the arguments were replaced by {}".to_owned(),
            _ => "the arguments were spelled as an object".to_owned(),
        });
        object.set(keys.arguments, &raw::literal(&text));
    }
}
