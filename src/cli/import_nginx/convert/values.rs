//! Texts with variables, and paths.

use crate::proxy::Template;

/// What nginx knows and a text of forebay must be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) server_name: &'a str,
    pub(super) proxy_host: &'a str,
}

/// A text of nginx as a template of forebay; the name of the variable that has no counterpart.
pub(super) fn template(text: &str, known: Known<'_>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, after) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(braced) => braced,
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        match name {
            "server_name" if !known.server_name.is_empty() => result.push_str(known.server_name),
            "proxy_host" if !known.proxy_host.is_empty() => result.push_str(known.proxy_host),
            "document_uri" => result.push_str("${uri}"),
            "realip_remote_addr" => result.push_str("${remote_addr}"),
            _ => {
                // Braces only where a letter follows that would belong to the name.
                let braced = format!("${{{name}}}");
                Template::parse(&braced).map_err(|_| name.to_owned())?;
                let glued = after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                if glued { result.push_str(&braced) } else { result.push_str(&format!("${name}")) }
            }
        }
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// A path of nginx, which is decoded, as it stands in a request.
pub(super) fn path(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"?#%".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_that_forebay_has() {
        let known = Known { server_name: "a.example", proxy_host: "app" };
        for (text, expected) in [
            ("https://$server_name$request_uri", Ok("https://a.example$request_uri")),
            ("${host}x", Ok("${host}x")),
            ("$proxy_host:$document_uri", Ok("app:${uri}")),
            ("$http_x_forwarded_for, $remote_addr", Ok("$http_x_forwarded_for, $remote_addr")),
            ("$ssl_protocol", Err("ssl_protocol")),
            ("$1", Err("1")),
            ("a$", Err("")),
        ] {
            assert_eq!(template(text, known), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
