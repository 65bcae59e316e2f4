//! Signing as somebody, without a key of one's own: by a token of an OIDC issuer, and a certificate of some minutes.

use std::{path::PathBuf, time::Duration, time::SystemTime};

use anyhow::{Context as _, bail};
use clap::Args;
use witan_registry_client::{CertificateAuthority, Settings, github_token};
use witan_registry_sign::{Identity, IdentityToken, Log, Signed, SigningKey, Statement, TrustRoot};
use witan_registry_types::{Digest, Host};
use witan_system::System;
use zeroize::Zeroizing;

use crate::{
    Global,
    egress::CaArgument,
    registry::{place, secret_file},
    source, supply,
};

/// The token of a CI environment that gives one to each job, as other clients of Sigstore take it too.
const AMBIENT: &str = "SIGSTORE_ID_TOKEN";
/// Where GitHub Actions gives tokens out, and by which secret.
const GITHUB: [&str; 2] = ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"];

/// Longer than an authority takes, and shorter than anybody waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who signs, and who certifies it.
#[derive(Args)]
pub(crate) struct KeylessArguments {
    /// Sign as whom an identity token names, instead of with a key: with the token of the CI environment, unless
    /// `--identity-token` names one.
    #[arg(long, conflicts_with = "key")]
    keyless: bool,
    /// The file with an OIDC identity token; implies `--keyless`.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    identity_token: Option<PathBuf>,
    /// The certificate authority, of the shape of Fulcio's; without it, the one that the trusted root names.
    #[arg(long, value_name = "HOST", value_parser = host, conflicts_with = "key")]
    fulcio: Option<Host>,
    /// The trusted root that the signature must hold against; without it, that of the system or of `trust.toml`.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    trusted_root: Option<PathBuf>,
}

fn host(text: &str) -> Result<Host, String> {
    let place = place(text).map_err(|error| error.to_string())?;
    if place.mapping.is_some() { Err("name a host, without a path".to_owned()) } else { Ok(place.host) }
}

/// Somebody who may sign by a token.
pub(crate) struct Keyless {
    token: IdentityToken,
    authority: CertificateAuthority,
    root: TrustRoot,
}

impl KeylessArguments {
    /// Finds token, authority and root; the authority is not asked yet.
    pub(crate) async fn open(&self, global: &Global) -> anyhow::Result<Keyless> {
        let root = self.root(global)?;
        let settings = Settings {
            idle: PATIENCE / 2,
            total: PATIENCE,
            egress: CaArgument::usual().way(global)?,
            ..Settings::default()
        };
        let authority = match (&self.fulcio, root.authority()) {
            (Some(host), _) => host.clone(),
            (None, Some(address)) => host(address)
                .map_err(|error| anyhow::anyhow!("the trusted root names the authority `{address}`: {error}"))?,
            (None, None) => {
                bail!("the trusted root names no certificate authority or several; name one with `--fulcio`")
            }
        };
        let token = self.token(settings.clone()).await?;
        let token = IdentityToken::parse(&token, SystemTime::now())?;
        Ok(Keyless { token, authority: CertificateAuthority::new(authority, settings)?, root })
    }

    fn root(&self, global: &Global) -> anyhow::Result<TrustRoot> {
        let path = match &self.trusted_root {
            Some(path) => Some(path.clone()),
            None => {
                let system = source::find(global).ok().map(|file| System::load(&file)).transpose()?.unwrap_or_default();
                supply::root_path(&system)?
            }
        };
        let path = path.context(
            "a signature without a key is looked at before it is given away, against the authorities and logs that are \
             trusted: name their file with `--trusted-root`, or as `root` under [trust]",
        )?;
        supply::root_at(&path, SystemTime::UNIX_EPOCH)
    }

    async fn token(&self, settings: Settings) -> anyhow::Result<Zeroizing<String>> {
        if let Some(file) = &self.identity_token {
            return secret_file(file).map(Zeroizing::new);
        }
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Zeroizing::new);
        if let Some(token) = variable(AMBIENT) {
            return Ok(token);
        }
        let [address, secret] = GITHUB.map(variable);
        match (address, secret) {
            (Some(address), Some(secret)) => Ok(github_token(&address, &secret, settings).await?),
            _ => bail!(
                "this is no CI environment that gives identity tokens: give one with `--identity-token FILE`, or set \
                 `{AMBIENT}`; in GitHub Actions the job needs `permissions: id-token: write`"
            ),
        }
    }
}

impl Keyless {
    /// Who signs.
    pub(crate) fn identity(&self) -> &Identity {
        self.token.identity()
    }

    /// Signs statements about `digest` with a key that is made for it and forgotten, and has `log` witness them.
    pub(crate) async fn sign(
        &self,
        statements: &[Statement],
        digest: &Digest,
        log: &impl Log,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let key = SigningKey::generate()?;
        let certificate = self.authority.certify(&self.token, &key).await?;
        let mut bundles = Vec::new();
        for statement in statements {
            let bundle = Signed::certified(statement, &key, &certificate)?.witnessed(log).await?;
            // Whoever gave the certificate or the log's evidence may have given something else.
            let signer = self.root.signer(&bundle, digest).context(
                "nobody would believe this signature, and it was not given away; look whether authority, log and trusted root \
                 belong together",
            )?;
            if signer != *certificate.identity() {
                bail!("the signature is of {signer}, and was to be of {}", certificate.identity());
            }
            bundles.push(bundle);
        }
        Ok(bundles)
    }
}
