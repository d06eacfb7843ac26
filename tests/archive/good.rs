//! Archives that must be taken, of many makers.

use crate::build::{COMMIT, CONFIG, Member, Tar, gzip, metadata, record, seed, seed_and, zip, zip_with, zstd};
use crate::hostile::sparse;
use crate::rig::{Rig, below, inspect};
use std::path::Path;
use std::process::Command;

/// Imported from a file and through a pipe, each time into an empty volume; gives the last rig.
#[track_caller]
fn taken(name: &str, bytes: &[u8]) -> Rig {
    let file = Rig::new();
    let archive = file.archive(name, bytes);
    let done = file.import(&archive).done();
    assert_eq!(done["commit"], COMMIT, "{name}");
    file.assert_tidy();
    let pipe = Rig::new();
    assert_eq!(pipe.pipe(&archive).done()["manifest"], done["manifest"], "{name}");
    assert_eq!(pipe.files(), file.files(), "{name}");
    assert_eq!(inspect(&archive).done()["manifest"], done["manifest"], "{name}");
    file
}

#[test]
fn four_kinds_are_told_apart_by_their_bytes() {
    let tar = Tar::seed().end();
    for (name, bytes) in [
        ("a.zip", tar.clone()),
        ("a.tar", gzip(&tar)),
        ("a.tgz", zstd(&tar)),
        ("a.tar.zst", zip(&seed())),
        ("a", zip(&seed().into_iter().map(Member::deflated).collect::<Vec<_>>())),
    ] {
        assert_eq!(
            taken(name, &bytes).files().into_iter().collect::<Vec<_>>(),
            [("config.json".into(), CONFIG.to_vec())]
        );
    }
}

#[test]
fn odd_but_honest_streams() {
    let tar = Tar::seed().end();
    let (one, two) = tar.split_at(900);
    let mut padded = tar.clone();
    padded.resize(10_240, 0);
    for (name, bytes) in [
        ("concatenated gzip", [gzip(one), gzip(two)].concat()),
        ("zeros behind gzip", [gzip(&tar), vec![0; 5000]].concat()),
        ("zstd of frames", [zstd(one), zstd(two)].concat()),
        ("zstd with a skippable frame", [b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec(), zstd(&tar)].concat()),
        ("a padded tar", padded),
        ("one zero block", tar[..tar.len() - 512].to_vec()),
        ("something behind the end", [tar.clone(), b"rubbish".repeat(500)].concat()),
        ("a label", [Tar::new().member(b"label", b'V', b"", b"").0, tar.clone()].concat()),
        (
            "a comment for all",
            [Tar::new().member(b"pax_global_header", b'g', b"", &record("comment", b"abc")).0, tar].concat(),
        ),
        (
            "a zip with a comment",
            zip_with(&seed(), |end| {
                end[20] = 5;
                end.extend_from_slice(b"hello");
            }),
        ),
        ("zip with descriptors", zip(&seed().into_iter().map(|m| m.deflated().described()).collect::<Vec<_>>())),
        ("stored zip with descriptors", zip(&seed().into_iter().map(Member::described).collect::<Vec<_>>())),
        ("zip64 fields", zip(&seed().into_iter().map(|m| Member { is_zip64: true, ..m }).collect::<Vec<_>>())),
        (
            "zip of FAT",
            zip(&[
                Member { made_by: 0, mode: 0, ..Member::new("m\\model_metadata.json", metadata().as_bytes()) },
                Member { made_by: 0, mode: 0, ..Member::new("m\\model\\", b"") },
                Member { made_by: 0, mode: 0, ..Member::new("m\\model\\config.json", CONFIG) },
            ]),
        ),
    ] {
        assert_eq!(taken(name, &bytes).files()["config.json"], CONFIG, "{name}");
    }
}

#[test]
fn metadata_last_with_a_bom_and_nulls_keeps_every_field() {
    let text = format!(
        "\u{feff}{{\"commitHash\":\"{COMMIT}\",\"downloadDate\":1698300636139,\"downloadedBy\":\"admin\",\"lastUsedBy\":null,\"custom\":[1],\
         \"modelDefinition\":{{\"key\":\"hf@org/tiny\",\"own\":2}},\"sizeInBytes\":7,\"tags\":[\"a\"],\"url\":\"u\",\"version\":0}}"
    );
    let rig = Rig::new();
    let archive =
        Tar::new().file("./m/model/config.json", CONFIG).file("./m/model_metadata.json", text.as_bytes()).end();
    let ended = rig.import(&rig.archive("a", &archive));
    assert!(ended.log.contains("says 7 bytes"), "{}", ended.log);
    let kept = ended.done()["metadata"].clone();
    assert_eq!(kept["sizeInBytes"], CONFIG.len());
    assert_eq!((&kept["downloadDate"], &kept["downloadedBy"]), (&1_698_300_636_139_i64.into(), &"admin".into()));
    assert_eq!((&kept["custom"][0], &kept["modelDefinition"]["own"]), (&1.into(), &2.into()));
    assert!(kept.get("lastUsedBy").is_none());
}

