//! Where in the text of a file one more value goes, and how it is spelled there.
//!
//! The text is known to be of its format. What is found here is no proof: whoever writes it compares what comes out.

use std::fmt::Write as _;

use saphyr_parser::{Event, Parser, Span};

use crate::error::Result;

use super::document::BLOCK;
use super::encrypt;
use super::format::SopsFormat;

/// What `sops` indents by.
const INDENT: usize = 4;

/// What is to be written, and where: the last of `new` with the value `sealed`, in as many new mappings as `new` has names
/// before, at the end of the mapping to which `parents` lead. Nothing where that is not clear.
pub(super) fn addition(
    text: &str,
    format: SopsFormat,
    parents: &[&str],
    new: &[&str],
    sealed: &str,
) -> Result<Option<(usize, String)>> {
    Ok(match format {
        SopsFormat::Yaml => {
            let place = end_of_yaml(text, parents);
            place.map(|(at, column)| yaml(text, column, new, sealed).map(|lines| (at, lines))).transpose()?
        }
        SopsFormat::Json => {
            let value = json(new, sealed)?;
            end_of_json(text, parents).map(|place| place.with(text, &value))
        }
        SopsFormat::Dotenv => {
            let name = new.first().filter(|name| new.len() == 1 && is_word(name));
            let ending = ending(text);
            let place = start_of_line(text, &format!("{BLOCK}_"));
            name.zip(place).map(|(name, at)| (at, format!("{name}={sealed}{ending}")))
        }
        SopsFormat::Ini | SopsFormat::Binary => None,
    })
}

fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn ending(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Where the first line begins that begins so.
fn start_of_line(text: &str, begin: &str) -> Option<usize> {
    lines(text).find(|(_, line)| line.starts_with(begin)).map(|(at, _)| at)
}

/// The lines, and where each begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    })
}

fn yaml(text: &str, column: usize, new: &[&str], sealed: &str) -> Result<String> {
    let ending = ending(text);
    let mut out = String::new();
    for (depth, name) in new.iter().enumerate() {
        let value = if depth + 1 == new.len() { format!(" {sealed}") } else { String::new() };
        let (indent, name) = (column + depth * INDENT, encrypt::yaml_key(name)?);
        let _ = write!(out, "{:indent$}{name}:{value}{ending}", "");
    }
    Ok(out)
}

/// Where the line after the last entry of a mapping begins, and in which column its keys stand. In the outermost one of the
/// first document the metadata follow, which stay the last.
fn end_of_yaml(text: &str, parents: &[&str]) -> Option<(usize, usize)> {
    if parents.is_empty() {
        return start_of_line(text, &format!("{BLOCK}:")).map(|at| (at, 0));
    }
    let mut parser = Parser::new_from_str(text);
    // Of each mapping and list that is open, whether a key comes next.
    let mut levels: Vec<bool> = Vec::new();
    let (mut entered, mut enters, mut column, mut last) = (0, false, None, 0);
    loop {
        let (event, span) = parser.next_event()?.ok()?;
        let (is_inside, is_here) = (levels.len() > entered, levels.len() == entered + 1);
        match event {
            Event::Scalar(..) | Event::MappingStart(..) | Event::SequenceStart(..) => {
                let is_key = levels.last().is_some_and(|key| *key);
                // A list has values only, which does no harm: nothing in one is entered.
                levels.last_mut().into_iter().for_each(|key| *key = !is_key);
                match event {
                    Event::Scalar(key, ..) if is_key && is_here && entered < parents.len() => {
                        enters = key == parents[entered];
                    }
                    Event::Scalar(..) => {
                        if is_key && is_here {
                            column.get_or_insert(span.start.col());
                        }
                        enters = false;
                    }
                    Event::MappingStart(..) => {
                        entered += usize::from(enters);
                        enters = false;
                        levels.push(true);
                    }
                    _ => {
                        enters = false;
                        levels.push(false);
                    }
                }
                if is_inside && entered == parents.len() {
                    last = last_line(&span);
                }
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if is_here {
                    let end = lines(text).nth(last).filter(|_| entered == parents.len());
                    return end.map(|(at, _)| at).zip(column);
                }
                levels.pop();
            }
            Event::DocumentEnd | Event::StreamEnd => return None,
            _ => {}
        }
    }
}

/// The number of the last line on which something stands; a block of text ends where the next line begins.
fn last_line(span: &Span) -> usize {
    let is_before = span.end.col() == 0 && span.end.line() > span.start.line();
    span.end.line() - usize::from(is_before)
}

/// The first of the new members, with the others inside.
fn json(new: &[&str], sealed: &str) -> Result<String> {
    let mut out = encrypt::json_text(sealed)?;
    for (depth, name) in new.iter().enumerate().rev() {
        let inner = if depth + 1 == new.len() { out } else { format!("{{ {out} }}") };
        out = format!("{}: {inner}", encrypt::json_text(name)?);
    }
    Ok(out)
}

/// A place in an object.
enum JsonPlace {
    /// In front of this member.
    Before(usize),
    /// Behind the last member, which ends here; the first one begins there.
    Behind(usize, usize),
    /// In an object that is empty.
    Inside(usize),
}

impl JsonPlace {
    fn with(self, text: &str, member: &str) -> (usize, String) {
        // As the other members are indented.
        let space = |at: usize| &text[text[..at].trim_end().len()..at];
        match self {
            Self::Before(at) => (at, format!("{member},{}", space(at))),
            Self::Behind(end, first) => (end, format!(",{}{member}", space(first))),
            Self::Inside(at) => (at, member.to_owned()),
        }
    }
}

fn end_of_json(text: &str, parents: &[&str]) -> Option<JsonPlace> {
    let mut object = text.find('{')?;
    for parent in parents {
        object = members(text, object)?.1.into_iter().find(|member| member.key == *parent)?.value;
    }
    let (end, members) = members(text, object)?;
    if parents.is_empty() {
        // The metadata stay the last.
        let block = members.into_iter().find(|member| member.key == BLOCK)?;
        return Some(JsonPlace::Before(block.start));
    }
    Some(match members.first() {
        Some(first) => JsonPlace::Behind(text[..end].trim_end().len(), first.start),
        None => JsonPlace::Inside(object + 1),
    })
}

/// A member of an object: its key, where that begins, and where the value does.
struct JsonMember {
    key: String,
    start: usize,
    value: usize,
}

/// Where the object that begins at `object` ends, and its members.
fn members(text: &str, object: usize) -> Option<(usize, Vec<JsonMember>)> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, None, false);
    let mut found = Vec::new();
    for (at, c) in text[object..].char_indices().map(|(at, c)| (object + at, c)) {
        match (c, quoted) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            ('"', None) => quoted = Some(at),
            ('"', Some(start)) => {
                quoted = None;
                let rest = text[at + 1..].trim_start();
                if let Some(value) = rest.strip_prefix(':').filter(|_| depth == 1) {
                    let key = serde_json::from_str(&text[start..=at]).ok()?;
                    found.push(JsonMember { key, start, value: text.len() - value.trim_start().len() });
                }
            }
            ('{' | '[', None) => depth += 1,
            ('}' | ']', None) => {
                depth -= 1;
                if depth == 0 {
                    return Some((at, found));
                }
            }
            _ => {}
        }
    }
    None
}
