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
    let mut err = std::io::stderr().lock();
    // On a terminal the line is written over itself, and cleared to its end.
    let _ = if err.is_terminal() {
        let bar = if report.bytes_total == 0 { String::new() } else { bar(percent(report)) };
        write!(err, "\r{bar}{}\x1b[K", line(report))
    } else {
        writeln!(err, "{}", line(report))
    };
}

/// How much is done. All of it only when it is.
fn percent(report: &Report) -> u64 {
    let percent = u128::from(report.bytes_done) * 100 / u128::from(report.bytes_total.max(1));
    if report.bytes_total == 0 { 100 } else { u64::try_from(percent).unwrap_or(100) }
}

/// ` 42 %  38.4 MB of 91.6 MB  3/17 files  20.1 MB/s  2 s left`
fn line(report: &Report) -> String {
    let Report { bytes_done, bytes_total, files_done, files_total, bytes_per_second } = *report;
    let rate = bytes(bytes_per_second);
    if bytes_total == 0 && bytes_done > 0 {
        // What comes through a pipe says nothing of its end.
        return format!("{} read  {rate}/s", bytes(bytes_done));
    }
    let mut text = format!("{:>3} %  {} of {}", percent(report), bytes(bytes_done), bytes(bytes_total));
    // Writing into a string cannot fail.
    if files_total > 0 {
        let _ = write!(text, "  {files_done}/{files_total} files");
    }
    let _ = write!(text, "  {rate}/s");
    let left = bytes_total.saturating_sub(bytes_done);
    if let Some(seconds) = left.checked_div(bytes_per_second).filter(|_| left > 0) {
        let _ = write!(text, "  {} left", time(seconds));
    }
    text
}

/// A time for people: `2 h 5 min`.
fn time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// `[#####     ]`
fn bar(percent: u64) -> String {
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
    use super::{Report, bar, bytes, line, time};

    #[test]
    fn a_bar_for_people() {
        assert_eq!(bar(0), "[                    ] ");
        assert_eq!(bar(49), "[#########           ] ");
        assert_eq!(bar(100), "[####################] ");
    }

    #[test]
    fn a_line_with_rate_and_time_left() {
        let report = Report {
            bytes_done: 38_400_000,
            bytes_total: 91_652_688,
            files_done: 3,
            files_total: 17,
            bytes_per_second: 20_100_000,
        };
        assert_eq!(line(&report), " 41 %  38.4 MB of 91.6 MB  3/17 files  20.1 MB/s  2 s left");
        // Nothing moves: nobody knows how long it takes.
        let stuck = Report { bytes_per_second: 0, ..report };
        assert_eq!(line(&stuck), " 41 %  38.4 MB of 91.6 MB  3/17 files  0 B/s");
        let nearly = Report { bytes_done: 91_652_687, ..report };
        assert!(line(&nearly).starts_with(" 99 %"), "{}", line(&nearly));
        let done = Report { bytes_done: 91_652_688, ..report };
        assert_eq!(line(&done), "100 %  91.6 MB of 91.6 MB  3/17 files  20.1 MB/s");
        assert!(line(&Report::default()).starts_with("100 %"), "an empty model");
    }

    #[test]
    fn times_for_people() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")] {
            assert_eq!(time(seconds), text);
        }
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
