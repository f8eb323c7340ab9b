//! Where a model's requests are processed, as far as it is known, and whether that lies within a wider region.

use super::{Platform, Provider};

/// Returns where `provider` processes what `model` is sent; `None` where nobody knows.
///
/// What the configuration says goes first, then the platform's own region, then an address that names one. A profile
/// of Bedrock's says in its id how far a request may travel, and that goes before everything.
pub fn of<'p>(provider: &'p Provider, model: &str) -> Option<&'p str> {
    let bedrock = matches!(provider.platform, Platform::Bedrock { .. });
    if bedrock && model.starts_with("arn:") {
        // A profile of one's own may lead anywhere.
        return provider.data.region.as_deref();
    }
    if let Some(profile) = profile(model).filter(|_| bedrock) {
        return Some(profile);
    }
    if let Some(region) = &provider.data.region {
        return Some(region);
    }
    match &provider.platform {
        Platform::Bedrock { region } => return Some(region),
        Platform::Vertex { location, .. } => return Some(location),
        // A deployment may be served from anywhere, whatever the region of its resource.
        Platform::Azure { .. } => return None,
        Platform::Plain => {}
    }
    let mut hosts = provider.endpoints.iter().map(|one| of_host(&one.host));
    let first = hosts.next()??;
    hosts.all(|other| other == Some(first)).then_some(first)
}

/// Returns whether what is processed in `region` stays within `wanted`: the same, or a part of it.
pub fn within(region: &str, wanted: &str) -> bool {
    region == wanted || area(region) == Some(wanted)
}

/// The prefixes of Bedrock's inference profiles.
const PROFILES: [&str; 8] = ["us", "eu", "apac", "jp", "au", "ca", "us-gov", "global"];

fn profile(model: &str) -> Option<&'static str> {
    let (prefix, _) = model.split_once('.')?;
    PROFILES.into_iter().find(|known| *known == prefix)
}

/// Hosts that promise where they process.
fn of_host(host: &str) -> Option<&'static str> {
    match host {
        "eu.api.openai.com" => Some("eu"),
        "us.api.openai.com" => Some("us"),
        _ => None,
    }
}

/// Members of the European Union: names of regions may begin with one (`fr-par`).
const EUROPEAN_UNION: [&str; 27] = [
    "at", "be", "bg", "cy", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hr", "hu", "ie", "it",
    "lt", "lu", "lv", "mt", "nl", "pl", "pt", "ro", "se", "si", "sk",
];

/// Regions whose names don't begin with what they lie in, or with something else.
const BY_NAME: [(&str, &str); 43] = [
    // London and Zurich are called European, and are not of the Union.
    ("eu-west-2", "uk"),
    ("eu-central-2", "ch"),
    ("europe-west2", "uk"),
    ("europe-west6", "ch"),
    ("apac", "ap"),
    ("jp", "ap"),
    ("au", "ap"),
    // Azure's.
    ("austriaeast", "eu"),
    ("belgiumcentral", "eu"),
    ("denmarkeast", "eu"),
    ("francecentral", "eu"),
    ("francesouth", "eu"),
    ("germanynorth", "eu"),
    ("germanywestcentral", "eu"),
    ("italynorth", "eu"),
    ("northeurope", "eu"),
    ("polandcentral", "eu"),
    ("spaincentral", "eu"),
    ("swedencentral", "eu"),
    ("swedensouth", "eu"),
    ("westeurope", "eu"),
    ("norwayeast", "no"),
    ("norwaywest", "no"),
    ("switzerlandnorth", "ch"),
    ("switzerlandwest", "ch"),
    ("uksouth", "uk"),
    ("ukwest", "uk"),
    ("centralus", "us"),
    ("eastus", "us"),
    ("eastus2", "us"),
    ("northcentralus", "us"),
    ("southcentralus", "us"),
    ("westcentralus", "us"),
    ("westus", "us"),
    ("westus2", "us"),
    ("westus3", "us"),
    ("canadacentral", "ca"),
    ("canadaeast", "ca"),
    ("australiaeast", "ap"),
    ("eastasia", "ap"),
    ("japaneast", "ap"),
    ("koreacentral", "ap"),
    ("southeastasia", "ap"),
];

fn area(region: &str) -> Option<&'static str> {
    let named = BY_NAME.iter().find(|(name, _)| *name == region);
    if let Some((_, area)) = named {
        return Some(area);
    }
    // Google's.
    for (prefix, area) in [
        ("europe-", "eu"),
        ("northamerica-northeast", "ca"),
        ("northamerica-south", "mx"),
        ("southamerica-", "sa"),
        ("asia-", "ap"),
        ("australia-", "ap"),
    ] {
        if region.starts_with(prefix) {
            return Some(area);
        }
    }
    let first = region.split('-').next().unwrap_or_default();
    if EUROPEAN_UNION.contains(&first) {
        return Some("eu");
    }
    let known = [
        "eu", "us", "uk", "ca", "ch", "ap", "sa", "me", "af", "il", "mx",
    ];
    known.into_iter().find(|area| *area == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_european_is_not_always_of_the_union() {
        for region in [
            "eu",
            "eu-west-1",
            "eu-central-1",
            "europe-west4",
            "europe-north1",
            "de",
            "fr-par",
            "westeurope",
            "swedencentral",
        ] {
            assert!(within(region, "eu"), "{region}");
        }
        for region in [
            "eu-west-2",
            "eu-central-2",
            "europe-west2",
            "europe-west6",
            "uksouth",
            "us-east-1",
            "us",
            "global",
            "norwayeast",
            "switzerlandnorth",
            "europe",
            "",
            "eastus",
        ] {
            assert!(!within(region, "eu"), "{region}");
        }
        assert!(within("eu-west-2", "uk") && within("europe-west6", "ch"));
        assert!(
            within("us-gov-west-1", "us") && within("us-central1", "us") && within("eastus2", "us")
        );
        assert!(within("northamerica-northeast1", "ca") && !within("northamerica-south1", "ca"));
    }

    #[test]
    fn a_wider_region_is_not_within_a_narrower_one() {
        assert!(!within("eu", "eu-central-1"));
        assert!(within("eu-central-1", "eu-central-1"));
        assert!(!within("global", "us"));
        assert!(within("global", "global"));
    }
}
