//! Comments of the protos, as Markdown.

use prost_reflect::FileDescriptor;

/// Returns the comment on the element at this path of a file, or an empty text if there is none.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let source = file.file_descriptor_proto().source_code_info.as_ref();
    let mut locations = source.into_iter().flat_map(|source| &source.location);
    let Some(location) = locations.find(|location| location.path == path) else {
        return String::new();
    };
    let lines = location
        .leading_comments()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Returns the first sentence of a comment, on one line and without the full stop.
pub(crate) fn summary(comment: &str) -> String {
    let paragraph = comment.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    // A full stop ends a sentence only before a space or at the end of the text. The one in `4.4`
    // does not.
    let end = line.find(". ").unwrap_or(line.len());
    line[..end].trim_end_matches(['.', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_the_first_sentence() {
        for (comment, expected) in [
            ("", ""),
            ("Lists games.", "Lists games"),
            (
                "Lists games,\nnewest first. The pages\nstay right.\n\nErrors: none.",
                "Lists games, newest first",
            ),
            (
                "Gives a token (RFC 6749, 4.4: credentials).\nNo more.",
                "Gives a token (RFC 6749, 4.4: credentials)",
            ),
        ] {
            assert_eq!(summary(comment), expected);
        }
    }
}
