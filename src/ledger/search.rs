//! Which rows of the ledger are meant, and reading them page by page.

use super::entry::Id;
use super::metadata;
use super::row::Row;
use super::tables::{self, Sql};
use crate::state::database::Pool;

/// What rows can be asked for by, and the columns where it stands.
pub const FIELDS: [(&str, &str); 18] = [
    ("id", "id"),
    ("org", "org"),
    ("team", "team"),
    ("project", "project"),
    ("key", "api_key"),
    ("user", "end_user"),
    ("session", "session"),
    ("model_requested", "model_requested"),
    ("model", "model"),
    ("provider", "provider"),
    ("endpoint", "endpoint"),
    ("error", "error"),
    ("cache", "cache"),
    ("state", "state"),
    ("mode", "mode"),
    ("rule", "rule"),
    ("request_id", "request_id"),
    ("shadow_of", "shadow_of"),
];

/// Which rows are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// From here, in microseconds since 1970.
    pub start_us: Option<i64>,
    /// Until before here.
    pub end_us: Option<i64>,
    /// Columns of [`FIELDS`], and what stands there.
    pub fields: Vec<(&'static str, String)>,
    pub status: Option<i64>,
    pub tag: Option<String>,
    /// Fields of the metadata, and what stands there.
    pub metadata: Vec<(String, String)>,
    /// Only what belongs to one of these: paths as in `api::Asked`.
    pub within: Option<Vec<String>>,
}

/// One page of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub filter: Filter,
    /// The last row of the page before.
    pub after: Option<Id>,
    /// The oldest first; otherwise the newest.
    pub ascending: bool,
    pub limit: i64,
}

impl Filter {
    /// Appends the conditions, with `WHERE`.
    pub fn push(&self, sql: &mut Sql, sqlite: bool) {
        // Ids begin with the time to the millisecond: the key finds them, the column decides.
        sql.push(" WHERE id >= ");
        sql.text(Id::first_at(self.start_us.unwrap_or(0)).text());
        if let Some(start) = self.start_us {
            sql.push(" AND time_us >= ");
            sql.number(start);
        }
        if let Some(end) = self.end_us {
            sql.push(" AND id < ");
            sql.text(Id::first_at(end.saturating_add(1000)).text());
            sql.push(" AND time_us < ");
            sql.number(end);
        }
        self.push_fields(sql, sqlite);
    }

    /// Appends the conditions but those of time, behind others.
    pub fn push_fields(&self, sql: &mut Sql, sqlite: bool) {
        for (column, value) in &self.fields {
            sql.push(&format!(" AND {column} = "));
            sql.text(value.as_str());
            if *column == "end_user" && !value.is_empty() {
                // As the index says it.
                sql.push(" AND end_user <> ''");
            }
        }
        if let Some(status) = self.status {
            sql.push(" AND status = ");
            sql.number(status);
        }
        if let Some(tag) = &self.tag {
            // Within the array's text: in its quotes it can't be a part of another.
            let quoted = serde_json::Value::from(tag.as_str()).to_string();
            sql.push(" AND REPLACE(tags, ");
            sql.text(quoted);
            sql.push(", '') <> tags");
        }
        for (field, value) in &self.metadata {
            sql.push(&format!(" AND {} = ", metadata::column(field, sqlite)));
            sql.text(value.as_str());
        }
        if let Some(within) = &self.within {
            // Nothing is within nothing.
            sql.push(" AND (1 = 0");
            for path in within {
                let ids: Vec<&str> = path.split('/').filter(|id| !id.is_empty()).collect();
                let columns = ["org", "team", "project", "api_key"];
                if ids.is_empty() || ids.len() > columns.len() {
                    continue;
                }
                sql.push(" OR (1 = 1");
                for (column, id) in columns.iter().zip(ids) {
                    sql.push(&format!(" AND {column} = "));
                    sql.text(id);
                }
                sql.push(")");
            }
            sql.push(")");
        }
    }
}

/// Returns a page of rows.
pub async fn rows(readers: &Pool, query: &Query) -> Result<Vec<Row>, sqlx::Error> {
    let mut sql = Sql::new(&format!("SELECT {} FROM records", tables::columns()));
    let mut connection = readers.acquire().await?;
    let sqlite = connection.backend_name() == "SQLite";
    query.filter.push(&mut sql, sqlite);
    if let Some(after) = query.after {
        sql.push(if query.ascending {
            " AND id > "
        } else {
            " AND id < "
        });
        sql.text(after.text());
    }
    sql.push(if query.ascending {
        " ORDER BY id LIMIT "
    } else {
        " ORDER BY id DESC LIMIT "
    });
    sql.number(query.limit);
    let found = sql.fetch(&mut *connection).await?;
    found.iter().map(tables::read).collect()
}
