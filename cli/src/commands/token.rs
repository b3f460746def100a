//! `o1ctl token new`.

use crate::{
    args::NewToken,
    output::{
        json,
        page::{Line, Page, Style},
    },
    report::{Error, Exit},
    terminal::Terminal,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

/// A fresh token, and what the configuration is told of it.
#[derive(Serialize)]
struct Token<'a> {
    name: &'a str,
    token: String,
    blake3: String,
}

/// Makes a token. Nothing is kept: only the hash goes into the configuration.
///
/// # Errors
/// No random numbers, or no reader.
pub fn new(args: &NewToken, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Error::local(format!("the system gives no random numbers: {error}"), ""))?;
    // The beginning lets people, and scanners of code, see what it is.
    let token = format!("o1_{}", URL_SAFE_NO_PAD.encode(secret));
    let blake3 = blake3::hash(token.as_bytes()).to_hex().to_string();
    let token = Token { name: &args.name, token, blake3 };
    if args.json {
        terminal.out.write(&json::pretty(&token))?;
        return Ok(Exit::Healthy);
    }
    let mut page = Page::default();
    page.push(token.token.as_str());
    page.gap();
    if let Some(role) = args.role {
        page.push(format!("{} {} blake3:{}", token.name, role.word(), token.blake3));
        terminal.out.write(&page.paint(terminal.out.colour()))?;
        let words = " the first line is the token, shown this once: it goes into a file for --token-file, or into O1_TOKEN. \
                     The second line goes into the file of the control plane's --tokens";
        return hint(words, terminal);
    }
    for line in ["clients:", "  auth:", "    tokens:"] {
        page.push(line);
    }
    page.push(format!("      - {{name: {}, blake3: \"{}\"}}", token.name, token.blake3));
    terminal.out.write(&page.paint(terminal.out.colour()))?;
    let words = " the first line is the token, shown this once: clients send it as `Authorization: Bearer …`. The \
                 rest goes into the configuration";
    hint(words, terminal)
}

fn hint(words: &str, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut hint = Page::default();
    hint.push(Line::of("hint:", Style::Bold).and(words, Style::Plain));
    terminal.err.write(&hint.paint(terminal.err.colour()))?;
    Ok(Exit::Healthy)
}
