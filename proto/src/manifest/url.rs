//! URLs of endpoints.

use super::{path, reader::Field, rules};
use http::Uri;

/// An absolute http or https URL. A URL with credentials is never quoted in a message.
pub(super) fn read(field: &Field<'_>) -> Option<Uri> {
    let text = field.text()?;
    match parse(text) {
        Ok(url) => Some(url),
        Err((what, hint)) => {
            let what =
                if text.contains('@') { what.to_owned() } else { format!("{}: {what}", path::quoted(text)) };
            field.problem(&rules::ENDPOINT_URL, what, hint);
            None
        }
    }
}

fn parse(text: &str) -> Result<Uri, (&'static str, &'static str)> {
    const EXAMPLE: &str = "such as `http://127.0.0.1:3101/mcp`";
    // The parser drops fragments without a word.
    if text.contains('#') {
        return Err(("a fragment is never sent", "remove the `#…`"));
    }
    let url: Uri = text.parse().map_err(|_| ("not a URL", EXAMPLE))?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some("ws" | "wss") => return Err(("MCP runs over http and https", EXAMPLE)),
        Some(_) => return Err(("the scheme is neither http nor https", EXAMPLE)),
        None => return Err(("not absolute", EXAMPLE)),
    }
    let authority = url.authority().ok_or(("no host", EXAMPLE))?;
    if authority.as_str().contains('@') {
        return Err((
            "credentials in a URL end in logs",
            "use `headers: {Authorization: \"env:NAME\"}` of the upstream",
        ));
    }
    if authority.host().is_empty() {
        return Err(("no host", EXAMPLE));
    }
    let after_host = &authority.as_str()[authority.host().len()..];
    match (after_host, authority.port_u16()) {
        ("", _) | (_, Some(1..)) => Ok(url),
        (_, Some(0)) => Err(("port 0 is not a server's", EXAMPLE)),
        (_, None) => Err(("the port is not a number up to 65535", EXAMPLE)),
    }
}
