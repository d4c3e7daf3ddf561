//! SQL that is written as text and prepared once on each connection.
//!
//! diesel prepares a statement anew each time that has anything in it of its own `sql` or
//! `sql_query`, since it cannot know whether the text is ever the same again. On PostgreSQL that
//! costs more than most statements do.

use std::{borrow::Cow, marker::PhantomData};

use diesel::{
    AppearsOnTable, Expression, QueryResult, SelectableExpression,
    backend::Backend,
    expression::{AsExpression, TypedExpressionType, ValidGrouping, is_aggregate},
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    sql_types::SqlType,
};

/// A query whose rows have the columns `ST`, or an expression of the type `ST` in another query.
/// There must be few texts of it: each connection keeps what it has prepared.
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

/// See [`prepared`].
#[derive(Clone, Debug)]
pub struct Prepared<ST, P> {
    parts: P,
    sql_type: PhantomData<fn() -> ST>,
}

/// A piece of text.
#[derive(Clone, Debug)]
pub struct Sql(Cow<'static, str>);

/// One piece after the other.
#[derive(Clone, Copy, Debug)]
pub struct Concat<A, B>(A, B);

impl<ST, P> Prepared<ST, P> {
    /// Goes on with this value.
    pub fn bind<T, V>(self, value: V) -> Prepared<ST, Concat<P, V::Expression>>
    where
        T: SqlType + TypedExpressionType,
        V: AsExpression<T>,
    {
        self.and(value.as_expression())
    }

    /// Goes on with this text.
    pub fn text(self, text: impl Into<Cow<'static, str>>) -> Prepared<ST, Concat<P, Sql>> {
        self.and(Sql(text.into()))
    }

    /// Goes on with another piece.
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

/// What is prepared is found again by its text.
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

/// A query of diesel's that is prepared once, though diesel cannot know whether it is ever the same
/// again: most updates, and inserts that may update.
#[derive(Clone, Copy, Debug)]
pub struct Cached<Q>(Q);

/// Makes a query a [`Cached`] one.
pub trait CachedDsl: Sized {
    /// The same query, prepared once on each connection. There must be few texts of it.
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

/// What is prepared is found again by its text.
impl<Q> QueryId for Cached<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, Conn> RunQueryDsl<Conn> for Cached<Q> {}
