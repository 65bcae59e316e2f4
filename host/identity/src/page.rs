//! Pages of lists.

use uuid::Uuid;

/// Which page of a list, the newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// How many, at most.
    pub limit: usize,
    /// Those after this one, the last of the page before.
    pub after: Option<Uuid>,
}

impl Page {
    /// The first page of as many as a person reads.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit, after: None }
    }

    /// What ids must be smaller than. Ids are made in the order of time.
    pub(crate) fn before(&self) -> String {
        self.after.map_or_else(|| "g".to_owned(), |id| id.to_string())
    }

    /// How many rows to read: one more says whether there are more.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit.saturating_add(1)).unwrap_or(i64::MAX)
    }

    /// The page without the row too many, and whether there are more.
    pub(crate) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        (rows, more)
    }
}
