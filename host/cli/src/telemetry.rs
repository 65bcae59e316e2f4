//! Sets up what `[host.telemetry]` asks for.

use std::sync::Arc;

use anyhow::Context as _;
use witan_egress::Egress;
use witan_ledger::{Redaction, Redactor};
use witan_system::{System, Telemetry as Settings};
use witan_telemetry::{Export, Exporting, LogFile, LogSettings, Logs, Ratio, Retention, Ring, Rule, Sampling};
use zeroize::Zeroizing;

/// Sets logs up, masked by what secrets look like; a host adds what it knows and what its system says.
pub(crate) fn logs(settings: &LogSettings) -> anyhow::Result<Logs> {
    let logs = witan_telemetry::init(settings)?;
    // Nothing is hashed, so that there is nothing to guess.
    mask(&logs, Arc::new(Redactor::new(Redaction::default(), Zeroizing::new([0; 32]))));
    Ok(logs)
}

/// Masks lines as `redactor` does entries.
pub(crate) fn mask(logs: &Logs, redactor: Arc<Redactor>) {
    logs.mask_by(Arc::new(move |name: Option<&str>, text: String| match name {
        Some(name) => redactor.named(name, text),
        None => redactor.text(text),
    }));
}

/// What `[host.telemetry]` asked for, for as long as it lives. Each line that was logged is in its file when it is gone.
pub(crate) struct Telemetry {
    exporting: Option<Exporting>,
    ring: Ring,
}

/// Writes log lines to the file that `settings` name, and exports traces where they or the environment name a collector.
pub(crate) fn start(system: &System, logs: &Logs) -> anyhow::Result<Telemetry> {
    let settings = &system.host.telemetry;
    if let Some(path) = &settings.log_file {
        let retention = Retention { size: settings.log_size, files: settings.log_files, age: settings.log_age };
        logs.ring.write_to(LogFile::open(path, retention)?);
    }
    let wanted = is_exported(settings);
    let export = || anyhow::Ok(logs.traces.export_to(&export(settings, crate::egress::way(system)?))?);
    let exporting = wanted.then(export).transpose();
    Ok(Telemetry { exporting: exporting.context("traces cannot be exported")?, ring: logs.ring.clone() })
}

fn is_exported(settings: &Settings) -> bool {
    (settings.otlp.is_some() && !Export::switched_off()) || Export::in_environment()
}

/// The collector that traces of `system` go to, and whether it takes them; none where there is none.
pub(crate) async fn collector(system: &System) -> Option<(String, anyhow::Result<()>)> {
    let settings = &system.host.telemetry;
    if !is_exported(settings) {
        return None;
    }
    let name = settings.otlp.clone().unwrap_or_else(|| "that the `OTEL_EXPORTER_OTLP_…` variables name".to_owned());
    let tried = async { Ok(export(settings, crate::egress::way(system)?).try_out().await?) };
    Some((name, tried.await))
}

impl Telemetry {
    /// Exports what is left.
    pub(crate) async fn finish(&mut self) {
        if let Some(exporting) = self.exporting.take() {
            exporting.finish().await;
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.ring.flush();
    }
}

fn export(settings: &Settings, egress: Egress) -> Export {
    let rules = settings.rules.iter().map(|rule| Rule {
        intent: rule.intent.as_ref().map(ToString::to_string),
        component: rule.component.as_ref().map(ToString::to_string),
        ratio: Ratio::millionths(rule.sample_millionths),
    });
    let ratio = Ratio::millionths(settings.sample_millionths);
    Export {
        endpoint: settings.otlp.clone(),
        service: settings.service.clone(),
        sampling: Sampling { ratio, rules: rules.collect(), errors: settings.errors },
        egress,
        ..Export::default()
    }
}
