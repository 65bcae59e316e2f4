//! What is in the registry, as its pages and its JSON tell it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sigstore_crypto::{VerificationKey, parse_certificate_info};
use sigstore_types::{
    Bundle, DerCertificate, DerPublicKey,
    bundle::{SignatureContent, VerificationMaterialContent},
};
use sqlx::Row as _;
use witan_merkle_log::Hash;

use crate::names;
use crate::{
    Digest, Failure, Reference, Refusal, Registry, Repository, Tag,
    blobs::blocking,
    manifest::Manifest,
    oci_manifests::digest,
    tokens::{Action, Client, Verdict, now, timestamp},
};

/// Packages of one page.
const PACKAGES: usize = 50;

/// Packages that are looked at for one page: a client may not read them all.
const LOOKED_AT: i64 = 500;

/// Versions that are listed.
const VERSIONS: i64 = 1_000;

/// Bundles of a version that are looked at.
const BUNDLES: i64 = 32;

/// The largest bundle that is looked at: of an SBOM of some thousand dependencies.
const BUNDLE: u64 = 16 << 20;

/// The media type of a layer that is a component.
const WASM: &str = "application/wasm";

/// A package in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    /// As people write it: `acme:sums`, or the repository where that is not one of components.
    pub(crate) name: String,
    pub(crate) repository: String,
    pub(crate) versions: i64,
    pub(crate) downloads: i64,
}

/// A version of a package.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) released: String,
    pub(crate) downloads: i64,
    /// When it was yanked, and why; nothing where it was not.
    pub(crate) yanked: Option<Yanked>,
}

/// That a version should not be used any more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Yanked {
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// What one version has beside its bytes.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) layer: Option<(Digest, u64)>,
    pub(crate) signed: Vec<Signed>,
}

/// Something that was said of a version, under signature.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) predicate: String,
    /// Who signed, as far as the signature itself shows.
    pub(crate) signer: Result<String, String>,
    /// The number of the entry in this registry's log.
    pub(crate) logged: Option<u64>,
    pub(crate) bundle: Digest,
    /// The ceiling of a release statement, as JSON.
    pub(crate) ceiling: Option<String>,
}

impl Registry {
    /// How people write the package in `repository`.
    pub(crate) fn package_name(&self, repository: &Repository) -> String {
        let prefix = self.0.settings.namespace_prefix.as_str();
        let within = repository.as_str().strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
        match within {
            Some((namespace, name)) if !name.contains('/') => format!("{namespace}:{name}"),
            _ => repository.to_string(),
        }
    }

    /// Packages whose name or description has `words`, behind the repository `after`; and where the next page begins.
    pub(crate) async fn search(
        &self,
        client: &Client,
        words: &str,
        after: &str,
    ) -> Result<(Vec<Found>, Option<String>), Refusal> {
        let words = words.trim().to_lowercase().replace(':', "/");
        let escaped = words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let rows = sqlx::query(
            "SELECT repository, CAST(SUM(downloads) AS BIGINT) AS downloads, \
             (SELECT COUNT(*) FROM version v WHERE v.repository = m.repository) AS versions FROM manifest m \
             WHERE subject = '' AND repository > $1 AND (repository LIKE $2 ESCAPE '\\' OR EXISTS \
             (SELECT 1 FROM manifest d WHERE d.repository = m.repository AND d.subject = '' \
             AND LOWER(d.annotations) LIKE $2 ESCAPE '\\')) \
             GROUP BY repository ORDER BY repository LIMIT $3",
        )
        .bind(after)
        .bind(format!("%{escaped}%"))
        .bind(LOOKED_AT)
        .fetch_all(self.0.database.pool())
        .await?;
        let (mut found, mut last) = (Vec::new(), None);
        for row in &rows {
            let repository: String = row.try_get("repository")?;
            let repository = names::repository(&repository)?;
            if found.len() == PACKAGES {
                return Ok((found, last));
            }
            last = Some(repository.to_string());
            if self.policy().decide(client, Action::Pull, &repository) == Verdict::Allowed {
                found.push(Found {
                    name: self.package_name(&repository),
                    repository: repository.to_string(),
                    versions: row.try_get("versions")?,
                    downloads: row.try_get("downloads")?,
                });
            }
        }
        let more = rows.len() as i64 == LOOKED_AT;
        Ok((found, last.filter(|_| more)))
    }

