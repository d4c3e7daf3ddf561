//! The catalogue of courses, on SQLite or PostgreSQL.

use db::{Migrations, prelude::*};
use diesel_migrations::embed_migrations;

/// The migrations of the catalogue.
pub(crate) static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};

diesel::table! {
    courses (course_id) {
        course_id -> Text,
        title -> Text,
        duration_minutes -> Integer,
    }
}

/// A course.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = courses)]
pub(crate) struct CourseRow {
    pub(crate) course_id: String,
    pub(crate) title: String,
    pub(crate) duration_minutes: i32,
}

/// Returns all courses, sorted by title.
pub(crate) async fn courses_list(conn: &mut Conn) -> db::Result<Vec<CourseRow>> {
    query!(conn, |c| courses::table
        .order(courses::title)
        .select(CourseRow::as_select())
        .load(c)
        .await)
}

/// Deletes the course with this id. Returns false if there is none.
pub(crate) async fn course_delete(conn: &mut Conn, id: &str) -> db::Result<bool> {
    let deleted = query!(conn, |c| diesel::delete(courses::table.find(id)).execute(c).await)?;
    Ok(deleted > 0)
}

/// Returns the course with this id.
pub(crate) async fn course_by_id(conn: &mut Conn, id: &str) -> db::Result<Option<CourseRow>> {
    query!(conn, |c| courses::table
        .find(id)
        .select(CourseRow::as_select())
        .first(c)
        .await
        .optional())
}
