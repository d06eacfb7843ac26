use super::*;
use proptest::prelude::*;

/// The seed document's own example, with the dots of its `tags` left out.
const SEED: &str = r#"{
    "commitHash": "7dbbc90392e2f80f3d3c277d6e90027e55de9125",
    "downloadDate": 1698300636139,
    "downloadedBy": "admin",
    "lastDssUsage": 1699570884724,
    "lastModified": "2022-11-07T08:44:33.000Z",
    "lastUsedBy": "admin",
    "libraryName": "sentence-transformers",
    "modelDefinition": {
        "key": "hf@sentence-transformers/all-MiniLM-L6-v2"
    },
    "pipelineName": "sentence-similarity",
    "sizeInBytes": 91652688,
    "taggedLanguages": [
        "en"
    ],
    "tags": [
        "sentence-transformers",
        "dataset:flax-sentence-embeddings/stackexchange_xml",
        "region:us"
    ],
    "url": "https://huggingface.co/sentence-transformers%2Fall-MiniLM-L6-v2/tree/main",
    "version": 0
}
"#;

fn minimal(more: &str) -> String {
    format!(r#"{{"version":0,"url":"u","modelDefinition":{{"key":"hf@a/b"}}{more}}}"#)
}

#[test]
fn the_seeds_example_is_written_back_byte_for_byte() {
    let metadata = ModelMetadata::parse(SEED).unwrap();
    assert_eq!(metadata.size_in_bytes, Some(91_652_688));
    assert_eq!(metadata.to_json(), SEED);
}

#[test]
fn only_the_important_fields_must_be_there() {
    assert!(ModelMetadata::parse(&minimal("")).is_ok());
    assert!(ModelMetadata::parse(&format!("\u{feff}{}", minimal(r#","tags":null"#))).is_ok());
    for (text, field) in [
        (r#"{"url":"u","modelDefinition":{"key":"hf@a/b"}}"#, "version"),
        (r#"{"version":0,"modelDefinition":{"key":"hf@a/b"}}"#, "url"),
        (r#"{"version":0,"url":"u","modelDefinition":{}}"#, "modelDefinition.key"),
        (r#"{"version":0,"url":"u"}"#, "modelDefinition"),
    ] {
        let error = ModelMetadata::parse(text).unwrap_err();
        assert!(matches!(&error, MetadataError::Missing { field: f } if *f == field), "{error}");
    }
}

#[test]
fn unknown_fields_are_kept() {
    let text = minimal(r#","zebra":{"b":[1,{}],"a":"x"},"modelVersion":2"#);
    let back = ModelMetadata::parse(&text).unwrap().to_json();
    let value: Value = serde_json::from_str(&back).unwrap();
    assert_eq!(value["zebra"]["b"][0], 1);
    assert_eq!(value["modelVersion"], 2);
    assert!(back.find("\"a\"").unwrap() < back.find("\"b\"").unwrap());
}

#[test]
fn other_versions_are_refused_by_type() {
    for (version, reason) in [
        ("1", Reason::UnsupportedVersion),
        ("-1", Reason::UnsupportedVersion),
        ("0.0", Reason::ArchiveInvalid),
        ("\"0\"", Reason::ArchiveInvalid),
    ] {
        let text = format!(r#"{{"version":{version},"url":"u","modelDefinition":{{"key":"hf@a/b"}}}}"#);
        assert_eq!(ModelMetadata::parse(&text).unwrap_err().reason(), reason, "{version}");
    }
}

#[test]
fn wrong_fields_are_named() {
    for (more, field) in [
        (r#","url":"again""#, "`url`"),
        (r#","zebra":{"x":1,"x":2}"#, "`x`"),
        (r#","tags":"en""#, "`tags`"),
        (r#","tags":[1]"#, "`tags`"),
        (r#","sizeInBytes":-1"#, "`sizeInBytes`"),
        (r#","sizeInBytes":1.5"#, "`sizeInBytes`"),
        (r#","downloadDate":"today""#, "`downloadDate`"),
        (r#","commitHash":"main""#, "`commitHash`"),
    ] {
        let message = ModelMetadata::parse(&minimal(more)).unwrap_err().to_string();
        assert!(message.contains(field), "{more}: {message}");
    }
    let deep = minimal(&format!(r#","z":{}{}"#, "[".repeat(70), "]".repeat(70)));
    assert!(matches!(ModelMetadata::parse(&deep).unwrap_err(), MetadataError::TooDeep));
    assert!(matches!(ModelMetadata::parse("{} x").unwrap_err(), MetadataError::Json(_)));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(by in "\\PC{0,20}", tags in proptest::collection::vec("\\PC{0,10}", 0..4), size in any::<u64>()) {
        let mut metadata = ModelMetadata::new("hf@a/b@v1".parse().unwrap(), "u".into());
        metadata.downloaded_by = Some(by);
        metadata.tags = Some(tags);
        metadata.size_in_bytes = Some(size);
        let text = metadata.to_json();
        prop_assert_eq!(ModelMetadata::parse(&text).unwrap(), metadata);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[{}\\[\\]\",:a0\\\\]{0,40}") {
        let _ = ModelMetadata::parse(&text);
    }
}
