//! Sets up what `[host.telemetry]` asks for.

use anyhow::Context as _;
use witan_system::Telemetry;
use witan_telemetry::{Export, Exporting, LogFile, Logs, Ratio, Retention, Rule, Sampling};

/// Writes log lines to the file that `settings` name, and exports traces where they or the environment name a collector,
/// for as long as the result lives.
pub(crate) fn start(settings: &Telemetry, logs: &Logs) -> anyhow::Result<Option<Exporting>> {
    if let Some(path) = &settings.log_file {
        let retention = Retention { size: settings.log_size, files: settings.log_files, age: settings.log_age };
        logs.ring.write_to(LogFile::open(path, retention)?);
    }
    let wanted = (settings.otlp.is_some() && !Export::switched_off()) || Export::in_environment();
    if !wanted {
        return Ok(None);
    }
    let exporting = logs.traces.export_to(&export(settings)).context("traces cannot be exported")?;
    Ok(Some(exporting))
}

fn export(settings: &Telemetry) -> Export {
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
        ..Export::default()
    }
}
