//! Archives as others read them.

use crate::rig::{Files, ROOT, Rig, files, have, publish, succeed};
use modelcache::format::archive::write::{Container, FileFacts, Frame};
use modelcache::format::metadata::ModelMetadata;
use modelcache::format::outcome::Archive;
use modelcache::format::task::Usage;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

const ALL: [&str; 4] = ["model.tar", "model.tar.gz", "model.tar.zst", "model.zip"];

async fn written(rig: &Rig, path: &Path) -> Archive {
    let archive = rig.run().await.unwrap().done.archive.unwrap();
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((archive.sha256.to_string(), archive.size_bytes), (crate::fakehub::sha256(&bytes), bytes.len() as u64));
    archive
}

/// What was unpacked is the model, and its list holds.
fn assert_unpacked(folder: &Path, files: &Files) {
    let root = folder.join(ROOT);
    for (path, bytes) in files {
        assert!(std::fs::read(root.join("model").join(path)).unwrap() == *bytes, "{path}");
    }
    let sums = std::fs::read_to_string(root.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), files.len());
    succeed(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&root));
    ModelMetadata::parse(&std::fs::read_to_string(root.join("model_metadata.json")).unwrap()).unwrap();
}

const PYTHON: &str = "
import sys, tarfile, zipfile
path, into = sys.argv[1:]
if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(into)
else:
    with tarfile.open(path) as archive:
        archive.extractall(into, filter='data')
";

#[tokio::test]
async fn other_peoples_programs_read_them() {
    let mut rig = Rig::new();
    for name in ALL {
        let path = rig.to(name);
        written(&rig, &path).await;
        let text = path.to_str().unwrap();
        let readers: &[(&str, &[&str])] = match name {
            "model.zip" => &[("unzip", &["-q", text]), ("bsdtar", &["-xf", text])],
            _ => &[("tar", &["--extract", "--file", text]), ("bsdtar", &["-xf", text])],
        };
        for (program, words) in readers {
            if !have(program) {
                eprintln!("{program} is not on this machine: it does not judge {name}");
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new(program);
            // What GNU tar and unzip warn of is wrong. Names are bytes; Info-ZIP asks the locale.
            let said = succeed(command.args(*words).env("LC_ALL", "C.UTF-8").current_dir(&folder));
            assert_eq!(said, "", "{program} {name}");
            assert_unpacked(folder.path(), &files());
        }
        // Python's tarfile knows zstd from 3.14 on.
        if name != "model.tar.zst" {
            let folder = tempfile::tempdir().unwrap();
            succeed(Command::new("python3").args(["-c", PYTHON, text, folder.path().to_str().unwrap()]));
            assert_unpacked(folder.path(), &files());
        }
    }
}

#[tokio::test]
async fn the_same_model_has_the_same_bytes_from_any_volume() {
    let (mut one, mut other) = (Rig::new(), Rig::new());
    // What lies in the snapshot without being listed is another entry's.
    std::fs::write(other.snapshot().join("extra"), "extra").unwrap();
    for name in ALL {
        let (first, second) = (one.to(name), other.to(name));
        assert_eq!(written(&one, &first).await, written(&other, &second).await, "{name}");
        assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
    }
}

#[tokio::test]
async fn members_are_sorted_and_say_nothing_of_the_machine() {
    let mut rig = Rig::new();
    let path = rig.to("model.tar");
    written(&rig, &path).await;
    let listing =
        succeed(Command::new("tar").args(["--list", "--verbose", "--full-time", "--utc", "--file"]).arg(&path));
    let lines: Vec<&str> = listing.lines().collect();
    assert!(lines[0].starts_with("drwxr-xr-x 0/0 ") && lines[0].ends_with(&format!(" 1980-01-01 00:00:00 {ROOT}/")));
    assert!(lines.iter().all(|line| line.contains(" 0/0 ") && line.contains(" 1980-01-01 00:00:00 ")), "{listing}");
    let names: Vec<_> = lines.iter().map(|line| line.split(" 00:00:00 ").nth(1).unwrap()).collect();
    assert_eq!(names[1..3], [format!("{ROOT}/SHA256SUMS"), format!("{ROOT}/model/")]);
    assert_eq!(names[names.len() - 1], format!("{ROOT}/model_metadata.json"));
    let again = rig.to("again.tar.zst");
    written(&rig, &again).await;
    assert_eq!(rig.names().len(), 2);
}

#[tokio::test]
async fn the_seed_names_no_list_and_the_latest_use_is_inside() {
    let mut rig = Rig::new();
    let path = rig.to("model.zip");
    rig.export().seed_strict = true;
    rig.export().usage = Some(Usage { at_ms: 7, by: "grace".into() });
    let finished = rig.run().await.unwrap();
    assert_eq!(finished.metadata().unwrap().last_used_by.as_deref(), Some("grace"));
    let folder = tempfile::tempdir().unwrap();
    succeed(Command::new("unzip").arg("-q").arg(&path).env("LC_ALL", "C.UTF-8").current_dir(&folder));
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path().join(ROOT)).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["model", "model_metadata.json"]);
    let text = std::fs::read_to_string(folder.path().join(ROOT).join("model_metadata.json")).unwrap();
    let metadata = ModelMetadata::parse(&text).unwrap();
    assert_eq!((metadata.last_dss_usage, metadata.last_used_by.as_deref()), (Some(7), Some("grace")));
    assert!(metadata.extra.contains_key("unknown"));

    // An older use than the volume's own is no news.
    rig.to("older.tar");
    rig.export().usage = Some(Usage { at_ms: 4, by: "old".into() });
    assert_eq!(rig.run().await.unwrap().metadata().unwrap().last_used_by.as_deref(), Some("ada"));
}

