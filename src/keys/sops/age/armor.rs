//! The text form of age files: base64 between two lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const COLUMNS: usize = 64;

/// The file in an armored one; `None` if the armor is damaged. White space may stand around it, and lines may end as
/// on Windows.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.trim_ascii().split(|byte| *byte == b'\n');
    let mut line = || lines.next().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut file = Vec::with_capacity(text.len());
    let mut whole = line()? == BEGIN.as_bytes();
    loop {
        match line()? {
            end if end == END.as_bytes() => return line().is_none().then_some(file),
            line if whole && (1..=COLUMNS).contains(&line.len()) => {
                let before = file.len();
                STANDARD.decode_vec(line, &mut file).ok()?;
                // Only the last line may hold less than the columns have room for.
                whole = file.len() - before == COLUMNS / 4 * 3;
            }
            _ => return None,
        }
    }
}

pub(super) fn encode(file: &[u8]) -> String {
    let text = STANDARD.encode(file);
    let mut armored = String::from(BEGIN);
    for start in (0..text.len()).step_by(COLUMNS) {
        armored.push('\n');
        armored.push_str(&text[start..text.len().min(start + COLUMNS)]);
    }
    armored + "\n" + END + "\n"
}
