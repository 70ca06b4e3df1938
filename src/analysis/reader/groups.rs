//! Reviews that are embedded and probed together: as many as make up a number of tokens, so that long reviews come in
//! small groups and short ones in large ones. A group is enough to fill batches, and little enough that the first label
//! of a large job does not wait for all its embeddings.

/// Bytes of a token, about. Only the size of a group hangs on it, never a cost.
const BYTES_PER_TOKEN: usize = 4;

/// Cuts the texts, in order, into groups of about `tokens` tokens. None is empty; a text longer than that is alone.
pub(super) fn cut<'g, 't>(texts: &'g [&'t str], tokens: usize) -> Vec<&'g [&'t str]> {
    let limit = tokens.saturating_mul(BYTES_PER_TOKEN);
    let mut groups = Vec::new();
    let (mut start, mut held) = (0, 0usize);
    for (index, text) in texts.iter().enumerate() {
        if index > start && held.saturating_add(text.len()) > limit {
            groups.push(&texts[start..index]);
            (start, held) = (index, 0);
        }
        held = held.saturating_add(text.len());
    }
    if start < texts.len() {
        groups.push(&texts[start..]);
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_keep_order_and_size(lengths in prop::collection::vec(0_usize..60, 0..50), tokens in 0_usize..20) {
            let texts: Vec<String> = lengths.iter().map(|&length| "x".repeat(length)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let groups = cut(&texts, tokens);
            prop_assert!(groups.concat() == texts);
            let bytes = |group: &[&str]| group.iter().map(|text| text.len()).sum::<usize>();
            for group in &groups {
                prop_assert!(!group.is_empty());
                prop_assert!(group.len() == 1 || bytes(group) <= tokens * BYTES_PER_TOKEN);
            }
            for pair in groups.windows(2) {
                prop_assert!(bytes(pair[0]) + pair[1][0].len() > tokens * BYTES_PER_TOKEN, "cut too early");
            }
        }
    }
}
