//! wasi:io: errors, polling and streams. What a stream leads to was decided when it was opened.

use wasmtime::{Result, component::Resource};
use wasmtime_wasi_io::{
    bindings::wasi::io::{error, poll, streams},
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream, Error, StreamError, StreamResult},
};

use crate::{guard::guarded, view::View};

impl error::Host for View<'_> {}

guarded! {
    ERROR: "wasi:io/error@0.2.12", error::HostError, via io;
    ["[method]error.to-debug-string"] sync fn to_debug_string(&mut self, error: Resource<Error>) -> Result<String> = baseline();
    also {
        fn drop(&mut self, error: Resource<Error>) -> Result<()> {
            error::HostError::drop(self.table, error)
        }
    }
}

guarded! {
    POLL: "wasi:io/poll@0.2.12", poll::Host, via io;
    ["poll"] async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> = baseline();
}

guarded! {
    POLLABLE: "wasi:io/poll@0.2.12", poll::HostPollable, via io;
    ["[method]pollable.ready"] async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> = baseline();
    ["[method]pollable.block"] async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> = baseline();
    also {
        fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
            poll::HostPollable::drop(self.table, pollable)
        }
    }
}

impl streams::Host for View<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.table, error)
    }
}

type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;

guarded! {
    INPUT: "wasi:io/streams@0.2.12", streams::HostInputStream, via io;
    ["[method]input-stream.read"] sync fn read(&mut self, stream: Input, length: u64) -> StreamResult<Vec<u8>> = baseline();
    ["[method]input-stream.blocking-read"] async fn blocking_read(&mut self, stream: Input, length: u64) -> StreamResult<Vec<u8>> = baseline();
    ["[method]input-stream.skip"] sync fn skip(&mut self, stream: Input, length: u64) -> StreamResult<u64> = baseline();
    ["[method]input-stream.blocking-skip"] async fn blocking_skip(&mut self, stream: Input, length: u64) -> StreamResult<u64> = baseline();
    ["[method]input-stream.subscribe"] sync fn subscribe(&mut self, stream: Input) -> Result<Resource<DynPollable>> = baseline();
    also {
        async fn drop(&mut self, stream: Input) -> Result<()> {
            streams::HostInputStream::drop(self.table, stream).await
        }
    }
}

guarded! {
    OUTPUT: "wasi:io/streams@0.2.12", streams::HostOutputStream, via io;
    ["[method]output-stream.check-write"] sync fn check_write(&mut self, stream: Output) -> StreamResult<u64> = baseline();
    ["[method]output-stream.write"] sync fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> = baseline();
    ["[method]output-stream.blocking-write-and-flush"] async fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> = baseline();
    ["[method]output-stream.flush"] sync fn flush(&mut self, stream: Output) -> StreamResult<()> = baseline();
    ["[method]output-stream.blocking-flush"] async fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> = baseline();
    ["[method]output-stream.subscribe"] sync fn subscribe(&mut self, stream: Output) -> Result<Resource<DynPollable>> = baseline();
    ["[method]output-stream.write-zeroes"] sync fn write_zeroes(&mut self, stream: Output, length: u64) -> StreamResult<()> = baseline();
    ["[method]output-stream.blocking-write-zeroes-and-flush"] async fn blocking_write_zeroes_and_flush(&mut self, stream: Output, length: u64) -> StreamResult<()> = baseline();
    ["[method]output-stream.splice"] sync fn splice(&mut self, stream: Output, source: Input, length: u64) -> StreamResult<u64> = baseline();
    ["[method]output-stream.blocking-splice"] async fn blocking_splice(&mut self, stream: Output, source: Input, length: u64) -> StreamResult<u64> = baseline();
    also {
        async fn drop(&mut self, stream: Output) -> Result<()> {
            streams::HostOutputStream::drop(self.table, stream).await
        }
    }
}
