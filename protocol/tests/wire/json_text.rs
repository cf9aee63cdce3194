//! JSON as text: laid out for reading and back, with every number and the order of fields untouched.

/// Without the white space between tokens.
pub fn compact(json: &str) -> String {
    tokens(json).filter(|token| !token.trim_ascii().is_empty()).collect()
}

/// One field or item a line; an array of numbers (a price level) stays on its line. Takes compact JSON.
pub fn pretty(json: &str) -> String {
    let tokens: Vec<&str> = tokens(json).collect();
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut in_level = false;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    for (at, &token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        let closes = |token: &str| matches!(token, "}" | "]");
        match token {
            "[" if next.starts_with(|c: char| c.is_ascii_digit() || c == '-') => in_level = true,
            "{" | "[" => depth += 1,
            "]" if in_level => {}
            "}" | "]" => depth -= 1,
            _ => {}
        }
        if closes(token) && !in_level && !out.ends_with(['{', '[']) {
            line(&mut out, depth);
        }
        out.push_str(token);
        match token {
            ":" => out.push(' '),
            "," if in_level => out.push(' '),
            "," => line(&mut out, depth),
            "{" | "[" if !in_level && !closes(next) => line(&mut out, depth),
            "]" => in_level = false,
            _ => {}
        }
    }
    out.push('\n');
    out
}

/// String literals, punctuation, runs of white space, and what stands between them.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        let first = *rest.as_bytes().first()?;
        let space = |byte: u8| byte.is_ascii_whitespace();
        let punctuation = |byte: u8| b"{}[],:".contains(&byte);
        let run = |same: &dyn Fn(u8) -> bool| rest.bytes().take_while(|&byte| same(byte)).count();
        let length = match first {
            b'"' => string_length(rest),
            _ if punctuation(first) => 1,
            _ if space(first) => run(&space),
            _ => run(&|byte| !space(byte) && !punctuation(byte) && byte != b'"'),
        };
        let (token, tail) = rest.split_at(length);
        rest = tail;
        Some(token)
    })
}

/// Bytes of the string literal that `json` begins with, quotes included.
fn string_length(json: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}
