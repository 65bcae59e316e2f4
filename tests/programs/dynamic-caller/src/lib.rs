//! Calls interfaces that the host knows nothing of.

wit_bindgen::generate!({
    path: "../dynamic-wit",
    inline: "
        package test:dynamic-caller;
        world guest {
            import test:dynamic/values@1.0.0;
            import test:dynamic/counters@1.0.0;
            import test:dynamic/readers@1.0.0;
            import test:dynamic/streams@1.0.0;
            export test:dynamic/run@1.0.0;
        }
    ",
    world: "test:dynamic-caller/guest",
    generate_all,
});

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
};

use exports::test::dynamic::run::Guest;
use test::dynamic::{
    counters::{self, Counter},
    readers, streams,
    values::{self, Everything},
};
use wit_bindgen::StreamResult;

struct Caller;

thread_local! {
    static KEPT: RefCell<Option<Counter>> = const { RefCell::new(None) };
}

impl Guest for Caller {
    fn echo(value: Everything) -> Everything {
        values::echo(&value)
    }

    async fn echo_later(value: Everything) -> Everything {
        values::echo_later(value).await
    }

    fn text(bytes: u32) -> u32 {
        values::text(bytes).len() as u32
    }

    fn fail() {
        values::fail();
    }

    async fn give_up() {
        let mut hang = pin!(values::hang());
        poll_fn(|context| {
            assert!(hang.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    async fn hang() {
        values::hang().await;
    }

    fn lives() -> Vec<u32> {
        let mut alive = vec![counters::alive()];
        let one = Counter::new(1);
        alive.push(counters::alive());
        let many = counters::many(4);
        alive.push(counters::alive());
        drop(many);
        alive.push(counters::alive());
        let merged = Counter::merge(one, Counter::new(2));
        alive.push(counters::alive());
        drop(merged);
        alive.push(counters::alive());
        alive
    }

    fn count() -> Vec<u32> {
        let (one, other) = (Counter::new(1), Counter::new(10));
        let mut answers =
            vec![one.add(2), other.add(5), u32::from(one.is_below(&other)), u32::from(other.is_below(&one))];
        answers.push(Counter::merge(one, other).add(0));
        answers
    }

    async fn count_together() -> u32 {
        let counter = Counter::new(0);
        let mut calls =
            [Box::pin(counter.add_later(1)), Box::pin(counter.add_later(10)), Box::pin(counter.add_later(100))];
        let mut open = [true; 3];
        poll_fn(|context| {
            for (call, open) in calls.iter_mut().zip(&mut open) {
                *open = *open && call.as_mut().poll(context).is_pending();
            }
            if open.contains(&true) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        drop(calls);
        counter.add(0)
    }

    fn read() -> Vec<u32> {
        let counter = Counter::new(7);
        vec![readers::read(&counter), readers::read(&counter), readers::take(counter), counters::alive()]
    }

    fn fail_method() {
        let counter = Counter::new(1);
        counter.fail();
    }

    fn remember() -> u32 {
        KEPT.with_borrow_mut(|kept| kept.get_or_insert_with(|| Counter::new(0)).add(1))
    }

    async fn sum(count: u32) -> u64 {
        let mut numbers = streams::numbers(count).await;
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += u64::from(number);
        }
        sum
    }

    async fn upper(lines: Vec<String>) -> Vec<String> {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            writer.write_all(lines).await;
        });
        streams::upper(reader).await.collect().await
    }

    async fn total(count: u32) -> u64 {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            writer.write_all(vec![1; count as usize]).await;
        });
        streams::total(reader).await
    }

    async fn pass(count: u32) -> u64 {
        let (mut writer, reader) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            writer.write_all(vec![1; count as usize]).await;
        });
        let passed = streams::pass(reader).await.collect().await;
        passed.len() as u64
    }

    async fn later(n: u32) -> (u32, bool) {
        let (number, even) = streams::later(n).await;
        (number.await, even.unwrap().await)
    }

    async fn broken() -> u32 {
        let mut numbers = streams::broken().await;
        let mut count = 0;
        while numbers.next().await.is_some() {
            count += 1;
        }
        count
    }

    async fn abandon() -> u32 {
        let mut numbers = streams::numbers(1_000_000).await;
        let (result, read) = numbers.read(Vec::with_capacity(2)).await;
        assert!(matches!(result, StreamResult::Complete(_)));
        read.len() as u32
    }
}

export!(Caller);
