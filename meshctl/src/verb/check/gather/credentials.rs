//! When the credentials of a kubeconfig end. The token's own words are believed for that: nothing is decided by them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;

/// `None` where it is not said: an opaque token, a credential plugin.
pub(super) fn end(user: &AuthInfo) -> Option<(&'static str, Timestamp)> {
    if let Some(token) = &user.token {
        return Some(("token", of_token(token.expose_secret())?));
    }
    if let Some(file) = &user.token_file {
        return Some(("token", of_token(std::fs::read_to_string(file).ok()?.trim())?));
    }
    let pem = match (&user.client_certificate_data, &user.client_certificate) {
        (Some(data), _) => STANDARD.decode(data).ok()?,
        (None, Some(file)) => std::fs::read(file).ok()?,
        (None, None) => return None,
    };
    Some(("client certificate", of_certificate(&pem)?))
}

/// `exp` of a JWT.
fn of_token(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims["exp"].as_i64()?).ok()
}

fn of_certificate(pem: &[u8]) -> Option<Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_a_certificate_say_when_they_end_and_an_opaque_token_does_not() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000,"iss":"x"}"#);
        let token = format!("e30.{claims}.c2ln");
        assert_eq!(of_token(&token), Timestamp::from_second(1_700_000_000).ok());
        assert_eq!(of_token("opaque"), None);
        let user = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        assert_eq!(end(&user).unwrap().0, "token");
        let ca = certs::RootCa::generate(&mesh_types::ClusterName::new("a").unwrap()).unwrap();
        assert!(of_certificate(ca.certificate_pem().as_bytes()).unwrap() > Timestamp::now());
        assert_eq!(of_certificate(b"no certificate"), None);
    }
}
