//! What a client says over a WebSocket.

use serde::Deserialize;
use uuid::Uuid;

use crate::{Pattern, PatternError};

/// The largest message of a client, in bytes.
pub const MESSAGE_BYTES: usize = 16 << 10;
/// The longest name of a subscription, in bytes.
const NAME_BYTES: usize = 64;
/// The most patterns of one subscription.
const PATTERNS: usize = 32;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To be told of something from now on, under a name of its choice.
    Subscribe {
        /// The name.
        name: String,
        /// Of what.
        subject: Subject,
        /// The number of the last event that it has.
        after: Option<u64>,
    },
    /// To be told of it no longer.
    Unsubscribe {
        /// The name.
        name: String,
    },
}

/// What is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A task: all that happens to it, and what it came to.
    Task(Uuid),
    /// Events of the host, of these types.
    Events(Vec<Pattern>),
}

/// Why a message is no command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is no JSON of that form.
    #[error("this is no command: {0}")]
    Form(#[from] serde_json::Error),
    /// The name is none.
    #[error("`id` names the subscription: 1 to {NAME_BYTES} bytes without control characters")]
    Name,
    /// What is asked for is none.
    #[error("a subscription is to `task` or to `events`, a list of 1 to {PATTERNS}, and not to both")]
    Subject,
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Subscribe {
        id: String,
        #[serde(default)]
        task: Option<Uuid>,
        #[serde(default)]
        events: Option<Vec<String>>,
        #[serde(default)]
        starting_after: Option<u64>,
    },
    Unsubscribe {
        id: String,
    },
}

impl Command {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no command.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        match serde_json::from_str(text)? {
            Message::Subscribe { id, task, events, starting_after } => {
                let subject = match (task, events) {
                    (Some(task), None) => Subject::Task(task),
                    (None, Some(events)) if (1..=PATTERNS).contains(&events.len()) => {
                        Subject::Events(events.iter().map(|one| one.parse()).collect::<Result<_, _>>()?)
                    }
                    _ => return Err(CommandError::Subject),
                };
                Ok(Self::Subscribe { name: name(id)?, subject, after: starting_after })
            }
            Message::Unsubscribe { id } => Ok(Self::Unsubscribe { name: name(id)? }),
        }
    }
}

fn name(name: String) -> Result<String, CommandError> {
    let fit = (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if fit { Ok(name) } else { Err(CommandError::Name) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_read() {
        let task = "0190163d-8694-739b-aea5-966c26f8ad91";
        let command = Command::parse(&format!(r#"{{"type":"subscribe","id":"a","task":"{task}","starting_after":3}}"#));
        let subject = Subject::Task(task.parse().unwrap());
        assert_eq!(command.unwrap(), Command::Subscribe { name: "a".into(), subject, after: Some(3) });
        let command = Command::parse(r#"{"type":"subscribe","id":"b","events":["task.*","policy.reloaded"]}"#).unwrap();
        assert!(matches!(command, Command::Subscribe { subject: Subject::Events(events), .. } if events.len() == 2));
        let command = Command::parse(r#"{"type":"unsubscribe","id":"b"}"#).unwrap();
        assert_eq!(command, Command::Unsubscribe { name: "b".into() });
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for text in [
            "",
            "[]",
            r#"{"type":"subscribe","id":"a"}"#,
            r#"{"type":"subscribe","id":"a","events":[]}"#,
            r#"{"type":"subscribe","id":"a","events":["none"]}"#,
            r#"{"type":"subscribe","id":"","events":["*"]}"#,
            r#"{"type":"subscribe","id":"a","events":["*"],"more":1}"#,
            r#"{"type":"subscribe","id":"a","events":["*"],"starting_after":-1}"#,
            r#"{"type":"subscribe","id":"a","task":"7"}"#,
            r#"{"type":"other","id":"a"}"#,
        ] {
            assert!(Command::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_refused(text in ".{0,200}", id in ".{0,80}", events in proptest::collection::vec(".{0,20}", 0..40)) {
            let _refused = Command::parse(&text);
            let message = serde_json::json!({ "type": "subscribe", "id": id, "events": events });
            if let Ok(Command::Subscribe { name, subject: Subject::Events(read), .. }) = Command::parse(&message.to_string()) {
                prop_assert_eq!((name, read.len()), (id, events.len()));
            }
        }
    }
}
