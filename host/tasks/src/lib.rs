//! Runs tasks: a request with an intent goes to the component that serves the intent, and comes back as an envelope.
//!
//! The request and the envelope are the same on the command line, over HTTP and in WIT. Start reading at
//! [`Tasks::submit`]. How failures of every layer map to codes, HTTP statuses and exit codes is in [`Code`] and nowhere
//! else.

mod component;
mod envelope;
mod error;
mod handler;
mod kept;
mod once;
mod paths;
mod reading;
mod record;
mod recovery;
mod request;
mod run;
mod runner;
mod span;
mod told;

pub use component::ComponentHandler;
pub use envelope::{EngineChoice, Envelope, Outcome, Passage, Route, SCHEMA_VERSION, Status, Usage};
pub use error::{Code, ErrorOrigin, ErrorType, TaskError};
pub use handler::{Event, Handler, HandlerError, Work, WorkInput};
pub use once::Once;
pub use paths::Paths;
pub use record::{CANCELLED_WITHIN, CancelOnDrop, Happened, Moved, Task, TaskEvent, TaskView};
pub use request::{Document, Input, Parameter, Priority, TaskRequest, Value};
pub use runner::{Edge, Handlers, Observer, OpenAccount, Settings, Tasks, Transition};
pub use told::SealStoredError;
pub use witan_callback::{Callback, Deliverer, Secret};
pub use witan_task_store::{Filter, Retention, State, Store, StoreError};
