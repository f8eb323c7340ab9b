//! The one table of the administration API: what is served, who may ask for it, and what its document says. What is not
//! here is not there.

use std::sync::LazyLock;

use crate::directory::role::Least;
use crate::directory::schema::Kind;

/// A method at a path.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    /// `{id}` stands for one segment.
    pub path: String,
    /// What a caller must be somewhere; the object asked for decides whether that is enough.
    pub least: Least,
    pub does: Does,
    pub says: String,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    Status,
    Models,
    Reload,
    Explain,
    Cooldowns,
    ClearCooldowns,
    ClearCache,
    Document,
    Me,
    List(Kind),
    Create(Kind),
    Read(Kind),
    Change(Kind),
    Delete(Kind),
    RotateKey,
    MakeToken,
    DropToken,
    SignIn,
    Callback,
    SignOut,
    EndSessions,
    /// What `ledger::api` answers.
    Ledger,
}

impl Does {
    /// Returns what is changed, and how, as the audit log says it; `None` where nothing is, or it is noted elsewhere.
    pub fn action(self) -> Option<(&'static str, &'static str)> {
        match self {
            Does::Create(kind) => Some((kind.name(), "create")),
            Does::Change(kind) => Some((kind.name(), "change")),
            Does::Delete(kind) => Some((kind.name(), "delete")),
            Does::RotateKey => Some((Kind::Key.name(), "rotate")),
            Does::MakeToken => Some((Kind::User.name(), "make_token")),
            Does::DropToken => Some((Kind::User.name(), "drop_token")),
            Does::EndSessions => Some(("session", "end")),
            Does::Status
            | Does::Models
            | Does::Reload
            | Does::Explain
            | Does::Cooldowns
            | Does::ClearCooldowns
            | Does::ClearCache
            | Does::Document
            | Does::Me
            | Does::List(_)
            | Does::Read(_)
            | Does::SignIn
            | Does::Callback
            | Does::SignOut
            | Does::Ledger => None,
        }
    }
}

/// Every route.
pub static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let route = |method, path: &str, least, does, says: &str| Route {
        method,
        path: format!("/admin/v1/{path}"),
        least,
        does,
        says: says.to_owned(),
    };
    let operator = Least::Operator;
    let mut routes = vec![
        route("GET", "status", operator, Does::Status, "What runs"),
        route(
            "GET",
            "models",
            Least::Viewer,
            Does::Models,
            "What can be asked for: models of the configuration with their targets, and those of each provider",
        ),
        route(
            "POST",
            "reload",
            operator,
            Does::Reload,
            "Reads the configuration again",
        ),
        route(
            "POST",
            "explain",
            operator,
            Does::Explain,
            "Says where a request would go, and why",
        ),
        route(
            "GET",
            "cooldowns",
            operator,
            Does::Cooldowns,
            "Who is not asked for a while",
        ),
        route(
            "DELETE",
            "cooldowns",
            operator,
            Does::ClearCooldowns,
            "Asks everybody again",
        ),
        route(
            "DELETE",
            "cache",
            operator,
            Does::ClearCache,
            "Throws all kept answers away",
        ),
        route(
            "GET",
            "openapi.json",
            Least::Viewer,
            Does::Document,
            "This document",
        ),
        route(
            "GET",
            "me",
            Least::Viewer,
            Does::Me,
            "Whose token this is, and what it may do",
        ),
    ];
    for kind in Kind::ALL {
        let (name, all) = (kind.name(), kind.plural());
        let [create, read, change, delete] = leasts(kind);
        let one = format!("{all}/{{id}}");
        let listed = format!("Lists what there is of {all}, in the order of their creation");
        let deleted = format!("Deletes a {name}, with what is attached to it");
        routes.extend([
            route("GET", all, read, Does::List(kind), &listed),
            route(
                "POST",
                all,
                create,
                Does::Create(kind),
                &format!("Makes a {name}"),
            ),
            route(
                "GET",
                &one,
                read,
                Does::Read(kind),
                &format!("Shows a {name}"),
            ),
            route(
                "PATCH",
                &one,
                change,
                Does::Change(kind),
                &format!("Changes a {name}: what is null is taken away"),
            ),
            route("DELETE", &one, delete, Does::Delete(kind), &deleted),
        ]);
    }
    routes.extend([
        route(
            "POST",
            "keys/{id}/rotate",
            Least::Developer,
            Does::RotateKey,
            "Makes a new secret; the one before holds for a while",
        ),
        route(
            "POST",
            "users/{id}/token",
            Least::Viewer,
            Does::MakeToken,
            "Makes the token by which they use this API, in place of one before",
        ),
        route(
            "DELETE",
            "users/{id}/token",
            Least::Viewer,
            Does::DropToken,
            "Takes their token away",
        ),
    ]);
    let anyone = Least::Anyone;
    routes.extend([
        route(
            "GET",
            "signin",
            anyone,
            Does::SignIn,
            "Sends a browser to the identity provider",
        ),
        route(
            "GET",
            "signin/callback",
            anyone,
            Does::Callback,
            "Where the provider sends it back: begins a session",
        ),
        route(
            "POST",
            "signout",
            anyone,
            Does::SignOut,
            "Ends the session that is shown",
        ),
        route(
            "DELETE",
            "sessions",
            operator,
            Does::EndSessions,
            "Ends the sessions of whoever the identity provider names so, or all of them",
        ),
    ]);
    let viewer = Least::Viewer;
    let told = Does::Ledger;
    let exported = "Rows of the ledger, the oldest first, as JSON lines or CSV; `x-strait-next` tells the next page's `after`";
    routes.extend([
        route("GET", "usage", viewer, told, "Sums of the ledger over time"),
        route(
            "GET",
            "records",
            viewer,
            told,
            "Rows of the ledger, the newest first",
        ),
        route("GET", "records/export", viewer, told, exported),
        route(
            "GET",
            "records/{id}/body",
            Least::Auditor,
            told,
            "What was said in an exchange, where that is kept; the reading is in the audit log",
        ),
        route(
            "DELETE",
            "records",
            operator,
            told,
            "Deletes what is kept of an end user",
        ),
        route(
            "GET",
            "audit",
            Least::Auditor,
            told,
            "Administrative actions, the last first; people see those on what they may audit",
        ),
    ]);
    routes
});

