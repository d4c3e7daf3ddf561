//! Caller of one RPC. The service and its baseline are measured with this same client.

use std::marker::PhantomData;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::load::Caller;

/// Caller of an RPC with these message types.
pub(crate) struct Rpc<Req, Res> {
    client: Grpc<Channel>,
    path: PathAndQuery,
    /// Access tokens, used in turn.
    tokens: Vec<MetadataValue<Ascii>>,
    calls: usize,
    request: Req,
    response: PhantomData<fn() -> Res>,
}

impl<Req, Res> Rpc<Req, Res>
where
    Req: Message + Clone + Default + 'static,
    Res: Message + Default + 'static,
{
    /// Creates a caller. `path` has the form `/auth.v1.AccountService/GetMe`. Each call carries the
    /// next of these tokens.
    pub(crate) fn new(channel: Channel, path: &'static str, tokens: &[String], request: Req) -> Self {
        let tokens = tokens
            .iter()
            .map(|token| format!("Bearer {token}").parse().expect("a token is ASCII"));
        Self {
            tokens: tokens.collect(),
            calls: 0,
            client: Grpc::new(channel),
            path: PathAndQuery::from_static(path),
            request,
            response: PhantomData,
        }
    }

    /// Makes one call and returns its response.
    pub(crate) async fn answer(&mut self) -> Result<Res, Status> {
        let mut request = Request::new(self.request.clone());
        if !self.tokens.is_empty() {
            let token = self.tokens[self.calls % self.tokens.len()].clone();
            request.metadata_mut().insert("authorization", token);
        }
        self.calls += 1;
        let ready = self.client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Req, Res>::default();
        let answer = self.client.unary(request, self.path.clone(), codec).await?;
        Ok(answer.into_inner())
    }
}

impl<Req, Res> Caller for Rpc<Req, Res>
where
    Req: Message + Clone + Default + 'static,
    Res: Message + Default + 'static,
{
    async fn call(&mut self) -> Result<(), Status> {
        self.answer().await.map(drop)
    }
}
