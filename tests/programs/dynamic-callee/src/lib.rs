//! Exports interfaces that the host knows nothing of.

wit_bindgen::generate!({
    path: "../dynamic-wit",
    inline: "
        package test:dynamic-callee;
        world guest {
            export test:dynamic/values@1.0.0;
            export test:dynamic/counters@1.0.0;
            export test:dynamic/readers@1.0.0;
            export test:dynamic/streams@1.0.0;
        }
    ",
    world: "test:dynamic-callee/guest",
    generate_all,
});

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
};

use exports::test::dynamic::{
    counters::{self, CounterBorrow, GuestCounter},
    readers, streams,
    values::{self, Everything},
};
use wit_bindgen::{FutureReader, StreamReader, StreamResult};

struct Callee;

impl values::Guest for Callee {
    fn echo(value: Everything) -> Everything {
        value
    }

    async fn echo_later(value: Everything) -> Everything {
        wit_bindgen::yield_async().await;
        value
    }

    fn text(bytes: u32) -> String {
        "x".repeat(bytes as usize)
    }

    fn fail() {
        panic!("told to fail")
    }

    async fn hang() {
        // A task that waits for nothing at all would be refused.
        let (writer, mut reader) = wit_stream::new::<u8>();
        reader.next().await;
        drop(writer);
    }
}

static ALIVE: AtomicU32 = AtomicU32::new(0);

struct Counter(Cell<u32>);

impl Counter {
    fn make(start: u32) -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self(Cell::new(start))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GuestCounter for Counter {
    fn new(start: u32) -> Self {
        Self::make(start)
    }

    fn add(&self, n: u32) -> u32 {
        self.0.set(self.0.get() + n);
        self.0.get()
    }

    async fn add_later(&self, n: u32) -> u32 {
        for _ in 0..3 {
            wit_bindgen::yield_async().await;
        }
        self.add(n)
    }

    fn is_below(&self, other: CounterBorrow<'_>) -> bool {
        self.0.get() < other.get::<Self>().0.get()
    }

    fn merge(one: counters::Counter, other: counters::Counter) -> counters::Counter {
        let (one, other) = (one.into_inner::<Self>(), other.into_inner::<Self>());
        counters::Counter::new(Self::make(one.0.get() + other.0.get()))
    }

    fn fail(&self) {
        panic!("told to fail")
    }
}

impl counters::Guest for Callee {
    type Counter = Counter;

    fn alive() -> u32 {
        ALIVE.load(Ordering::Relaxed)
    }

    fn many(count: u32) -> Vec<Option<counters::Counter>> {
        (0..count).map(|n| (n % 2 == 0).then(|| counters::Counter::new(Counter::make(n)))).collect()
    }
}

impl readers::Guest for Callee {
    fn read(counter: CounterBorrow<'_>) -> u32 {
        counter.get::<Counter>().0.get()
    }

    fn take(counter: counters::Counter) -> u32 {
        counter.into_inner::<Counter>().0.get()
    }
}

impl streams::Guest for Callee {
    async fn numbers(count: u32) -> StreamReader<u32> {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            for n in 0..count {
                if writer.write_one(n).await.is_some() {
                    return;
                }
            }
        });
        reader
    }

    async fn upper(mut lines: StreamReader<String>) -> StreamReader<String> {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            while let Some(line) = lines.next().await {
                if writer.write_one(line.to_uppercase()).await.is_some() {
                    return;
                }
            }
        });
        reader
    }

    async fn pass(bytes: StreamReader<u8>) -> StreamReader<u8> {
        bytes
    }

    async fn total(mut bytes: StreamReader<u8>) -> u64 {
        let mut sum = 0;
        loop {
            let (result, read) = bytes.read(Vec::with_capacity(1000)).await;
            sum += read.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            if !matches!(result, StreamResult::Complete(_)) {
                return sum;
            }
        }
    }

    async fn later(n: u32) -> (FutureReader<u32>, Option<FutureReader<bool>>) {
        let (number, number_reader) = wit_future::new(|| 0);
        let (even, even_reader) = wit_future::new(|| false);
        wit_bindgen::spawn_local(async move {
            wit_bindgen::yield_async().await;
            let _gone = number.write(n).await;
            let _gone = even.write(n.is_multiple_of(2)).await;
        });
        (number_reader, Some(even_reader))
    }

    async fn broken() -> StreamReader<u32> {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            for n in 0..3 {
                writer.write_one(n).await;
            }
            panic!("told to fail")
        });
        reader
    }
}

export!(Callee);