#[tokio::test]
async fn an_archive_that_is_there_is_left_alone() {
    let mut rig = Rig::new();
    for name in ALL {
        let path = rig.to(name);
        let archive = written(&rig, &path).await;
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(written(&rig, &path).await, archive);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
        for change in ["longer", "changed", "shorter"] {
            let mut bytes = std::fs::read(&path).unwrap();
            match change {
                "longer" => bytes.push(0),
                "changed" => bytes[600] ^= 1,
                _ => bytes.truncate(700),
            }
            std::fs::write(&path, &bytes).unwrap();
            let message = rig.fails(modelcache::ident::Reason::Conflict).await;
            assert!(message.contains(name), "{message}");
            assert!(std::fs::read(&path).unwrap() == bytes);
            std::fs::remove_file(&path).unwrap();
            written(&rig, &path).await;
        }
    }
}

/// Writes an archive of members whose bytes are holes, and reads it with Python's programs.
fn holes(container: Container, members: impl Iterator<Item = (String, u64)>, script: &str) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("archive");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut frame = Frame::new(container);
    for (path, size) in members {
        // Bytes that are read have a CRC; that of a single zero byte is known.
        let facts = FileFacts { size, crc32: if size == 1 { 0xd202_ef8d } else { 0 } };
        file.write_all(&frame.before_file(&path, facts)).unwrap();
        file.seek_relative(size.try_into().unwrap()).unwrap();
        file.write_all(frame.after_file(facts)).unwrap();
    }
    file.write_all(&frame.end()).unwrap();
    file.flush().unwrap();
    assert_eq!(frame.length(), std::fs::metadata(&path).unwrap().len());
    succeed(Command::new("python3").args(["-c", script]).arg(&path));
    if container == Container::Tar {
        succeed(Command::new("tar").arg("--list").arg("--file").arg(&path));
    }
}

/// The counters of 16 bits end at 65,535.
#[test]
fn a_zip_of_many_members() {
    let script = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    assert len(archive.namelist()) == 66_000
    assert archive.testzip() is None
    assert archive.read('65/65999') == b'\\0' and archive.read('65/65998') == b''
";
    holes(Container::Zip, (0..66_000).map(|n| (format!("{}/{n}", n / 1000), n % 2)), script);
}

#[test]
fn members_over_the_limits_of_old_formats() {
    let members =
        || [("large", 5 << 30), ("larger", 9 << 30), ("after", 1)].map(|(name, size)| (name.to_owned(), size));
    let script = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    assert [one.file_size for one in archive.infolist()] == [5 << 30, 9 << 30, 1]
    assert archive.read('after') == b'\\0'
";
    holes(Container::Zip, members().into_iter(), script);
    let script = "
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    assert [one.size for one in archive] == [5 << 30, 9 << 30, 1]
    assert archive.extractfile('after').read() == b'\\0'
";
    holes(Container::Tar, members().into_iter(), script);
}

#[tokio::test]
async fn a_folder_in_the_volume() {
    let mut rig = Rig::new();
    let team = rig.volume().join("team/a");
    publish(&team, vec![("only".into(), b"this".to_vec())]);
    rig.task.sub_path = Some("team/a".parse().unwrap());
    let done = rig.run().await.unwrap().done;
    assert_eq!(done.path.unwrap().as_str(), format!("team/a/entries/{ROOT}/model"));
    assert_eq!(done.manifest.unwrap().files, 1);
}
