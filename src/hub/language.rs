//! Which of a model's tags are languages.
//!
//! The Hub mixes languages with all other tags. The model card's `language` decides where it is given; without a card
//! only the two-letter codes of ISO 639-1 count, since every other short tag may be anything (`tf`, `bert`, `gpt`).

use serde_json::Value;

/// The two-letter codes of ISO 639-1.
const ISO_639_1: &str = "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv \
     dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu \
     ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne \
     ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su \
     sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";

/// The tags that are languages, in the order of the tags.
pub(super) fn tagged(tags: &[String], card: Option<&Value>) -> Vec<String> {
    let given = card.and_then(|card| card.get("language")).map(given).unwrap_or_default();
    let is_language = |tag: &str| {
        if given.is_empty() { ISO_639_1.split(' ').any(|code| code == tag) } else { given.contains(&tag) }
    };
    tags.iter().filter(|tag| is_language(tag)).cloned().collect()
}

/// The card's languages: one string, or a list of them.
fn given(language: &Value) -> Vec<&str> {
    match language {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tags(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_seeds_tags_are_english() {
        let all = tags(&["sentence-transformers", "pytorch", "tf", "rust", "bert", "en", "dataset:s2orc", "region:us"]);
        assert_eq!(tagged(&all, None), ["en"]);
        assert_eq!(tagged(&all, Some(&json!({"language": "en"}))), ["en"]);
    }

    #[test]
    fn the_card_decides_where_it_speaks() {
        let all = tags(&["tf", "multilingual", "de", "code", "yue", "it"]);
        let card = json!({"language": ["yue", "multilingual", "de", 7]});
        assert_eq!(tagged(&all, Some(&card)), ["multilingual", "de", "yue"]);
        assert_eq!(tagged(&all, Some(&json!({"language": []}))), ["de", "it"]);
    }
}
