//! Names on the wire: the balancer's, its labels', its targets'.
//!
//! Balancer name and labels are the provider extension's to the letter (Gardener contract, provider-stackit
//! identity), so that either adopts what the other made. Target names are ours: the API allows neither dots nor
//! more than 63 characters, node names may have both.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// What the API allows in a name or a label value.
const LIMIT: usize = 63;
/// Label that holds the shoot's technical ID.
pub const CLUSTER_LABEL: &str = "cluster.stackit.cloud";
/// Label that holds the exposure's name.
pub const EXPOSURE_LABEL: &str = "exposure.stackit.cloud";

/// `<technicalID>-exp-<exposure>`, the exposure's part shortened and given the first eight hexadecimal digits of
/// its SHA-256 where the whole would be longer than 63 bytes.
pub fn balancer(technical_id: &str, exposure: &str) -> String {
    const INFIX: &str = "-exp-";
    const HASH: usize = 8;
    let plain = format!("{technical_id}{INFIX}{exposure}");
    if plain.len() <= LIMIT {
        return plain;
    }
    let budget = LIMIT.saturating_sub(technical_id.len() + INFIX.len() + HASH + 1);
    let kept = cut(exposure, budget).trim_end_matches('-');
    format!("{technical_id}{INFIX}{kept}-{}", digest(exposure, HASH))
}

/// The labels that mark a balancer as this exposure's.
pub fn labels(technical_id: &str, exposure: &str) -> BTreeMap<String, String> {
    [(CLUSTER_LABEL, technical_id), (EXPOSURE_LABEL, exposure)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), label_value(value)))
        .collect()
}

/// A target's display name: the node's name where the API allows it, else its characters made fit, cut, and the
/// first seven hexadecimal digits of the SHA-256 of the whole name, so that it is stable and stays unique.
pub fn target(node: &str) -> String {
    const KEPT: usize = 54;
    const HASH: usize = 7;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = node.len() <= LIMIT
        && edge(node.chars().next())
        && edge(node.chars().last())
        && node.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if fits {
        return node.to_owned();
    }
    let fit: String = node.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let kept = cut(&fit, KEPT).trim_matches('-');
    let hash = digest(node, HASH);
    if kept.is_empty() { format!("node-{hash}") } else { format!("{kept}-{hash}") }
}

fn label_value(value: &str) -> String {
    const HASH: usize = 8;
    if value.len() <= LIMIT {
        return value.to_owned();
    }
    format!("{}-{}", cut(value, LIMIT - HASH - 1).trim_end_matches(['-', '.', '_']), digest(value, HASH))
}

fn digest(text: &str, digits: usize) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_balancer_name_is_plain() {
        assert_eq!(balancer("shoot--garden--root", "root"), "shoot--garden--root-exp-root");
    }

    #[test]
    fn a_long_balancer_name_is_cut_and_hashed_as_the_extension_does() {
        let name = balancer("shoot--project--name", "an-exposure-name-that-is-much-too-long-to-fit-into-it");
        // sha256 of the exposure's name alone, first eight digits.
        assert_eq!(name.len(), 63);
        assert!(name.starts_with("shoot--project--name-exp-an-exposure-name-that-is-much"), "{name}");
        assert_eq!(&name[name.len() - 8..], &digest("an-exposure-name-that-is-much-too-long-to-fit-into-it", 8));
    }

    #[test]
    fn a_cut_that_ends_in_a_dash_loses_it() {
        // The budget ends right behind the dash.
        let technical_id = "t".repeat(30);
        let exposure = format!("{}-{}", "e".repeat(18), "f".repeat(30));
        let name = balancer(&technical_id, &exposure);
        assert_eq!(name, format!("{technical_id}-exp-{}-{}", "e".repeat(18), digest(&exposure, 8)));
    }

    #[test]
    fn a_node_name_the_api_allows_is_kept() {
        assert_eq!(target("machine-0"), "machine-0");
        assert_eq!(target(&"n".repeat(63)), "n".repeat(63));
    }

    #[test]
    fn dots_and_length_are_made_fit_and_stay_unique() {
        let dotted = target("node-1.example.com");
        assert!(dotted.starts_with("node-1-example-com-"), "{dotted}");
        assert_ne!(target("node.1"), target("node-1"));
        let long = target(&"n".repeat(64));
        assert!(long.len() <= 63);
        assert_ne!(long, target(&"n".repeat(65)));
    }

    proptest::proptest! {
        #[test]
        fn every_target_name_fits_the_api(node in ".{1,300}") {
            let name = target(&node);
            assert!((1..=63).contains(&name.len()));
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
            assert!(!name.starts_with('-') && !name.ends_with('-'));
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        assert_eq!((cut("aü", 1), cut("aü", 2), cut("aü", 3), cut("aü", 9)), ("a", "a", "aü", "aü"));
    }
}
