//! Models: what answers a conversation with a [`Turn`].
//!
//! [`Model`] is the one trait; [`Client`] asks a provider over HTTP (feature `http`, on by
//! default), [`ScriptedModel`] plays prepared answers in tests. A request is answered on the
//! caller's thread, which waits for it; no thread is started but one for each name lookup.
//!
//! A request is a [`Request`]: what is asked (the [`Prompt`]), until when, and a token that
//! calls it off. It holds messages in the wire's own shape, so a conversation is a `Vec<Json>`:
//!
//! ```
//! use toolpool::model::{Model, Request, ScriptedModel};
//! use toolpool::Wire;
//!
//! let model = ScriptedModel::new(Wire::OpenAi)
//!     .body(r#"{"choices":[{"message":{"role":"assistant","content":"noon"}}]}"#);
//! let conversation = [model.wire().user_message("What time is it?")];
//! let turn = model.respond(&Request::new(&conversation))?;
//! assert_eq!(turn.text(), "noon");
//! # Ok::<(), toolpool::model::ModelError>(())
//! ```
//!
//! Needs the feature `agent`, which is on by default.

#[cfg(feature = "http")]
mod client;
mod error;
mod request;
mod scripted;

#[cfg(feature = "http")]
pub use client::{Client, ClientBuilder, Secret, Server};
pub use error::{ModelError, ModelErrorKind};
pub use request::Request;
pub use scripted::{Asked, ScriptedModel};

/// The HTTP client beneath, for [`ClientBuilder::http_config`].
#[cfg(feature = "http")]
pub use ureq;

pub use crate::wire::{Parameters, Prompt, StreamEvent, ToolChoice};

use std::sync::Arc;

use crate::turn::{Turn, Wire};

/// Something that answers a conversation with a turn. It is asked from many threads at once.
pub trait Model: Send + Sync {
    /// The model's name, as its provider spells it.
    fn name(&self) -> &str;

    /// The format of its messages.
    fn wire(&self) -> Wire;

    /// Asks for one turn and waits for all of it, at most until the request's deadline.
    ///
    /// # Errors
    /// Whatever kept the model from answering; a refusal or an answer cut short is a turn, whose
    /// stop reason tells it.
    fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError>;

    /// Asks for one turn and tells, while the model writes, what it wrote so far; on the caller's
    /// thread. The turn is that of [`respond`](Self::respond), and begins with the calls that were
    /// told, in their order: else they are cancelled, and the turn is answered as one that broke off.
    ///
    /// A model that can't stream tells all of it at the end, as this method does by default.
    ///
    /// # Errors
    /// As [`respond`](Self::respond). When the turn breaks off, what was told of it is void: no
    /// call may run on its account.
    fn stream(
        &self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(StreamEvent<'_>),
    ) -> Result<Turn, ModelError> {
        let turn = self.respond(request)?;
        tell_all(&turn, tell);
        Ok(turn)
    }
}

/// Tells a turn that came as a whole.
fn tell_all(turn: &Turn, tell: &mut dyn FnMut(StreamEvent<'_>)) {
    if !turn.text().is_empty() {
        tell(StreamEvent::Text(turn.text()));
    }
    for call in turn.calls() {
        tell(StreamEvent::Call(call));
    }
}

macro_rules! behind_a_pointer {
    ($($pointer:ty),*) => {$(
        impl<M: Model + ?Sized> Model for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }

            fn wire(&self) -> Wire {
                (**self).wire()
            }

            fn respond(&self, request: &Request<'_>) -> Result<Turn, ModelError> {
                (**self).respond(request)
            }

            fn stream(
                &self,
                request: &Request<'_>,
                tell: &mut dyn FnMut(StreamEvent<'_>),
            ) -> Result<Turn, ModelError> {
                (**self).stream(request, tell)
            }
        }
    )*};
}

behind_a_pointer!(&M, Box<M>, Arc<M>);
