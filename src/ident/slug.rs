//! Text as it may be part of an object's name in Kubernetes.

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

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn other_characters_are_one_hyphen() {
        let made = ["Org/My_Model.v1", "日本", "a..b", ""].map(slug);
        assert_eq!(made, ["org-my-model-v1", "-", "a-b", ""]);
    }
}
