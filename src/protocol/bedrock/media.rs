//! Formats of images, documents, sound and video, which Bedrock names where others have media types.

/// Document formats and their media types; the first of a format is the one it is told by.
const DOCUMENTS: [(&str, &str); 13] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("csv", "application/csv"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("html", "text/html"),
    ("html", "application/xhtml+xml"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("md", "text/x-markdown"),
    ("txt", "application/json"),
];

const VIDEOS: [(&str, &str); 10] = [
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("mkv", "video/x-matroska"),
    ("mkv", "video/matroska"),
    ("webm", "video/webm"),
    ("flv", "video/x-flv"),
    ("mpeg", "video/mpeg"),
    ("wmv", "video/x-ms-wmv"),
    ("three_gp", "video/3gpp"),
    ("mov", "video/mov"),
];

const SOUNDS: [&str; 15] = [
    "mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg",
    "mpga", "pcm", "webm",
];

/// Returns the media type without parameters, in lower case.
fn essence(media_type: &str) -> String {
    let bare = media_type.split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

pub(super) fn image_format(media_type: &str) -> Option<&'static str> {
    Some(match &*essence(media_type) {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return None,
    })
}

/// Returns the format of a document. Text of a kind that has no name of its own is plain text.
pub(super) fn document_format(media_type: &str) -> Option<&'static str> {
    let essence = essence(media_type);
    let known = DOCUMENTS.iter().find(|(_, known)| *known == essence);
    let is_text = essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            &*essence,
            "application/xml"
                | "application/yaml"
                | "application/x-yaml"
                | "application/toml"
                | "application/javascript"
                | "application/x-ndjson"
        );
    known
        .map(|(format, _)| *format)
        .or(is_text.then_some("txt"))
}

pub(super) fn document_type(format: &str) -> Option<&'static str> {
    let found = DOCUMENTS.iter().find(|(known, _)| *known == format);
    found.map(|(_, media_type)| *media_type)
}

pub(super) fn video_format(media_type: &str) -> Option<&'static str> {
    let essence = essence(media_type);
    let found = VIDEOS.iter().find(|(_, known)| *known == essence);
    found.map(|(format, _)| *format)
}

/// Returns the format of sound by its short name or its media type.
pub(super) fn sound_format(name: &str) -> Option<&'static str> {
    let essence = essence(name);
    let bare = essence.strip_prefix("audio/").unwrap_or(&essence);
    let bare = bare.strip_prefix("x-").unwrap_or(bare);
    SOUNDS.into_iter().find(|known| *known == bare)
}

/// The most characters of a document's name.
const NAME_MAX: usize = 200;

/// Returns a document's name as Bedrock takes it: letters and digits, single spaces, hyphens, parentheses and square
/// brackets, and not one that was `given` before.
pub(super) fn document_name(name: Option<&str>, given: &mut Vec<String>) -> String {
    let mut clean = String::new();
    for c in name.unwrap_or_default().chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') {
            clean.push(c);
        } else if !clean.is_empty() && !clean.ends_with(' ') {
            clean.push(' ');
        }
        // Room for a number is left.
        if clean.len() >= NAME_MAX - 12 {
            break;
        }
    }
    let mut clean = clean.trim_end().to_owned();
    if clean.is_empty() {
        clean.push_str("document");
    }
    if given.contains(&clean) {
        // As many as there are documents, so none of those can have it.
        clean = format!("{clean} ({})", given.len() + 1);
    }
    given.push(clean.clone());
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_media_type_that_leads_back() {
        for format in [
            "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md",
        ] {
            let media_type = document_type(format).unwrap_or_default();
            assert_eq!(document_format(media_type), Some(format));
        }
        assert_eq!(document_format("text/x-python; charset=utf-8"), Some("txt"));
        assert_eq!(document_format("application/zip"), None);
        assert_eq!(image_format("image/JPG"), Some("jpeg"));
        assert_eq!(image_format("image/svg+xml"), None);
        assert_eq!(sound_format("audio/x-wav"), Some("wav"));
        assert_eq!(sound_format("mp3"), Some("mp3"));
        assert_eq!(sound_format("midi"), None);
        assert_eq!(video_format("video/3gpp"), Some("three_gp"));
    }

    #[test]
    fn names_are_cleaned_and_stay_apart() {
        let mut given = Vec::new();
        for (name, clean) in [
            (Some("a/b\u{0}  c.pdf"), "a b c pdf"),
            (Some("a b c pdf"), "a b c pdf (2)"),
            (Some("..."), "document"),
            (None, "document (4)"),
            (Some("Überblick [1] (x)-y"), "berblick [1] (x)-y"),
        ] {
            assert_eq!(document_name(name, &mut given), clean);
        }
        let long = "x".repeat(5000);
        assert!(document_name(Some(&long), &mut given).len() <= NAME_MAX);
    }
}