    /// The versions of a package, the newest first.
    pub(crate) async fn versions(&self, repository: &Repository) -> Result<Vec<Version>, Refusal> {
        let rows = sqlx::query(
            "SELECT v.tag AS tag, v.digest AS digest, v.released AS released, v.yanked AS yanked, \
             v.yank_reason AS reason, m.downloads AS downloads FROM version v JOIN tag t \
             ON t.repository = v.repository AND t.tag = v.tag JOIN manifest m \
             ON m.repository = v.repository AND m.digest = v.digest WHERE v.repository = $1 \
             ORDER BY v.released DESC, v.tag LIMIT $2",
        )
        .bind(repository.as_str())
        .bind(VERSIONS)
        .fetch_all(self.0.database.pool())
        .await?;
        let mut versions = Vec::new();
        for row in &rows {
            let yanked: i64 = row.try_get("yanked")?;
            let tag: String = row.try_get("tag")?;
            let yanked = (yanked > 0).then_some(yanked).map(timestamp);
            let reason: String = row.try_get("reason")?;
            versions.push(Version {
                version: tag,
                digest: row.try_get("digest")?,
                released: timestamp(row.try_get("released")?),
                downloads: row.try_get("downloads")?,
                yanked: yanked.map(|at| Yanked { at, reason }),
            });
        }
        let number = |version: &Version| names::tag(&version.version).ok().and_then(|tag| names::version(&tag));
        versions.sort_by_key(|version| std::cmp::Reverse(number(version)));
        Ok(versions)
    }

    /// Says that a version should not be used any more, or takes that back.
    pub(crate) async fn yank(&self, repository: &Repository, tag: &Tag, reason: Option<&str>) -> Result<(), Refusal> {
        let mut writer = self.0.database.write().await?;
        let done = sqlx::query("UPDATE version SET yanked = $3, yank_reason = $4 WHERE repository = $1 AND tag = $2")
            .bind(repository.as_str())
            .bind(tag.as_str())
            .bind(if reason.is_some() { now() } else { 0 })
            .bind(reason.unwrap_or_default())
            .execute(&mut *writer)
            .await?;
        if done.rows_affected() == 0 {
            return Err(Refusal::ManifestUnknown { repository: repository.clone(), reference: tag.to_string() });
        }
        writer.commit().await?;
        self.yanks_changed().await;
        Ok(())
    }

    /// Every version of a package that was yanked.
    pub(crate) async fn yanks(&self, repository: &Repository) -> Result<BTreeMap<String, Yanked>, Refusal> {
        let rows = sqlx::query("SELECT tag, yanked, yank_reason FROM version WHERE repository = $1 AND yanked > 0")
            .bind(repository.as_str())
            .fetch_all(self.0.database.pool())
            .await?;
        let mut yanks = BTreeMap::new();
        for row in &rows {
            let yanked = Yanked { at: timestamp(row.try_get("yanked")?), reason: row.try_get("yank_reason")? };
            yanks.insert(row.try_get("tag")?, yanked);
        }
        Ok(yanks)
    }

    /// What a version has beside its bytes.
    pub(crate) async fn details(&self, repository: &Repository, version: &Tag) -> Result<Details, Refusal> {
        let (subject, media_type) = self.resolve(repository, &Reference::Tag(version.clone())).await?;
        let bytes = self.manifest_bytes(&subject).await?;
        let manifest = Manifest::parse(&bytes, &media_type)?;
        let layer = match manifest.layers.as_slice() {
            [layer] if layer.media_type == WASM => Some((layer.digest, layer.size)),
            _ => None,
        };
        let rows = sqlx::query(
            "SELECT r.digest AS digest, b.size AS size FROM manifest m JOIN reference r \
             ON r.repository = m.repository AND r.manifest = m.digest JOIN blob b ON b.digest = r.digest \
             WHERE m.repository = $1 AND m.subject = $2 AND m.artifact_type LIKE $3 AND b.size > 2 AND b.size <= $4 \
             ORDER BY m.pushed, r.digest LIMIT $5",
        )
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind("application/vnd.dev.sigstore.bundle.%")
        .bind(i64::try_from(BUNDLE).unwrap_or(i64::MAX))
        .bind(BUNDLES)
        .fetch_all(self.0.database.pool())
        .await?;
        let mut signed = Vec::new();
        for row in &rows {
            signed.extend(self.signed(&digest(row, "digest")?, &subject).await?);
        }
        Ok(Details { annotations: manifest.annotations.into_iter().collect(), layer, signed })
    }

