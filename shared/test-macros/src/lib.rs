//! Attribute that runs a test on both databases.

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Error, Expr, Ident, ItemFn, Token,
    parse::{Parse, ParseStream},
    parse_macro_input, parse_quote,
};

/// Arguments of the attribute: `migrations = PATH`, or none.
struct Arguments {
    migrations: Expr,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.is_empty() {
            return Ok(Self {
                migrations: parse_quote!(crate::MIGRATIONS),
            });
        }
        let name: Ident = input.parse()?;
        if name != "migrations" {
            return Err(Error::new(name.span(), "the only argument is `migrations = PATH`"));
        }
        input.parse::<Token![=]>()?;
        Ok(Self {
            migrations: input.parse()?,
        })
    }
}

/// Generates the tests `name::sqlite` and `name::postgres` from an `async fn name(database:
/// TestDatabase)`. Each has a database of its own, and runs on a multi-thread runtime.
///
/// The databases have the migrations of the static `crate::MIGRATIONS`, or those given by
/// `migrations = PATH`.
///
/// ```text
/// #[on_both_backends]
/// async fn a_login_is_unique(database: TestDatabase) { ... }
/// ```
#[proc_macro_attribute]
pub fn on_both_backends(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Arguments { migrations } = parse_macro_input!(arguments);
    let test: ItemFn = parse_macro_input!(item);
    if test.sig.asyncness.is_none() || test.sig.inputs.len() != 1 {
        let message = "a test on both databases is an `async fn` that takes a `TestDatabase`";
        return Error::new_spanned(&test.sig, message).into_compile_error().into();
    }
    let name = &test.sig.ident;
    // With the span of the function, an editor shows the tests at the function.
    let tests = [("sqlite", "Sqlite"), ("postgres", "Postgres")].map(|(test, backend)| {
        let [test, backend] = [test, backend].map(|text| Ident::new(text, name.span()));
        quote_spanned! {name.span()=>
            #[test]
            fn #test() {
                ::db::testing::run_test(::db::Backend::#backend, &#migrations, super::#name);
            }
        }
    });
    quote! {
        #test

        mod #name {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use super::*;

            #(#tests)*
        }
    }
    .into()
}
