//! Which images and files the providers take: one of another kind fails the request, and with it
//! every later one of the conversation, so words stand in its place.

/// The media type of an image that all providers read, in its usual spelling; nothing for others.
pub(super) fn image_type(media_type: &str) -> Option<&'static str> {
    const TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    let given = without_parameters(media_type);
    let given = if given.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { given };
    TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(given))
}

/// Whether OpenAI reads files of that type: text, PDF and what offices write.
pub(super) fn is_file_type(media_type: &str) -> bool {
    let given = without_parameters(media_type).to_ascii_lowercase();
    let Some(format) = given.strip_prefix("application/") else {
        return given.starts_with("text/");
    };
    let known = ["pdf", "json", "xml", "rtf", "msword", "vnd.ms-excel", "vnd.ms-powerpoint"];
    let families = ["vnd.openxmlformats-officedocument.", "vnd.oasis.opendocument."];
    known.contains(&format) || families.iter().any(|family| format.starts_with(family))
}

fn without_parameters(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_words_are_read() {
        for (given, known) in [
            ("application/pdf", true),
            ("Text/CSV; charset=utf-8", true),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", true),
            ("audio/mpeg", false),
            ("video/mp4", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_file_type(given), known, "{given}");
        }
    }

    #[test]
    fn spellings_of_known_types_are_known() {
        for (given, known) in [
            ("image/png", Some("image/png")),
            ("image/jpg", Some("image/jpeg")),
            ("IMAGE/JPEG", Some("image/jpeg")),
            ("image/webp; q=1", Some("image/webp")),
            ("image/tiff", None),
            ("image/svg+xml", None),
            ("", None),
        ] {
            assert_eq!(image_type(given), known, "{given}");
        }
    }
}