    /// What the bundle says, if it is one.
    async fn signed(&self, bundle: &Digest, subject: &Digest) -> Result<Option<Signed>, Failure> {
        let (blobs, wanted, subject) = (self.0.blobs.clone(), *bundle, *subject);
        let read = blocking(move || Ok::<_, Failure>(read_bundle(&blobs.read(&wanted, BUNDLE)?, &subject))).await?;
        let Some((mut signed, leaf)) = read else { return Ok(None) };
        signed.bundle = *bundle;
        if let Some(leaf) = leaf {
            let row = sqlx::query("SELECT log_index FROM log_entry WHERE leaf = $1")
                .bind(crate::hex(&leaf.0))
                .fetch_optional(self.0.database.pool())
                .await?;
            let index = row.map(|row| row.try_get::<i64, _>("log_index")).transpose()?;
            signed.logged = index.and_then(|index| u64::try_from(index).ok());
        }
        Ok(Some(signed))
    }
}

/// What a bundle about `subject` says, with the hash of its entry in a log. The signature is checked with the key that the
/// entry or the certificate shows; whether that key may speak for the namespace is for whoever runs the component.
fn read_bundle(bytes: &[u8], subject: &Digest) -> Option<(Signed, Option<Hash>)> {
    let bundle = Bundle::from_json(std::str::from_utf8(bytes).ok()?).ok()?;
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else { return None };
    let statement: Value = serde_json::from_slice(envelope.payload.as_bytes()).ok()?;
    let entry = bundle.verification_material.tlog_entries.first();
    let body = entry.map(|entry| entry.canonicalized_body.as_bytes());
    let hex = subject.hex();
    let about = statement["subject"]
        .as_array()
        .is_some_and(|subjects| subjects.iter().any(|other| other["digest"]["sha256"].as_str() == Some(hex.as_str())));
    let signer = if about { signer(&bundle, envelope, body) } else { Err("it is about something else".to_owned()) };
    let ceiling = statement["predicate"].get("ceiling").map(|ceiling| format!("{ceiling:#}"));
    let predicate = statement["predicateType"].as_str().unwrap_or_default().chars().take(200).collect();
    let signed = Signed { predicate, signer, logged: None, bundle: *subject, ceiling };
    Some((signed, body.map(Hash::leaf)))
}

fn signer(bundle: &Bundle, envelope: &sigstore_types::DsseEnvelope, body: Option<&[u8]>) -> Result<String, String> {
    let no_key = || "its key is not shown".to_owned();
    let (key, name) = match &bundle.verification_material.content {
        VerificationMaterialContent::Certificate(certificate) => {
            let info = parse_certificate_info(&certificate.raw_bytes).map_err(|error| error.to_string())?;
            let identity = info.identity.as_ref().map(|identity| identity.as_str().to_owned());
            let issuer = info.issuer.map(|issuer| format!(", by {issuer}")).unwrap_or_default();
            (
                info.public_key,
                format!("{}{issuer}", identity.unwrap_or_else(|| "a certificate without a name".to_owned())),
            )
        }
        _ => {
            let body: Value = serde_json::from_slice(body.ok_or_else(no_key)?).map_err(|_| no_key())?;
            let verifier = body["spec"]["signatures"][0]["verifier"].as_str().ok_or_else(no_key)?;
            let pem = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, verifier).map_err(|_| no_key())?;
            let pem = String::from_utf8(pem).map_err(|_| no_key())?;
            let key = DerPublicKey::from_pem(&pem).or_else(|_| {
                DerCertificate::from_pem(&pem)
                    .ok()
                    .and_then(|der| parse_certificate_info(&der).ok())
                    .map(|info| info.public_key)
                    .ok_or_else(no_key)
            })?;
            let name = format!("the key {}", Digest::of(key.as_bytes()));
            (key, name)
        }
    };
    let key = VerificationKey::from_spki(&key).map_err(|error| error.to_string())?;
    key.verify(envelope.pae(), &envelope.signature.sig).map_err(|_| "its signature does not hold".to_owned())?;
    Ok(name)
}
