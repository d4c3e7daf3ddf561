//! SQL that is written as text and is prepared only once per connection.
//!
//! diesel re-prepares any statement that contains `sql` or `sql_query`, because it cannot know
//! whether the same text will recur. On PostgreSQL, preparing costs more than running most
//! statements.

use std::{borrow::Cow, marker::PhantomData};

use diesel::{
    AppearsOnTable, Expression, QueryResult, SelectableExpression,
    backend::Backend,
    expression::{AsExpression, TypedExpressionType, ValidGrouping, is_aggregate},
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    sql_types::SqlType,
};

/// Returns a query whose rows have the columns `ST`, or an expression of type `ST` for use in
/// another query. The number of distinct texts must be small, because each connection keeps all
/// statements that it has prepared.
///
/// ```text
/// prepared::<(Text, BigInt)>("SELECT login, wins FROM players WHERE id = ").bind::<Uuid, _>(id)
/// ```
pub fn prepared<ST>(text: impl Into<Cow<'static, str>>) -> Prepared<ST, Sql> {
    Prepared {
        parts: Sql(text.into()),
        sql_type: PhantomData,
    }
}

/// A query or expression made by [`prepared`].
#[derive(Clone, Debug)]
pub struct Prepared<ST, P> {
    parts: P,
    sql_type: PhantomData<fn() -> ST>,
}

/// A piece of SQL text.
#[derive(Clone, Debug)]
pub struct Sql(Cow<'static, str>);

/// Two pieces in sequence.
#[derive(Clone, Copy, Debug)]
pub struct Concat<A, B>(A, B);

impl<ST, P> Prepared<ST, P> {
    /// Appends a bound value.
    pub fn bind<T, V>(self, value: V) -> Prepared<ST, Concat<P, V::Expression>>
    where
        T: SqlType + TypedExpressionType,
        V: AsExpression<T>,
    {
        self.and(value.as_expression())
    }

    /// Appends a text.
    pub fn text(self, text: impl Into<Cow<'static, str>>) -> Prepared<ST, Concat<P, Sql>> {
        self.and(Sql(text.into()))
    }

    /// Appends another piece.
    pub fn then<T, B>(self, piece: Prepared<T, B>) -> Prepared<ST, Concat<P, B>> {
        self.and(piece.parts)
    }

    fn and<B>(self, next: B) -> Prepared<ST, Concat<P, B>> {
        Prepared {
            parts: Concat(self.parts, next),
            sql_type: PhantomData,
        }
    }
}

impl<DB: Backend> QueryFragment<DB> for Sql {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(&self.0);
        Ok(())
    }
}

impl<DB: Backend, A: QueryFragment<DB>, B: QueryFragment<DB>> QueryFragment<DB> for Concat<A, B> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        self.1.walk_ast(out)
    }
}

impl<DB: Backend, ST, P: QueryFragment<DB>> QueryFragment<DB> for Prepared<ST, P> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.parts.walk_ast(out)
    }
}

/// Has no static id, so that cached statements are found by their text.
impl<ST, P> QueryId for Prepared<ST, P> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST, P> Query for Prepared<ST, P> {
    type SqlType = ST;
}

impl<ST, P, Conn> RunQueryDsl<Conn> for Prepared<ST, P> {}

impl<ST: SqlType + TypedExpressionType, P> Expression for Prepared<ST, P> {
    type SqlType = ST;
}

impl<QS, ST, P> SelectableExpression<QS> for Prepared<ST, P> where Self: AppearsOnTable<QS> {}

impl<QS, ST, P> AppearsOnTable<QS> for Prepared<ST, P> where Self: Expression {}

impl<ST, P, GroupBy> ValidGrouping<GroupBy> for Prepared<ST, P> {
    type IsAggregate = is_aggregate::Never;
}

/// A diesel query that is prepared only once per connection, although diesel cannot know whether it
/// recurs. Needed for most updates, and for inserts that may update.
#[derive(Clone, Copy, Debug)]
pub struct Cached<Q>(Q);

/// Extension that turns a query into a [`Cached`] one.
pub trait CachedDsl: Sized {
    /// Returns the same query, prepared once per connection. The number of distinct texts must be
    /// small.
    fn cached(self) -> Cached<Self> {
        Cached(self)
    }
}

impl<Q> CachedDsl for Q {}

impl<DB: Backend, Q: QueryFragment<DB>> QueryFragment<DB> for Cached<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

/// Has no static id, so that cached statements are found by their text.
impl<Q> QueryId for Cached<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, Conn> RunQueryDsl<Conn> for Cached<Q> {}
