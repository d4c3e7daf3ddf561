//! Statements written as text that are prepared once on each connection.
//!
//! diesel prepares what is written with `sql` or `sql_query` anew each time, since it cannot know whether the text is ever the same
//! again. On PostgreSQL that costs more than most statements do.

use std::marker::PhantomData;

use diesel::{
    QueryResult,
    backend::Backend,
    expression::{AsExpression, TypedExpressionType},
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    sql_types::SqlType,
};

/// A query whose rows have the columns `ST`. There must be few texts of it: each connection keeps what it has prepared.
///
/// ```text
/// prepared::<(Text, BigInt)>("SELECT login, wins FROM players WHERE id = ").bind::<Uuid, _>(id)
/// ```
pub const fn prepared<ST>(text: &'static str) -> Prepared<ST, Words> {
    Prepared {
        parts: Words(text),
        columns: PhantomData,
    }
}

/// See [`prepared`].
#[derive(Clone, Copy, Debug)]
pub struct Prepared<ST, P> {
    parts: P,
    columns: PhantomData<fn() -> ST>,
}

/// A piece of a statement's text.
#[derive(Clone, Copy, Debug)]
pub struct Words(&'static str);

/// One piece after the other.
#[derive(Clone, Copy, Debug)]
pub struct Then<A, B>(A, B);

impl<ST, P> Prepared<ST, P> {
    /// Goes on with this value.
    pub fn bind<T, V>(self, value: V) -> Prepared<ST, Then<P, V::Expression>>
    where
        T: SqlType + TypedExpressionType,
        V: AsExpression<T>,
    {
        self.then(value.as_expression())
    }

    /// Goes on with this text.
    pub fn text(self, text: &'static str) -> Prepared<ST, Then<P, Words>> {
        self.then(Words(text))
    }

    fn then<B>(self, next: B) -> Prepared<ST, Then<P, B>> {
        Prepared {
            parts: Then(self.parts, next),
            columns: PhantomData,
        }
    }
}

impl<DB: Backend> QueryFragment<DB> for Words {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(self.0);
        Ok(())
    }
}

impl<DB: Backend, A: QueryFragment<DB>, B: QueryFragment<DB>> QueryFragment<DB> for Then<A, B> {
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