#[test]
fn what_belongs_to_tools_is_left_out() {
    let tar = Tar::seed()
        .file("m/model/.git/config", b"x")
        .file("m/model/.git/lfs/objects/aa", b"version https://git-lfs.github.com/spec/v1\n")
        .symlink("m/model/.git/hooks", "/elsewhere")
        .file("m/model/.cache/huggingface/download/x.metadata", b"x")
        .file("m/model/.DS_Store", b"x")
        .file("m/model/._config.json", b"x")
        .file("._m", b"x")
        .file("__MACOSX/m/model/x", b"x")
        .file("m/README.txt", b"x")
        .file("notes.txt", b"x")
        .file("m/model/.gitattributes", b"kept")
        .file("m/model/.cache/other", b"kept");
    let rig = Rig::new();
    let ended = rig.import(&rig.archive("a", &tar.end()));
    assert!(ended.log.contains("README.txt") && ended.log.contains("notes.txt"), "{}", ended.log);
    ended.done();
    assert_eq!(rig.files().into_keys().collect::<Vec<_>>(), [".cache/other", ".gitattributes", "config.json"]);
}

#[test]
fn links_inside_become_copies_before_and_after_their_files() {
    let tar = Tar::new()
        .metadata()
        .symlink("m/model/before", "../blobs/one")
        .file("m/blobs/one", b"one")
        .symlink("m/model/after", "../blobs/one")
        .symlink("m/model/sub/chain", "../after")
        .file("m/model/two", b"two")
        .hard_link("m/model/two-again", "m/model/two");
    let rig = taken("links", &tar.end());
    let files: Vec<_> =
        rig.files().into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect();
    let expected = [("after", "one"), ("before", "one"), ("sub/chain", "one"), ("two", "two"), ("two-again", "two")];
    assert_eq!(files, expected.map(|(name, bytes)| (name.to_owned(), bytes.to_owned())));
    let link = Member { mode: 0o120_777, ..Member::new("m/model/link", b"config.json") }.deflated();
    assert_eq!(taken("a link in a zip", &zip(&seed_and([link]))).files()["link"], CONFIG);
    let published = rig.volume().join("hub/models--org--tiny/snapshots").join(COMMIT);
    assert!(std::fs::symlink_metadata(published.join("before")).unwrap().is_file());
}

#[test]
fn holes_long_names_and_large_numbers() {
    let spans = [(512, 512), (2048, 512)];
    let mut big = Tar::header(b"m/model/base256", b'0', 0, b"");
    big.as_old_mut().size = *b"\x80\0\0\0\0\0\0\0\0\0\0\x05";
    big.set_cksum();
    let long = format!("m/model/{}/{}", "a".repeat(150), "b".repeat(150));
    let tar = Tar::seed()
        .raw(&sparse(b"m/model/holes", &spans, 3000, 1024), &[7; 1024])
        .raw(&big, b"12345")
        .member(b"././@LongLink", b'L', b"", format!("{long}\0").as_bytes())
        .file("short", b"long")
        .pax("path", "m/model/\u{e9}".as_bytes())
        .file("short", b"pax")
        .pax("size", b"3")
        .raw(&Tar::header(b"m/model/sized", b'0', 0, b""), b"abc");
    let files = taken("fields", &tar.end()).files();
    let holes = [vec![0; 512], vec![7; 512], vec![0; 1024], vec![7; 512], vec![0; 440]].concat();
    assert!(files["holes"] == holes);
    assert_eq!(files["base256"], b"12345");
    assert_eq!(files[long.strip_prefix("m/model/").unwrap()], b"long");
    assert_eq!((&files["\u{e9}"][..], &files["sized"][..]), (&b"pax"[..], &b"abc"[..]));
}

#[test]
fn a_list_of_checksums_proves_the_files() {
    let sum = crate::fakehub::sha256(CONFIG);
    let rig = Rig::new();
    let list = format!("{sum} *model/config.json\r\n{sum}  model_metadata.json\r\n");
    let proved = rig.archive("proved", &Tar::seed().file("m/SHA256SUMS", list.as_bytes()).end());
    assert!(rig.import(&proved).done().get("unverified").is_none());
    assert_eq!(std::fs::read_to_string(rig.entry().join("SHA256SUMS")).unwrap(), format!("{sum}  model/config.json\n"));
    let other = Rig::new();
    let plain = other.archive("plain", &Tar::seed().end());
    for _ in 0..2 {
        assert!(other.import(&plain).done()["unverified"].as_str().unwrap().contains("SHA256SUMS"));
    }
}

#[test]
fn a_model_without_a_commit_gets_one_from_its_files() {
    let rig = Rig::new();
    let text = r#"{"commitHash":"","modelDefinition":{"key":"hf@org/tiny"},"url":"u","version":0}"#;
    let tar = Tar::new().file("m/model_metadata.json", text.as_bytes()).file("m/model/config.json", CONFIG).end();
    let done = rig.import(&rig.archive("a", &tar)).done();
    let digest = done["manifest"]["sha256"].as_str().unwrap();
    assert_eq!(done["commit"].as_str().unwrap(), &digest[..40]);
    assert_eq!(done["metadata"]["commitHash"], done["commit"]);
}

