//! The table `feed_cursor`.

use access::view::{Epoch, FeedPosition};
use db::prelude::*;

use super::schema::feed_cursor;

/// Returns the position of the access feed up to which names are known. `None` at the beginning.
pub(crate) async fn feed_cursor_get(conn: &mut Conn) -> db::Result<Option<FeedPosition>> {
    let found: Option<(Epoch, i64)> = query!(conn, |c| feed_cursor::table
        .select((feed_cursor::epoch, feed_cursor::sequence))
        .first(c)
        .await
        .optional())?;
    Ok(found.map(|(epoch, sequence)| FeedPosition { epoch, sequence }))
}

/// Stores the position of the access feed up to which names are known. Within one epoch of the
/// feed, the position never goes back.
pub(crate) async fn feed_cursor_set(conn: &mut Conn, position: FeedPosition) -> db::Result<()> {
    use diesel::query_dsl::methods::FilterDsl as _;
    let FeedPosition { epoch, sequence } = position;
    query!(conn, |c| {
        diesel::insert_into(feed_cursor::table)
            .values((
                feed_cursor::id.eq(1),
                feed_cursor::epoch.eq(epoch),
                feed_cursor::sequence.eq(sequence),
            ))
            .on_conflict(feed_cursor::id)
            .do_update()
            .set((feed_cursor::epoch.eq(epoch), feed_cursor::sequence.eq(sequence)))
            .filter(feed_cursor::epoch.ne(epoch).or(feed_cursor::sequence.lt(sequence)))
            .execute(c)
            .await
    })
    .map(|_| ())
}
