//! `maitred doctor`: what is wrong, what it means and what to do.

use std::io::{self, Write};

use clap::Args;
use owo_colors::AnsiColors;

use super::text::{Style, counted, pad, printable, wrap};
use super::{Common, Exit, Overrides, logging};
use crate::config::Settings;
use crate::doctor::{Check, Finding, Report, Status, examine};

/// Columns of the longest word for a status, with its gap.
const STATUS: usize = 9;
/// Columns of the words before what a finding means and what to do.
const LABEL: usize = 7;

/// Looks at the settings, the servers, the rights of their logins, the models, this machine and its clock.
///
/// Nothing is changed. Run it as a worker runs: with its settings, as its user, on its machine. Ends with 0 if nothing
/// has failed, with 1 if something has; warnings do not count.
#[derive(Debug, Clone, Copy, Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub async fn run(args: DoctorArgs, common: &Common) -> anyhow::Result<Exit> {
    let file = common.file();
    let config = common.load(&Overrides::default());
    match &config {
        Ok(config) => logging::init(&config.settings.log),
        // Those that are built in.
        Err(_) => logging::init(&Settings::default().log),
    }
    let report = examine(config.as_ref(), file.as_deref()).await;
    print(&report, args.json, common.quiet, &mut io::stdout().lock())?;
    Ok(if report.healthy { Exit::Ok } else { Exit::Failed })
}

fn print(report: &Report, json: bool, quiet: bool, to: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *to, report)?;
        return writeln!(to);
    }
    to.write_all(text(report, quiet, Style::of_stdout()).as_bytes())
}

/// A line for each finding, and two more for each that is not well. Quietly, only what is to be mended is shown.
fn text(report: &Report, quiet: bool, style: Style) -> String {
    let checks = Check::ALL.iter().map(|check| check.name().len()).max().unwrap_or(0);
    let shown = |finding: &&Finding| !quiet || matches!(finding.status, Status::Warn | Status::Fail);
    let lines = report.findings.iter().filter(shown).map(|finding| block(finding, checks + 2, style));
    lines.collect::<String>() + &summary(report, style)
}

fn block(finding: &Finding, checks: usize, style: Style) -> String {
    let status = pad(finding.status.name(), STATUS);
    let status = match finding.status {
        Status::Ok => style.paint(&status, AnsiColors::Green),
        Status::Skipped => style.dim(&status),
        Status::Warn => style.paint(&status, AnsiColors::Yellow),
        Status::Fail => style.paint(&status, AnsiColors::Red),
    };
    let indent = STATUS + checks;
    let saw = match finding.code {
        Some(code) => format!("{} [{code}]", finding.saw),
        None => finding.saw.clone(),
    };
    let mut saw = hang(&saw, indent, style).into_iter();
    let first = saw.next().unwrap_or_default();
    let mut text = format!("{status}{}{first}\n", pad(finding.check.name(), checks));
    text.extend(saw.map(|line| format!("{}{line}\n", " ".repeat(indent))));
    // What was skipped has its reason in the line above.
    let means = finding.means.as_deref().filter(|_| finding.status != Status::Skipped);
    let said = [("means", means), ("mend", finding.mend.as_deref()), ("run", finding.command.as_deref())];
    text + &said.iter().filter_map(|(label, said)| Some(labelled(label, (*said)?, style))).collect::<String>()
}

/// A line below a finding.
fn labelled(label: &str, said: &str, style: Style) -> String {
    // A command is copied, so it is not broken.
    let lines = if label == "run" { vec![printable(said)] } else { hang(said, STATUS + LABEL, style) };
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    let line = |(label, line): (&str, String)| {
        format!("{}{}{line}\n", " ".repeat(STATUS), style.dim(&pad(label, LABEL)))
    };
    labels.zip(lines).map(line).collect()
}

fn hang(text: &str, indent: usize, style: Style) -> Vec<String> {
    wrap(&printable(text), style.width.saturating_sub(indent))
}

fn summary(report: &Report, style: Style) -> String {
    let counts = report.counts;
    let verdict = if report.healthy {
        style.paint("nothing has failed", AnsiColors::Green)
    } else {
        style.paint(&format!("{} failed", counts.fail), AnsiColors::Red)
    };
    let parts = [
        verdict,
        counted(counts.warn as u64, "warning"),
        format!("{} well", counts.ok),
        format!("{} skipped", counts.skipped),
    ];
    format!("\n{}\n", parts.join(style.dot()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::catalogue;
    use time::macros::datetime;

    const STYLE: Style = Style { width: 80, color: false, unicode: true };

    fn report() -> Report {
        let findings = vec![
            Finding::ok(Check::NatsVersion, "2.14.6"),
            Finding::known(
                &catalogue::NATS_MISSING,
                "1 of 12 missing",
                &[("objects", &"stream REVIEW_JOBS")],
            ),
            Finding::skipped(Check::RedisConnection, "`redis.url` is none", "set `redis.url`"),
            Finding::behind(Check::NatsLatency, Check::NatsJetStream),
        ];
        let mut report = Report::new(datetime!(2026-06-15 12:00 UTC), findings);
        report.findings.retain(|finding| finding.saw != "nothing was said of it");
        report
    }

    #[test]
    fn a_finding_is_a_line_and_what_is_not_well_says_what_to_do_below_it() {
        let text = text(&report(), false, STYLE);
        let expected = "\
ok       nats.version         2.14.6
fail     nats.streams         1 of 12 missing [nats.missing]
         means  stream REVIEW_JOBS is not there, and workers make nothing
         mend   let an operator make what is missing
         run    maitred init
skipped  nats.latency         needs nats.jetstream
         mend   mend nats.jetstream first
skipped  redis.connection     `redis.url` is none
         mend   set `redis.url`
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\n1 failed · 0 warnings · 1 well · "), "{text}");
    }

    #[test]
    fn quietly_only_what_is_to_be_mended_is_shown() {
        let text = text(&report(), true, STYLE);
        assert!(text.starts_with("fail     nats.streams"), "{text}");
        assert!(!text.contains("redis.connection") && !text.contains("2.14.6"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines_but_whole_commands() {
        let text = text(&report(), false, Style { width: 44, ..STYLE });
        assert!(text.lines().all(|line| line.chars().count() <= 44 || line.contains("run")), "{text}");
    }
}