/// The seed's example, made by hand: its folder by `git clone`, its JSON from the documentation.
pub(crate) fn seeds_example(place: &Path) {
    let model = place.join("sentence-transformers_2fall-MiniLM-L6-v2/model");
    std::fs::create_dir_all(model.join("1_Pooling")).unwrap();
    std::fs::create_dir_all(model.join(".git")).unwrap();
    std::fs::write(model.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    for name in ["1_Pooling/config.json", "README.md", "config.json", "pytorch_model.bin", "vocab.txt"] {
        std::fs::write(model.join(name), name.repeat(1000)).unwrap();
    }
    let text = format!(
        r#"{{
    "commitHash": "{COMMIT}",
    "downloadDate": 1698300636139,
    "downloadedBy": "admin",
    "lastDssUsage": 1699570884724,
    "lastModified": "2022-11-07T08:44:33.000Z",
    "lastUsedBy": "admin",
    "libraryName": "sentence-transformers",
    "modelDefinition": {{
        "key": "hf@sentence-transformers/all-MiniLM-L6-v2"
    }},
    "pipelineName": "sentence-similarity",
    "sizeInBytes": 91652688,
    "taggedLanguages": [
        "en"
    ],
    "tags": [
        "sentence-transformers",
        "region:us"
    ],
    "url": "https://huggingface.co/sentence-transformers%2Fall-MiniLM-L6-v2/tree/main",
    "version": 0
}}"#
    );
    std::fs::write(model.parent().unwrap().join("model_metadata.json"), text).unwrap();
}

#[test]
fn the_seeds_example_made_with_other_peoples_tools() {
    let rig = Rig::new();
    seeds_example(rig.place.path());
    let mut made = 0;
    for (needs, shell) in [
        ("tar", "tar cf a.tar sent*"),
        ("tar", "tar --format=pax -cf pax.tar ./sent*"),
        ("tar", "tar --format=v7 -cf v7.tar sent*"),
        ("tar", "tar --format=ustar -cf ustar.tar sent*"),
        ("tar", "tar czf a.tgz sent*"),
        ("zstd", "tar cf - sent* | zstd -q -T0 >a.tar.zst"),
        ("bsdtar", "bsdtar cf b.tar sent*"),
        ("bsdtar", "bsdtar cf b.zip --format zip sent*"),
        ("zip", "zip -qr a.zip sent*"),
        ("zip", "zip -qr - sent* | cat >stream.zip"),
        ("zip", "zip -qr -fz zip64.zip sent*"),
        ("python3", "python3 -m zipfile -c p.zip sent*"),
        ("python3", "python3 -m tarfile -c p.tar sent*"),
        (
            "git",
            "git init -q g && cp -r sent* g && cd g && git add . && git -c user.name=a -c user.email=b commit -qm c && git archive -o ../g.tar HEAD",
        ),
    ] {
        let has = |program: &str| {
            Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().unwrap().success()
        };
        if !has(needs) {
            continue;
        }
        let before = below(rig.place.path());
        let status =
            Command::new("sh").args(["-c", &format!("LC_ALL=C.UTF-8; {shell}")]).current_dir(rig.place.path()).status();
        assert!(status.unwrap().success(), "{shell}");
        let archive =
            below(rig.place.path()).into_keys().find(|name| !before.contains_key(name) && !name.contains('/'));
        let one = Rig::new();
        let done = one.import(&rig.path(&archive.unwrap())).done();
        assert_eq!(done["manifest"]["files"], 5, "{shell}");
        assert_eq!(
            (&done["metadata"]["lastDssUsage"], &done["metadata"]["tags"][1]),
            (&1_699_570_884_724_i64.into(), &"region:us".into())
        );
        let model = one.volume().join("entries/sentence-transformers_2fall-MiniLM-L6-v2/model");
        assert_eq!(below(&model)["vocab.txt"], "vocab.txt".repeat(1000).as_bytes(), "{shell}");
        made += 1;
    }
    assert!(made >= 5, "too few tools on this machine");
}

#[test]
fn a_long_file_takes_little_memory() {
    const BYTES: u64 = 300 << 20;
    let rig = Rig::new();
    let header = Tar::header(b"m/model/weights.bin", b'0', BYTES, b"");
    let tar = Tar::seed().raw(&header, b"");
    let archive = rig.archive("a", &tar.0);
    // Zeros that take no room, and the end marker with them.
    std::fs::File::options().write(true).open(&archive).unwrap().set_len(tar.0.len() as u64 + BYTES + 1024).unwrap();
    let import = rig.command(&archive);
    let figures = rig.path("figures");
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["--quiet", "-f", "%M", "-o"]).arg(&figures).arg(import.get_program()).args(import.get_args());
    timed.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    // GNU time is not everywhere.
    let Ok(status) = timed.status() else { return };
    assert!(status.success());
    let kib: u64 = std::fs::read_to_string(figures).unwrap().trim().parse().unwrap();
    assert!(kib <= 96 * 1024, "{kib} KiB");
}
