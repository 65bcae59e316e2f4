//! What the client is told on the way.

use wit_bindgen::StreamWriter;

use super::bindings::exports::witan::task::handler::Event;
use super::bindings::witan::task::types::Progress;

/// The stream of events. A client that does not want them drops it, and is then told nothing more.
pub(super) struct Events(StreamWriter<Event>);

impl Events {
    pub(super) fn new(writer: StreamWriter<Event>) -> Self {
        Self(writer)
    }

    pub(super) async fn progress(&mut self, stage: &str, done: usize, total: usize) {
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let progress = Progress { stage: stage.to_owned(), done: count(done), total: count(total) };
        self.send(Event::Progress(progress)).await;
    }

    pub(super) async fn notice(&mut self, notice: String) {
        self.send(Event::Notice(notice)).await;
    }

    pub(super) async fn text(&mut self, text: String) {
        self.send(Event::Text(text)).await;
    }

    async fn send(&mut self, event: Event) {
        // What is handed back was not wanted.
        let _ = self.0.write_one(event).await;
    }
}
