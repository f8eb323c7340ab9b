//! JSON Web Tokens, <https://www.rfc-editor.org/rfc/rfc7519>, that others have signed: read, and held against the keys
//! of an issuer that the configuration trusts.
//!
//! Of what a token says of itself nothing is believed before its signature holds, but whose it claims to be and by which
//! key it was signed. The algorithms are a closed set of signatures over key pairs: `none` and shared secrets aren't in it.

mod claims;
mod issuer;
mod keys;
mod token;

pub use claims::{Claims, Wanted, find, texts};
pub use issuer::{Address, Endpoints, Issuer, Issuers, Status, is_safe};
pub use keys::{Algorithm, Keys};
pub use token::{Fault, LONGEST, Times, Token, check_audience, is_like};
