//! A worker's task, as JSON: what a controller can read, a worker can read, and the source has one digest.

use modelcache::format::layout::Source;
use modelcache::format::task::{Task, Work};

pub(crate) fn check(json: &[u8]) {
    let Ok(task) = serde_json::from_slice::<Task>(json) else { return };
    // A path that is no text has no JSON; nobody can have read one from JSON.
    let written = serde_json::to_string(&task).expect("a task that was read can be written");
    let again: Task = serde_json::from_str(&written).expect("what is written can be read");
    assert_eq!(again, task);
    let (Work::Download(download), Work::Download(same)) = (&task.work, &again.work) else { return };
    assert_eq!(Source::of_download(download).digest(), Source::of_download(same).digest());
}
