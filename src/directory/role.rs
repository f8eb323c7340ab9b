//! Who may do what on the administration API: roles, and what each route asks for at least.

/// What a member of an organisation is, there or in a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// All of it, and who else is a member.
    Owner,
    /// All but the organisation itself and its owners.
    Admin,
    /// Keys, and what is attached to them, of its projects.
    ProjectAdmin,
    /// Its own keys.
    Developer,
    /// Reads.
    Viewer,
    /// Reads, the audit log too.
    Auditor,
}

/// What a route asks for at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// No token at all.
    Anyone,
    /// The admin token: what is the whole gateway's.
    Operator,
    Owner,
    Admin,
    ProjectAdmin,
    Developer,
    Viewer,
    /// Auditors, and whoever may do as much as an admin.
    Auditor,
}

impl Role {
    pub const ALL: [(&'static str, Role); 6] = [
        ("owner", Role::Owner),
        ("admin", Role::Admin),
        ("project_admin", Role::ProjectAdmin),
        ("developer", Role::Developer),
        ("viewer", Role::Viewer),
        ("auditor", Role::Auditor),
    ];
    pub const NAMES: [&'static str; 6] = [
        "owner",
        "admin",
        "project_admin",
        "developer",
        "viewer",
        "auditor",
    ];

    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, role)| role)
    }

    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }

    /// Returns whether it is enough.
    pub fn may(self, least: Least) -> bool {
        match least {
            Least::Anyone => true,
            Least::Operator => false,
            Least::Owner => self == Role::Owner,
            Least::Admin => matches!(self, Role::Owner | Role::Admin),
            Least::ProjectAdmin => {
                matches!(self, Role::Owner | Role::Admin | Role::ProjectAdmin)
            }
            Least::Developer => matches!(
                self,
                Role::Owner | Role::Admin | Role::ProjectAdmin | Role::Developer
            ),
            Least::Viewer => true,
            Least::Auditor => matches!(self, Role::Owner | Role::Admin | Role::Auditor),
        }
    }
}

impl Least {
    pub fn name(self) -> &'static str {
        match self {
            Least::Anyone => "anyone",
            Least::Operator => "operator",
            Least::Owner => "owner",
            Least::Admin => "admin",
            Least::ProjectAdmin => "project_admin",
            Least::Developer => "developer",
            Least::Viewer => "viewer",
            Least::Auditor => "auditor",
        }
    }
}
