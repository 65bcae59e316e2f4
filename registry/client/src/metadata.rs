//! A registry's TUF metadata, as they are served. Whether they are believed is for [`witan_registry_tuf::hold`].

use witan_registry_tuf::Source;

use crate::client::Client;
use crate::http::{Ask, RequestError};

const LARGEST_ROOT: u64 = 64 << 10;

impl Client {
    /// The first root that the registry's operators signed: asked for once, compared with what they published elsewhere,
    /// and pinned. Whoever serves another one cannot be told from them by it.
    pub async fn first_root(&self) -> Result<Vec<u8>, RequestError> {
        self.http.read(Ask::get("/tuf/1.root.json", None), LARGEST_ROOT).await.map(|answer| answer.bytes)
    }
}

impl Source for Client {
    type Error = RequestError;

    async fn file(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, RequestError> {
        match self.http.read(Ask::get(&format!("/tuf/{path}"), None), most).await {
            Ok(answer) => Ok(Some(answer.bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
