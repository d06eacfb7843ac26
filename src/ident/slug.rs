//! Text as it may be part of an object's name in Kubernetes.

use super::{ModelRef, hex};
use sha2::{Digest, Sha256};

/// The longest part of an object's name that tells the model, in bytes. With the digest the name fits a label.
const SLUG_MAX_BYTES: usize = 50;

/// Small letters and digits; whatever else comes in a row becomes one `-`. It may begin or end with one, and be empty.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_ascii_lowercase().chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !slug.ends_with('-') {
            slug.push(c);
        }
    }
    slug
}

/// The name of the entry that is made for a model, whoever makes it and when: a slug, and eight digits of a digest of its key.
pub fn object_name(model: &ModelRef) -> String {
    let digest = hex(&Sha256::digest(model.key().to_string())[..4]);
    let mut slug = slug(model.repo.as_str());
    slug.truncate(SLUG_MAX_BYTES);
    let slug = slug.trim_matches('-');
    format!("{}-{}", if slug.is_empty() { "model" } else { slug }, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_characters_are_one_hyphen() {
        let made = ["Org/My_Model.v1", "日本", "a..b", ""].map(slug);
        assert_eq!(made, ["org-my-model-v1", "-", "a-b", ""]);
    }

    #[test]
    fn a_name_is_one_that_the_api_server_takes() {
        for repo in ["gpt2", "Org/My_Model.v1", &format!("{}/{}", "o".repeat(47), "n".repeat(48)), "_/_"] {
            for revision in [None, Some("v1".parse().unwrap())] {
                let name = object_name(&ModelRef { repo: repo.parse().unwrap(), revision });
                assert!(name.len() <= 63 && !name.starts_with('-'), "{name}");
                assert!(name.chars().all(|c| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
            }
        }
        let plain = ModelRef { repo: "Org/My_Model.v1".parse().unwrap(), revision: None };
        // Pods are mounted under such names before there are entries: another name would part them.
        assert_eq!(object_name(&plain), "org-my-model-v1-d22b4312");
    }
}
