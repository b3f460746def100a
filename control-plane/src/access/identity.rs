//! Who a certificate is for: one URI `only1://ROLE/NAME` among its alternative names, such as `only1://node/n1` or
//! `only1://operator/ann`. Other URIs, of SPIFFE for one, may stand beside it.

use super::{Role, is_name};

const SCHEME: &str = "only1://";

/// The role and the name.
///
/// # Errors
/// There is no such URI, or more than one, or it is of another form; for whoever shows the certificate.
pub fn of(uris: &[String]) -> Result<(Role, String), String> {
    let mut ours = uris.iter().filter_map(|uri| Some((uri, uri.strip_prefix(SCHEME)?)));
    let Some((uri, rest)) = ours.next() else {
        return Err("the certificate names nobody: among its alternative names it needs one URI such as \
                    only1://viewer/NAME or only1://node/NODE_ID"
            .to_owned());
    };
    if ours.next().is_some() {
        return Err("the certificate names several: it may have one URI only1://ROLE/NAME".to_owned());
    }
    let named = rest.split_once('/').and_then(|(role, name)| Some((Role::of_word(role)?, name)));
    match named {
        Some((role, name)) if is_name(name) => Ok((role, name.to_owned())),
        _ => Err(format!(
            "the certificate names `{}`, which is not only1://ROLE/NAME with one of the roles node, viewer, editor and \
             operator",
            uri.escape_default().take(100).collect::<String>()
        )),
    }
}
