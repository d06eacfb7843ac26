//! How far a task is, told again and again: to a controller as lines, to a person on stderr.

use crate::engine::progress::{Meter, Progress};
use crate::format::outcome::Progress as Report;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls `tell` as soon as the plan is known, and then at every `every`, until it is dropped.
pub(super) async fn tell(progress: Arc<Progress>, every: Duration, mut tell: impl FnMut(Report)) {
    progress.planned().await;
    let mut meter = Meter::default();
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let rate = meter.sample(Instant::now(), progress.bytes_fetched());
        tell(progress.report(rate));
    }
}

/// How often a person is told: a terminal shows a moving line, a file a line now and then.
pub(super) fn interval() -> Duration {
    Duration::from_millis(if std::io::stderr().is_terminal() { 500 } else { 5000 })
}

/// Tells a person.
pub(super) fn show(report: &Report) {
    let Report { bytes_done, bytes_total, files_done, files_total, bytes_per_second } = *report;
    if bytes_total == 0 && bytes_done > 0 {
        // What comes through a pipe says nothing of its end.
        return show_line(&format!("{} read  {}/s", bytes(bytes_done), bytes(bytes_per_second)));
    }
    let percent = if bytes_total == 0 { 100 } else { u128::from(bytes_done) * 100 / u128::from(bytes_total) };
    let bar = if std::io::stderr().is_terminal() { bar(percent) } else { String::new() };
    let mut text = format!("{bar}{percent:>3} %  {} of {}", bytes(bytes_done), bytes(bytes_total));
    if files_total > 0 {
        // Writing into a string cannot fail.
        let _ = write!(text, "  {files_done}/{files_total} files");
    }
    let _ = write!(text, "  {}/s", bytes(bytes_per_second));
    if let Some(left) = bytes_total.saturating_sub(bytes_done).checked_div(bytes_per_second) {
        let _ = write!(text, "  {left} s left");
    }
    show_line(&text);
}

fn show_line(text: &str) {
    let mut err = std::io::stderr().lock();
    // On a terminal the line is written over itself, and cleared to its end.
    let _ = if err.is_terminal() { write!(err, "\r{text}\x1b[K") } else { writeln!(err, "{text}") };
}

/// `[#####     ]`
fn bar(percent: u128) -> String {
    const WIDTH: usize = 20;
    let full = usize::try_from(percent).unwrap_or(0).min(100) * WIDTH / 100;
    format!("[{:WIDTH$}] ", "#".repeat(full))
}

/// Ends the moving line.
pub(super) fn clear() {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K");
    }
}

/// Bytes for people: `91.7 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut scaled = u128::from(count) * 10;
    let mut unit = 0;
    scaled /= 1000;
    while scaled >= 10_000 && unit + 1 < UNITS.len() {
        scaled /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 10, scaled % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{bar, bytes};

    #[test]
    fn a_bar_for_people() {
        assert_eq!(bar(0), "[                    ] ");
        assert_eq!(bar(49), "[#########           ] ");
        assert_eq!(bar(100), "[####################] ");
    }

    #[test]
    fn sizes_for_people() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (91_652_688, "91.6 MB"), (1 << 40, "1.0 TB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
