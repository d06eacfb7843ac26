use super::*;
use crate::ident::{FileDigest, GitBlobSha1};
use proptest::prelude::*;

/// The seed's model at its commit, sizes as the Hub lists them.
const SEED: [(&str, u64); 16] = [
    (".gitattributes", 1175),
    ("1_Pooling/config.json", 190),
    ("README.md", 10610),
    ("config.json", 612),
    ("config_sentence_transformers.json", 116),
    ("data_config.json", 39265),
    ("modules.json", 349),
    ("pytorch_model.bin", 90_888_945),
    ("rust_model.ot", 90_887_379),
    ("sentence_bert_config.json", 53),
    ("special_tokens_map.json", 112),
    ("tf_model.h5", 91_005_696),
    ("tokenizer.json", 466_247),
    ("tokenizer_config.json", 350),
    ("train_script.py", 13156),
    ("vocab.txt", 231_508),
];

fn files(names: &[&str]) -> Vec<Listed> {
    names.iter().map(|name| file(name, 1)).collect()
}

fn file(name: &str, size: u64) -> Listed {
    Listed { path: name.into(), size, digest: FileDigest::GitBlob(GitBlobSha1::from_bytes([0; 20])) }
}

fn choice(weights: Weights, include: &[&str], exclude: &[&str]) -> FileChoice {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    FileChoice { weights, include: owned(include), exclude: owned(exclude) }
}

fn select(files: Vec<Listed>, choice: &FileChoice) -> Result<Vec<Listed>, SelectError> {
    super::select(files, choice, None)
}

/// What is left of these files where only these formats are allowed.
fn allowed(names_of: &[&str], weights: Weights, formats: &[Weights]) -> Result<Vec<String>, SelectError> {
    let policy = Policy { origin: "HubConnection \"a\"".into(), repos: Vec::new(), weights: formats.to_vec() };
    super::select(files(names_of), &choice(weights, &[], &[]), Some(&policy)).map(names)
}

#[test]
fn auto_takes_the_first_format_that_is_allowed() {
    let listing = ["a.bin", "a.gguf", "a.safetensors", "config.json"];
    let of = |formats: &[Weights]| allowed(&listing, Weights::Auto, formats).unwrap();
    assert_eq!(of(&[Weights::Gguf]), ["a.gguf", "config.json"]);
    assert_eq!(of(&[Weights::Gguf, Weights::Safetensors]), ["a.safetensors", "config.json"]);
    assert_eq!(of(&[Weights::Pytorch]), ["a.bin", "config.json"]);
}

#[test]
fn no_pickle_comes_along_where_only_safetensors_are_allowed() {
    let listing = ["a.bin", "a.safetensors", "config.json", "scheduler.pt", "vectors.PKL", "x/model.ckpt"];
    for weights in [Weights::Auto, Weights::All, Weights::Safetensors] {
        let left = allowed(&listing, weights, &[Weights::Safetensors]).unwrap();
        assert_eq!(left, ["a.safetensors", "config.json"], "{weights:?}");
    }
}

#[test]
fn weights_in_forbidden_formats_alone_are_denied_and_named() {
    for (listing, weights) in [
        (vec!["config.json", "a.bin"], Weights::Auto),
        (vec!["config.json", "a.bin", "b.onnx"], Weights::All),
        (vec!["config.json", "a.bin", "b.safetensors"], Weights::Pytorch),
        (vec!["model.ckpt"], Weights::Auto),
    ] {
        let error = allowed(&listing, weights, &[Weights::Safetensors]).unwrap_err();
        assert_eq!(error.reason(), Reason::PolicyDenied);
        let said = error.to_string();
        assert!(said.contains(listing.iter().find(|name| !name.contains("config")).unwrap()), "{said}");
        assert!(said.contains("HubConnection \"a\"") && said.contains("Safetensors"), "{said}");
    }
}

#[test]
fn a_model_without_weights_is_allowed() {
    assert_eq!(allowed(&["tokenizer.json"], Weights::Auto, &[Weights::Safetensors]).unwrap(), ["tokenizer.json"]);
}

fn names(chosen: Vec<Listed>) -> Vec<String> {
    chosen.into_iter().map(|file| file.path).collect()
}

