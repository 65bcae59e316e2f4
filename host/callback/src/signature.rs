//! Signatures as Standard Webhooks has them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac::{HMAC_SHA256, Key, sign};

/// The signature of `body`, which is sent as `id` at `timestamp` (seconds since the Unix epoch).
pub(crate) fn signature(key: &[u8], id: &str, timestamp: u64, body: &str) -> String {
    let tag = sign(&Key::new(HMAC_SHA256, key), format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    /// The example of the specification's own libraries.
    #[test]
    fn the_published_example_comes_out() {
        let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").key().unwrap();
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
