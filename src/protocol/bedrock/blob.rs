//! Signatures and encrypted reasoning, as Bedrock carries its own and as a client of its carries another's.
//!
//! On Bedrock's wire a bare blob is Bedrock's: that of Claude there is not taken by Anthropic's own API, nor the other
//! way round. Another maker's carries its name (`anthropic#…`), which the hub leaves off for Anthropic alone.

use std::borrow::Cow;

use crate::codec::base64;
use crate::protocol::chat::Str;
use crate::protocol::{Protocol, provenance};

/// Returns the blob found on the wire as the hub carries it.
pub(super) fn inward(blob: Str<'_>) -> Str<'_> {
    match maker(&blob) {
        Some((Protocol::Anthropic, bare)) => Cow::Owned(bare.to_owned()),
        Some(_) => blob,
        None => Cow::Owned(provenance::mark(Protocol::Bedrock, &blob).into_owned()),
    }
}

/// Returns the hub's blob as this wire carries it.
pub(super) fn outward(marked: &str) -> Cow<'_, str> {
    match provenance::maker(marked) {
        (Protocol::Bedrock, blob) => Cow::Borrowed(blob),
        (Protocol::Anthropic, blob) => Cow::Owned(format!("{}#{blob}", Protocol::Anthropic.name())),
        (_, _) => Cow::Borrowed(marked),
    }
}

/// The same for a blob of bytes, whose text on the wire is base64.
pub(super) fn inward_bytes(blob: Str<'_>) -> Str<'_> {
    let named = base64::decode(blob.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
    match named.as_deref().and_then(maker) {
        Some((Protocol::Anthropic, bare)) => Cow::Owned(bare.to_owned()),
        Some(_) => named.map_or(blob, Cow::Owned),
        None => Cow::Owned(provenance::mark(Protocol::Bedrock, &blob).into_owned()),
    }
}

pub(super) fn outward_bytes(marked: &str) -> Cow<'_, str> {
    let (maker, blob) = provenance::maker(marked);
    if maker == Protocol::Bedrock {
        return Cow::Borrowed(blob);
    }
    let mut out = Vec::new();
    base64::encode(outward(marked).as_bytes(), &mut out);
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// Returns who is named as the maker, if anyone is.
fn maker(blob: &str) -> Option<(Protocol, &str)> {
    let (name, bare) = blob.split_once('#')?;
    Some((Protocol::from_name(name)?, bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_of_every_maker_survive_the_way_through_a_client() {
        for maker in Protocol::ALL {
            let hub = provenance::mark(maker, "Ab+/=");
            let wire = outward(&hub).into_owned();
            assert_eq!(inward(wire.into()), hub, "{maker:?}");
            let wire = outward_bytes(&hub).into_owned();
            assert!(
                base64::decode(wire.as_bytes()).is_some(),
                "{maker:?}: {wire}"
            );
            assert_eq!(inward_bytes(wire.into()), hub, "{maker:?}");
        }
    }

    #[test]
    fn bedrocks_own_stand_bare_on_the_wire() {
        assert_eq!(inward("Sig=".into()), "bedrock#Sig=");
        assert_eq!(outward("bedrock#Sig="), "Sig=");
        assert_eq!(outward("Sig="), "anthropic#Sig=");
    }
}
