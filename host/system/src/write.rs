//! Grants, written as they stand in `system.toml`.

use std::{collections::BTreeMap, path::Path};

use crate::file;
use crate::grants::{Files, FilesystemGrant, Grants, HttpGrant, KeyvalueGrant, LoggingGrant, SocketGrant};
use crate::secrets::{SecretGrant, SecretUseFile};
use crate::unit::format_bytes;

/// The section of `system.toml` that grants `grants` to `component`, with paths relative to `folder` where they lie
/// below it. Reading it back gives the same grants.
pub fn grants_toml(component: &str, grants: &Grants, folder: &Path) -> String {
    let key = crate::Key::root().child("components").child(component).child("grants");
    let grants = file::Grants {
        filesystem: grants.filesystem.iter().map(|grant| filesystem(grant, folder)).collect(),
        http: grants.http.iter().map(http).collect(),
        sockets: grants.sockets.iter().map(socket).collect(),
        environment: without(&grants.environment, grants.secrets.iter().filter_map(|grant| grant.environment.as_ref())),
        config: without(&grants.config, grants.secrets.iter().filter_map(|grant| grant.config.as_ref())),
        wall_clock: grants.wall_clock,
        logging: grants
            .logging
            .as_ref()
            .map(|LoggingGrant { rate }| file::Logging { rate: Some(file::PerTime(rate.to_string())) }),
        keyvalue: grants
            .keyvalue
            .as_ref()
            .map(|KeyvalueGrant { max_bytes }| file::Keyvalue { max_bytes: bytes(*max_bytes) }),
        tools: grants.tools.iter().map(ToString::to_string).collect(),
        secrets: grants.secrets.iter().map(secret).collect(),
    };
    let mut text = format!("[{key}]\n");
    // Each value in its inline form: the reader sees a line for each grant.
    if let Ok(toml::Value::Table(table)) = toml::Value::try_from(&grants) {
        for (name, value) in table {
            text.push_str(&format!("{name} = {}\n", inline(&value)));
        }
    }
    text
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            let lines: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("[\n{lines}]")
        }
        other => other.to_string(),
    }
}

/// The names that are not those of placeholders, which stand with their secret.
fn without<'a>(
    all: &BTreeMap<String, String>,
    placeholders: impl Iterator<Item = &'a String>,
) -> BTreeMap<String, String> {
    let mut all = all.clone();
    placeholders.for_each(|name| drop(all.remove(name)));
    all
}

fn secret(grant: &SecretGrant) -> SecretUseFile {
    SecretUseFile {
        secret: grant.secret.to_string(),
        environment: grant.environment.clone(),
        config: grant.config.clone(),
    }
}

fn bytes(bytes: u64) -> Option<file::Bytes> {
    Some(file::Bytes(format_bytes(bytes)))
}

fn filesystem(grant: &FilesystemGrant, folder: &Path) -> file::Filesystem {
    let (path, guest) = match &grant.files {
        Files::Task => (None, None),
        Files::Path { host, guest } => {
            let relative = host.strip_prefix(folder).map(|rest| Path::new(".").join(rest));
            let path = relative.unwrap_or_else(|_| host.clone());
            (Some(path.display().to_string()), Some(guest.clone()))
        }
    };
    let task = path.is_none();
    file::Filesystem { path, guest, task, access: Some(grant.access), max_bytes: grant.max_bytes.and_then(bytes) }
}

fn http(grant: &HttpGrant) -> file::Http {
    file::Http {
        scheme: Some(grant.scheme),
        host: grant.host.to_string(),
        port: Some(grant.port),
        methods: Some(grant.methods.clone()),
        path_prefix: Some(grant.path_prefix.clone()),
        private: grant.private,
    }
}

fn socket(grant: &SocketGrant) -> file::Socket {
    file::Socket {
        protocol: Some(grant.protocol),
        host: grant.host.to_string(),
        port: grant.port,
        private: grant.private,
    }
}
