//! The seed's two halves: what is made by hand is imported, what is exported is what its documentation asks for.

use crate::good::seeds_example;
use crate::rig::{BINARY, Rig, below};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const REPO: &str = "sentence-transformers/all-MiniLM-L6-v2";
const ROOT: &str = "sentence-transformers_2fall-MiniLM-L6-v2";

/// The unpacking of each kind by somebody else's program.
const READERS: [(&str, &str); 4] = [
    ("out.tar", "tar -xf out.tar -C OUT"),
    ("out.tar.gz", "tar -xzf out.tar.gz -C OUT"),
    ("out.tar.zst", "tar --zstd -xf out.tar.zst -C OUT"),
    ("out.zip", "python3 -m zipfile -e out.zip OUT"),
];

fn shell(place: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(place).status().unwrap();
    assert!(status.success(), "{script}");
}

fn export(rig: &Rig, name: &str) -> Value {
    let mut command = Command::new(BINARY);
    command.args(["export", REPO, "--output", "json", "--volume"]).arg(rig.volume());
    let output = command.arg("--file").arg(rig.path(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_seeds_example_comes_back_in_every_format() {
    let rig = Rig::new();
    let place = rig.place.path();
    seeds_example(place);
    shell(place, &format!("tar -czf in.tar.gz {ROOT}"));
    let written = std::fs::read(rig.path(ROOT).join("model_metadata.json")).unwrap();
    let mut made: Value = serde_json::from_slice(&written).unwrap();
    let done = rig.import(&rig.path("in.tar.gz")).done();
    let files = below(&rig.volume().join("entries").join(ROOT).join("model"));
    made["sizeInBytes"] = files.values().map(Vec::len).sum::<usize>().into();
    assert_eq!(done["metadata"], made, "every field of the seed's, and nothing else");

    for (name, reader) in READERS {
        let exported = export(&rig, name);
        let out = tempfile::tempdir().unwrap();
        shell(place, &reader.replace("OUT", out.path().to_str().unwrap()));
        let root = out.path().join(ROOT);
        shell(&root, "sha256sum --check --strict --quiet SHA256SUMS");
        assert_eq!(below(&root.join("model")), files, "{name}");
        let kept: Value = serde_json::from_slice(&std::fs::read(root.join("model_metadata.json")).unwrap()).unwrap();
        assert_eq!(kept, made, "{name}");

        let other = Rig::new();
        let again = other.import(&rig.path(name)).done();
        assert_eq!((&again["manifest"], &again["commit"]), (&done["manifest"], &done["commit"]), "{name}");
        assert!(again.get("unverified").is_none(), "{name}: its own list proves it");
        assert_eq!(export(&other, name)["archive"], exported["archive"], "{name}: the same model, the same bytes");
    }
}