/// Returns what making, reading, changing and deleting ask for at least.
fn leasts(kind: Kind) -> [Least; 4] {
    use Least::{Admin, Developer, Operator, Owner, ProjectAdmin, Viewer};
    match kind {
        Kind::Organisation => [Operator, Viewer, Owner, Operator],
        Kind::Team | Kind::Project | Kind::User => [Admin, Viewer, Admin, Admin],
        Kind::Key => [Developer, Viewer, Developer, Developer],
        // On anything wider than a key it is for an admin.
        Kind::Policy | Kind::Limit | Kind::Budget => {
            [ProjectAdmin, Viewer, ProjectAdmin, ProjectAdmin]
        }
        Kind::Credential => [Operator; 4],
    }
}

/// What a path and a method lead to.
pub enum Led<'p> {
    To(&'static Route, Option<&'p str>),
    /// There is something, for other methods: these.
    Elsewhere(String),
    Nowhere,
}

/// Finds the route of a request.
pub fn find<'p>(method: &str, path: &'p str) -> Led<'p> {
    // What can be read is there for HEAD too.
    let method = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES.iter() {
        let Some(id) = matched(&route.path, path) else {
            continue;
        };
        if route.method == method {
            return Led::To(route, id);
        }
        allowed.push(route.method);
        if route.method == "GET" {
            allowed.push("HEAD");
        }
    }
    match allowed.is_empty() {
        true => Led::Nowhere,
        false => Led::Elsewhere(allowed.join(", ")),
    }
}

/// Returns whether a path is one of the pattern's, and what stands for `{id}`.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_path_and_no_two_are_the_same() {
        let mut seen = std::collections::HashSet::new();
        for route in ROUTES.iter() {
            assert!(
                seen.insert((route.method, &route.path)),
                "{} {}",
                route.method,
                route.path
            );
            let path = route.path.replace("{id}", "x_1");
            match find(route.method, &path) {
                Led::To(found, id) => {
                    assert_eq!(found.does, route.does, "{path}");
                    assert_eq!(id.is_some(), route.path.contains("{id}"), "{path}");
                }
                Led::Elsewhere(_) | Led::Nowhere => panic!("{} {path} is not found", route.method),
            }
        }
    }

    #[test]
    fn tricks_with_paths_lead_nowhere() {
        for path in [
            "/admin/v1/",
            "/admin/v1/keys/",
            "/admin/v1//keys",
            "/admin/v1/keys/a/b",
            "/admin/v1/keys/a/rotate/",
            "/admin/v1/keys//rotate",
            "/admin/v1/keys/../teams/x/y",
            "/admin/v1/KEYS",
            "/admin/v1/keys;a=b",
            "/admin/v2/keys",
        ] {
            assert!(matches!(find("GET", path), Led::Nowhere), "{path}");
        }
        let Led::Elsewhere(allowed) = find("PUT", "/admin/v1/keys") else {
            panic!("PUT is not taken");
        };
        assert_eq!(allowed, "GET, HEAD, POST");
    }
}
