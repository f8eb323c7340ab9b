//! What a key may ask for, and from where: the rules of one level, be it an organisation, a team, a project, a user or
//! the key itself. Each level narrows what the others leave.

use std::net::IpAddr;

use crate::glob::Glob;

/// The rules of one level. Of one kind an empty list allows everything; what is denied is denied, whatever is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    pub models: Lists<Glob>,
    /// Names of endpoints, as records have them.
    pub endpoints: Lists<Box<str>>,
    pub addresses: Lists<Net>,
}

/// What is allowed, and what is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists<T> {
    pub allow: Vec<T>,
    pub deny: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

impl<T> Lists<T> {
    /// Returns whether what `is` tells of is let through.
    fn let_through(&self, is: impl Fn(&T) -> bool) -> bool {
        !self.deny.iter().any(&is) && (self.allow.is_empty() || self.allow.iter().any(&is))
    }

    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

impl Gate {
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.endpoints.is_empty() && self.addresses.is_empty()
    }

    /// Returns whether a model of these names may be used.
    pub fn allows_model(&self, names: &[&str]) -> bool {
        self.models
            .let_through(|glob| names.iter().any(|name| glob.matches(name)))
    }

    pub fn allows_endpoint(&self, name: &str) -> bool {
        self.endpoints.let_through(|known| **known == *name)
    }

    /// Returns whether a client at `address` may ask. One whose address isn't known may where nothing is said of any.
    pub fn allows_address(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.addresses.let_through(|net| net.holds(address)),
            None => self.addresses.is_empty(),
        }
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (bits <= most).then_some(Self { address, bits })
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        // A socket that takes both families shows an IPv4 client as an IPv6 one.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::/0", "::1", "1.1.1.1"),
            ("192.168.0.0/16", "::ffff:192.168.3.4", "::ffff:192.169.3.4"),
        ] {
            let read = Net::read(net).expect(net);
            assert!(
                read.holds(inside.parse().expect("an address")),
                "{net} {inside}"
            );
            assert!(
                !read.holds(outside.parse().expect("an address")),
                "{net} {outside}"
            );
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "a/8",
        ] {
            assert_eq!(Net::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_whatever_is_allowed() {
        let gate = Gate {
            models: Lists {
                allow: vec![Glob::new("gpt-*"), Glob::new("fast")],
                deny: vec![Glob::new("*-preview")],
            },
            ..Gate::default()
        };
        assert!(gate.allows_model(&["gpt-5"]) && gate.allows_model(&["fast"]));
        assert!(
            gate.allows_model(&["x", "fast"]),
            "one of its names is enough"
        );
        assert!(!gate.allows_model(&["gpt-5-preview"]) && !gate.allows_model(&["claude"]));
        assert!(
            !gate.allows_model(&["fast", "x-preview"]),
            "one of its names is denied"
        );
        assert!(gate.allows_endpoint("chat") && gate.allows_address(None));
    }
}