#[test]
fn the_seeds_size_is_the_sum_of_the_choice() {
    let listing = SEED.iter().map(|(name, size)| file(name, *size)).collect();
    let chosen = select(listing, &FileChoice::default()).unwrap();
    assert_eq!(chosen.iter().map(|file| file.size).sum::<u64>(), 91_652_688);
    assert!(chosen.iter().any(|file| file.path == ".gitattributes"));
}

#[test]
fn auto_takes_the_first_format() {
    let all = ["a.ot", "a.msgpack", "a.h5", "a.onnx", "a.gguf", "a.pth", "a.safetensors", "config.json"];
    for end in (1..8).rev() {
        let mut listing = all[..end].to_vec();
        listing.push("config.json");
        let chosen = names(select(files(&listing), &FileChoice::default()).unwrap());
        assert_eq!(chosen, [all[end - 1], "config.json"]);
    }
}

#[test]
fn weights_by_name() {
    let listing = || files(&["a.bin", "a.safetensors", "onnx/a.onnx", "onnx/a.onnx_data", "c.json"]);
    assert_eq!(
        names(select(listing(), &choice(Weights::Onnx, &[], &[])).unwrap()),
        ["onnx/a.onnx", "onnx/a.onnx_data", "c.json"]
    );
    assert_eq!(select(listing(), &choice(Weights::All, &[], &[])).unwrap().len(), 5);
    let error = select(listing(), &choice(Weights::Gguf, &[], &[])).unwrap_err();
    assert_eq!(error.reason(), Reason::FileNotFound);
    assert!(error.to_string().contains("Safetensors, Pytorch, Onnx"), "{error}");
}

#[test]
fn globs_apply_after_the_weights() {
    let listing = || files(&["a.bin", "a.safetensors", "sub/b.json", "c.json", ".hidden"]);
    assert_eq!(names(select(listing(), &choice(Weights::Auto, &["*.json"], &["sub/"])).unwrap()), ["c.json"]);
    let error = select(listing(), &choice(Weights::Auto, &["*.bin"], &[])).unwrap_err();
    assert!(error.to_string().contains("*.bin"), "{error}");
    assert!(matches!(select(Vec::new(), &FileChoice::default()), Err(SelectError::Empty)));
}

#[test]
fn fnmatch_as_python_has_it() {
    for (pattern, text, matches) in [
        ("*", "a/b", true),
        ("*.json", "sub/a.json", true),
        ("*.json", "a.jsonx", false),
        ("dir/", "dir/a/b", true),
        ("dir/", "dir", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", true),
        ("A.json", "a.json", false),
        ("[abc].x", "b.x", true),
        ("[!abc].x", "b.x", false),
        ("[a-c]x", "bx", true),
        ("[c-a]x", "bx", false),
        ("[]]x", "]x", true),
        ("[!]]x", "]x", false),
        ("[ab", "[ab", true),
        ("[-a]", "-", true),
        ("[a-]", "-", true),
        ("**a*b*", "xxaxxbxx", true),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
    }
}

proptest! {
    #[test]
    fn a_choice_keeps_order_and_never_invents(listing in proptest::collection::vec("[a-c]{1,2}\\.(json|bin|safetensors|gguf)", 1..12), exclude in "[a-c*?]{1,3}") {
        let listing: Vec<&str> = listing.iter().map(String::as_str).collect();
        let wanted = choice(Weights::Auto, &[], &[&exclude]);
        if let Ok(chosen) = select(files(&listing), &wanted) {
            let chosen = names(chosen);
            let mut rest = listing.iter();
            prop_assert!(chosen.iter().all(|name| rest.any(|other| other == name)));
            let formats: std::collections::HashSet<_> = chosen.iter().filter_map(|name| weights_format(name)).collect();
            prop_assert!(formats.len() <= 1);
        }
    }

    #[test]
    fn a_text_without_wildcards_matches_itself_alone(text in "[a-z/.]{0,8}[a-z]", other in "[a-z/.]{0,9}") {
        prop_assert!(Glob::new(&text).matches(&text));
        prop_assert_eq!(Glob::new(&text).matches(&other), text == other);
    }

    #[test]
    fn no_pattern_panics(pattern in "[\\[\\]!*?a-c-]{0,12}", text in "[a-c\\]\\[!-]{0,8}") {
        let _ = Glob::new(&pattern).matches(&text);
    }
}
