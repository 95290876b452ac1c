//! Why a handshake failed, in words that say what to do: rustls names the check, not the remedy.

use std::error::Error as StdError;
use std::io;

use mesh_runtime::ErrorChain;
use rustls::{CertificateError, Error as TlsError, OtherError};

/// A handshake that this side gave up, or that the other side refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    #[error(
        "its certificate is not signed by the CA that is trusted for it: the address is another cluster's, or the cluster \
         was rebuilt with a new CA"
    )]
    WrongCa,
    #[error("its certificate is not valid at this time: renew it, and check the clocks of both sides")]
    WrongTime(#[source] TlsError),
    #[error("its certificate is for other names: dial it by one of them, or issue it with this one")]
    WrongName(#[source] TlsError),
    /// A verifier of the project says why.
    #[error(transparent)]
    Pin(OtherErrorText),
    #[error("{hint}")]
    Refused { hint: &'static str, source: TlsError },
    #[error("the handshake failed")]
    Tls(#[source] TlsError),
    #[error("the connection broke during the handshake")]
    Broken(#[source] io::Error),
}

/// rustls' box around a verifier's own error, as an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.0)]
pub struct OtherErrorText(OtherError);

impl From<io::Error> for TlsFailure {
    fn from(error: io::Error) -> Self {
        match tls_error(&error).cloned() {
            None => Self::Broken(error),
            Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                Self::WrongCa
            }
            Some(TlsError::InvalidCertificate(CertificateError::Other(other))) => Self::Pin(OtherErrorText(other)),
            Some(
                source @ TlsError::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                ),
            ) => Self::WrongTime(source),
            Some(
                source @ TlsError::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ),
            ) => Self::WrongName(source),
            Some(source) => match refusal_hint(&error) {
                Some(hint) => Self::Refused { hint, source },
                None => Self::Tls(source),
            },
        }
    }
}

/// What to do when a server refused this side's certificate. With TLS 1.3 a client learns of it only after its
/// handshake, as the error of its first call: any error of tonic's may be asked. By its text, because HTTP/2 keeps no
/// more than the text of an I/O error.
pub fn refusal_hint(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let text = ErrorChain(error).to_string();
    let (_, alert) = text.split_once("received fatal alert: ")?;
    let alert = alert.split(|end: char| !end.is_alphanumeric()).next()?;
    Some(match alert {
        "CertificateRequired" => "the server wants a client certificate, and none was sent",
        "UnknownCA" => {
            "the server does not know the CA of this client's certificate: connect the clusters first, or again when one \
             of them was rebuilt"
        }
        "CertificateExpired" => {
            "the server says that this client's certificate is not valid at this time: renew it, and check the clocks of \
             both sides"
        }
        "AccessDenied" => {
            "the server knows the CA of this client's certificate, but does not let it vouch for the name in it: the \
             server's log says which name and why"
        }
        _ => return None,
    })
}

/// The TLS error inside, if there is one. An `io::Error` hides what it carries from `source()`.
fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}
